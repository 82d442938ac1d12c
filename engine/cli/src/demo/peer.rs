//! The source's process, as the destination's sees it: started, listened to,
//! and never left behind.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cuts::Fuses;
use super::job::Job;
use super::summary::SourceSummary;
use super::talk::{hear, say, take_over};
use retpath_engine::driver::Control;
use retpath_engine::socket::{Address, FaultInjector};

/// How long a process that was asked to end may take.
const GRACE: Duration = Duration::from_secs(2);

/// Exit code of a source that was asked to end.
pub(super) const STOPPED: i32 = 3;

/// The source's process. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    socket: UnixStream,
    news: Arc<Mutex<News>>,
    ears: Option<JoinHandle<()>>,
}

/// What has been heard from it.
#[derive(Debug, Default)]
struct News {
    done: Option<SourceSummary>,
    failed: Option<String>,
    /// It ended without a last word.
    gone: bool,
}

impl Peer {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// This program cannot be run again, or the system lacks something.
    pub(super) fn start(job: &Job, address: &Address) -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        let child = Command::new(std::env::current_exe()?)
            .arg("demo-source")
            .args(job.arguments())
            .arg(format!("--address={address}"))
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(Stdio::null())
            // A terminal's Ctrl-C is for this process; the other one sees it
            // end, and cleans up.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            socket: near,
            news: Arc::default(),
            ears: None,
        })
    }

    /// Waits for the source's memory.
    ///
    /// # Errors
    ///
    /// The process has ended instead, or said why it cannot.
    pub(super) fn memory(&mut self) -> Result<File, String> {
        match take_over(&self.socket) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(self.last_words()),
            Err(error) => Err(format!("the source's process does not answer: {error}")),
        }
    }

    /// Why it ended instead of showing its memory.
    fn last_words(&mut self) -> String {
        let heard = self.socket.try_clone().ok().and_then(|socket| {
            let said = hear(&mut BufReader::new(socket)).ok()??;
            Some(said["failed"].as_str()?.to_owned())
        });
        match heard {
            Some(why) => failure(&why),
            None => gone(self.end()),
        }
    }

    /// Listens to it from now on; stops the loop behind `control` when it
    /// fails or ends early.
    ///
    /// # Errors
    ///
    /// The system lacks something.
    pub(super) fn listen(&mut self, fuses: Fuses, control: Control) -> io::Result<()> {
        let mut from = BufReader::new(self.socket.try_clone()?);
        let to = self.socket.try_clone()?;
        let news = Arc::clone(&self.news);
        let ears = move || {
            while let Ok(Some(said)) = hear(&mut from) {
                if answer(&said, &to, &fuses, &news).is_err() {
                    break;
                }
                if lock(&news).failed.is_some() {
                    control.stop();
                }
            }
            let mut news = lock(&news);
            if news.done.is_none() && news.failed.is_none() {
                news.gone = true;
                control.stop();
            }
        };
        let ears = thread::Builder::new().name("talk".into()).spawn(ears)?;
        self.ears = Some(ears);
        Ok(())
    }

    /// Waits for its report, once the migration is over.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn report(mut self) -> Result<SourceSummary, String> {
        self.hear_out();
        let (done, failed) = {
            let mut news = lock(&self.news);
            (news.done.take(), news.failed.take())
        };
        let ended = self.end();
        match (done, failed) {
            (Some(done), _) => Ok(done),
            (None, Some(why)) => Err(failure(&why)),
            (None, None) => Err(gone(ended)),
        }
    }

    /// Ends it after a failure here; says why it failed or died, if it did so
    /// by itself. `first`: its failure may have caused the one seen here, so its error
    /// message is awaited before it is stopped.
    pub(super) fn stop(mut self, first: bool) -> Option<String> {
        let deadline = Instant::now() + GRACE;
        let has_said = |news: &News| news.failed.is_some() || news.gone;
        while first && !has_said(&lock(&self.news)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let is_gone = lock(&self.news).gone;
        let asked = say(&self.socket, &json!({ "stop": null })).is_ok();
        let ended = self.end();
        self.hear_out();
        if let Some(why) = &lock(&self.news).failed {
            return Some(failure(why));
        }
        let obeyed = asked && ended.is_some_and(|status| status.code() == Some(STOPPED));
        (is_gone || !obeyed).then(|| gone(ended))
    }

    fn hear_out(&mut self) {
        if let Some(ears) = self.ears.take() {
            // A panic there has told its story.
            let _ = ears.join();
        }
    }

    /// Waits for its end; none if it had to be made.
    fn end(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + GRACE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Nothing happens to a process that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(said: &Value, to: &UnixStream, fuses: &Fuses, news: &Mutex<News>) -> io::Result<()> {
    if let Some(link) = said["arm"].as_u64() {
        let fuse = match (said["read"].as_u64(), said["written"].as_u64()) {
            (Some(read), Some(written)) => Some(FaultInjector::new(read, written)),
            _ => None,
        };
        fuses.arm(link, fuse);
        return say(to, &json!({ "armed": link }));
    }
    if said.get("blown").is_some() {
        return say(to, &json!({ "blown": fuses.has_fired() }));
    }
    let mut news = lock(news);
    if let Some(done) = said.get("done") {
        news.done = SourceSummary::from_json(done);
    }
    if let Some(why) = said["failed"].as_str() {
        news.failed = Some(why.into());
    }
    Ok(())
}

fn lock(news: &Mutex<News>) -> MutexGuard<'_, News> {
    // Whole after every line that changes it.
    news.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(why: &str) -> String {
    format!("the source has failed: {why}")
}

/// How it ended, for people.
fn gone(status: Option<ExitStatus>) -> String {
    let how = match status {
        None => "it did not answer, and was killed".into(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("it ended early, with exit code {code}"),
            (None, Some(9)) => "it was killed by signal 9, maybe for lack of memory".into(),
            (None, Some(signal)) => format!("it was killed by signal {signal}"),
            (None, None) => format!("it ended: {status}"),
        },
    };
    format!("the source's process is gone: {how}")
}

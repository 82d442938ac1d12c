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
use crate::channel::{Address, Fuse};
use crate::run::Control;

/// How long a process that was asked to end may take.
const GRACE: Duration = Duration::from_secs(2);

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
            Ok(None) => {
                let socket = self.socket.try_clone().map_err(|error| error.to_string())?;
                let said = hear(&mut BufReader::new(socket));
                let said = said.ok().flatten();
                Err(
                    match said.as_ref().and_then(|said| said["failed"].as_str()) {
                        Some(why) => why.into(),
                        None => self.end().unwrap_or_else(|| "it ended at once".into()),
                    },
                )
            }
            Err(error) => Err(format!("the source's process does not answer: {error}")),
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
            (None, Some(why)) => Err(format!("the source has failed: {why}")),
            (None, None) => {
                let how = ended.unwrap_or_else(|| "it ended without a report".into());
                Err(format!("the source's process is gone: {how}"))
            }
        }
    }

    /// Ends it after a failure here; says what is known about it that explains
    /// the failure.
    pub(super) fn stop(mut self) -> Option<String> {
        let gone = {
            let news = lock(&self.news);
            if let Some(why) = &news.failed {
                return Some(format!("the source has failed: {why}"));
            }
            news.gone
        };
        if !gone {
            let _ = say(&self.socket, &json!({ "stop": null }));
        }
        let ended = self.end();
        let died = ended.filter(|_| gone)?;
        Some(format!("the source's process is gone: {died}"))
    }

    fn hear_out(&mut self) {
        if let Some(ears) = self.ears.take() {
            // A panic there has told its story.
            let _ = ears.join();
        }
    }

    /// Waits for its end, or makes it; says how it ended, if not well.
    fn end(&mut self) -> Option<String> {
        let deadline = Instant::now() + GRACE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return describe(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        Some("it did not answer and was killed".into())
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
            (Some(read), Some(written)) => Some(Fuse::new(read, written)),
            _ => None,
        };
        fuses.arm(link, fuse);
        return say(to, &json!({ "armed": link }));
    }
    if said.get("blown").is_some() {
        return say(to, &json!({ "blown": fuses.is_blown() }));
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

/// How a process ended, if not well.
fn describe(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("it ended with exit code {code}")),
        (None, Some(signal)) => {
            let killed = match signal {
                9 => " (out of memory?)",
                _ => "",
            };
            Some(format!("it was killed by signal {signal}{killed}"))
        }
        (None, None) => Some(format!("it ended: {status}")),
    }
}

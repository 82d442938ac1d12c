//! The source's process: fills its memory, shows it to the destination, serves
//! it, and says how that went.
//!
//! Its standard input is the socket pair to the destination. When that ends,
//! the destination is gone, and a thread ends this process wherever it is: so
//! it never outlives the other. Nobody else can see it then, so what is left
//! of the demonstration on disk is its to remove.

use std::fs;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{self, ExitCode};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::TARGET;
use super::content::Content;
use super::cuts::{self, Cut, Side};
use super::held::{self, Held};
use super::job::Job;
use super::peer::STOPPED;
use super::summary::SourceSummary;
use super::talk::{hand_over, hear, say};
use crate::output;
use crate::signals::fail_writes_past_the_file_size_limit;
use retpath_engine::Channel;
use retpath_engine::driver::{
    Connector, Control, HandlerError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::socket::{Address, ChannelError, FaultInjector, Link};
use retpath_engine::source::{Config, PageSource, Preempt, Source};

/// Command line of the source's process.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    #[command(flatten)]
    job: Job,
    /// Where the destination listens.
    #[arg(long)]
    address: Address,
}

/// Serves the demonstration that the process on the other side of standard
/// input runs.
pub fn run_source(args: &SourceArgs) -> ExitCode {
    let socket = match standard_input() {
        Ok(socket) => socket,
        Err(error) => {
            output::note(format_args!(
                "retpath: `demo-source` is a part of `retpath demo`, which starts it; its standard \
                 input must be the socket that joins them: {error}"
            ));
            return ExitCode::from(2);
        }
    };
    // The limit holds for the memory, too, which is a file.
    let heard = fail_writes_past_the_file_size_limit();
    let answers = match heard.and_then(|()| listen(&socket, &args.address)) {
        Ok(answers) => answers,
        Err(error) => {
            output::note(format_args!("retpath demo: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (last, code) = match work(args, &socket, answers) {
        Ok(summary) => (json!({ "done": summary.to_json() }), ExitCode::SUCCESS),
        Err(why) => (json!({ "failed": why }), ExitCode::FAILURE),
    };
    // If the destination is gone, the other thread knows as well.
    if let Err(error) = say(&socket, &last) {
        output::note(format_args!(
            "retpath demo: telling the destination's process how it went: {error}"
        ));
        return ExitCode::FAILURE;
    }
    code
}

/// The socket that the destination's process has put there.
fn standard_input() -> io::Result<UnixStream> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    match rustix::net::sockopt::socket_domain(&fd)? {
        rustix::net::AddressFamily::UNIX => Ok(UnixStream::from(fd)),
        _ => Err(io::Error::other("it is a socket of another kind")),
    }
}

/// Listens to the destination on a thread of its own.
fn listen(socket: &UnixStream, address: &Address) -> io::Result<Receiver<Value>> {
    let mut from = BufReader::new(socket.try_clone()?);
    let (answers, receiver) = channel();
    let address = address.clone();
    let ears = move || obey(&mut from, &answers, &address);
    thread::Builder::new().name("talk".into()).spawn(ears)?;
    Ok(receiver)
}

fn obey(from: &mut BufReader<UnixStream>, answers: &Sender<Value>, address: &Address) {
    while let Ok(Some(value)) = hear(from) {
        if value.get("stop").is_some() {
            process::exit(STOPPED);
        }
        if answers.send(value).is_err() {
            // The work is done, and this process ends.
            return;
        }
    }
    if let Address::Unix(path) = address {
        let _ = fs::remove_file(path);
        // Only if nothing else is in it.
        let _ = path.parent().map(fs::remove_dir);
    }
    output::note("retpath demo: the destination's process is gone, and so the source ends");
    process::exit(1);
}

fn work(
    args: &SourceArgs,
    socket: &UnixStream,
    answers: Receiver<Value>,
) -> Result<SourceSummary, String> {
    let job = &args.job;
    let blocks = job.layout()?;
    let content = Content::new(job.seed, job.page_size.bytes());
    let (file, zeros) = held::fill(&blocks, &content)
        .map_err(|error| format!("filling the source's memory: {error}"))?;
    let left = (blocks.total_pages() - zeros) * TARGET;
    let Some(plan) = cuts::plan(job.seed, job.cuts, left, job.blocks) else {
        let cuts = job.cuts;
        return Err(format!("{cuts} cuts do not fit into {left} bytes of pages"));
    };
    let copy = file
        .try_clone()
        .map_err(|error| format!("sharing the source's memory: {error}"))?;
    let machine = Held::map(&copy, &blocks)?;
    hand_over(socket, &file).map_err(|error| format!("showing the source's memory: {error}"))?;

    let mut config = Config::new("retpath-demo");
    config.preempt = job.preempt.then_some(Preempt::Late);
    config.bandwidth = job.bandwidth;
    config.ping_loaded = true;
    let mut core = Source::new(config, blocks).map_err(|error| error.to_string())?;
    let mut dial = Dial {
        address: &args.address,
        socket,
        answers,
        plan,
        done: 0,
        links: 0,
        fuse: None,
    };
    let control = Control::new().map_err(|error| format!("making a descriptor: {error}"))?;
    let options = ServeOptions {
        // Nothing is far away: it answers at once, or not at all.
        reconnect_timeout: Duration::from_secs(5),
        ..ServeOptions::default()
    };
    let start = Instant::now();
    serve(
        &mut core,
        &mut Still(machine),
        &mut dial,
        &options,
        &control,
    )
    .map_err(|error| error.to_string())?;
    let time = start.elapsed();
    Ok(SourceSummary::new(core.stats(), time, zeros, dial.done))
}

/// A machine whose guest has stopped: it is switched at once.
struct Still(Held);

impl SourceHandler for Still {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        Ok(core.switch(Vec::new())?)
    }
}

/// Makes links that break as planned.
struct Dial<'a> {
    address: &'a Address,
    socket: &'a UnixStream,
    answers: Receiver<Value>,
    plan: Vec<Cut>,
    /// Cuts that have happened.
    done: usize,
    links: u64,
    /// Breaks the links of the current connection, if it is our turn.
    fuse: Option<FaultInjector>,
}

impl Connector for Dial<'_> {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        if channel == Channel::Main {
            self.plan_link().map_err(|error| ChannelError::Io {
                what: "cannot agree on the next connection to",
                address: self.address.to_string(),
                error,
            })?;
        }
        let link = self.address.connect(false)?;
        self.links += 1;
        Ok(match &self.fuse {
            Some(fuse) => fuse.wrap(link),
            None => link,
        })
    }
}

impl Dial<'_> {
    /// Says how the next main link ends.
    fn plan_link(&mut self) -> io::Result<()> {
        // The link may have broken for another reason: then its cut is due
        // again.
        let before = self.plan.get(self.done).filter(|_| self.links > 0);
        let happened = match before.map(|cut| cut.side) {
            None => false,
            Some(Side::Source) => self.fuse.take().is_some_and(|fuse| fuse.has_fired()),
            Some(Side::Destination) => self.ask(&json!({ "blown": null }))?["blown"] == true,
        };
        self.done += usize::from(happened);
        let cut = self.plan.get(self.done);
        let theirs = cut.filter(|cut| cut.side == Side::Destination);
        let ours = cut.filter(|cut| cut.side == Side::Source);
        self.fuse = ours.map(|cut| fuse(cut.limits()));
        if !self.plan.is_empty() {
            let limits = theirs.map(Cut::limits);
            let (read, written) = limits.unzip();
            self.ask(&json!({ "arm": self.links, "read": read, "written": written }))?;
        }
        Ok(())
    }

    /// Asks the destination's process something.
    fn ask(&self, what: &Value) -> io::Result<Value> {
        say(self.socket, what)?;
        // The other thread ends this process before it lets go.
        self.answers.recv().map_err(io::Error::other)
    }
}

fn fuse((read, written): (u64, u64)) -> FaultInjector {
    FaultInjector::new(read, written)
}

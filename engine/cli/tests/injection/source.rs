//! The source of a migration that `retpath receive` takes: our own loop, or a recorded stream.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use retpath_codec::BlockName;
use retpath_engine::Channel;
use retpath_engine::driver::{
    Connector, Control, HandlerError, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{self, Config, Gather, Next, PageSource, Preempt, Source};

use crate::LIMIT;
use crate::image::{MACHINE, precopy};
use retpath_support::loops::{LONG, break_after};
use retpath_support::saved_stream::DEVICE;
use retpath_support::wire::PAGE;

/// What the source knows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// SHUT(0): the destination has everything.
    Done,
    /// SHUT(1): the guest may run here again.
    MayRun,
    /// The link broke before the guest left.
    Kept,
    /// The link broke after that.
    Paused {
        /// The destination has confirmed the device state: the guest is its.
        loaded: bool,
    },
}

/// How the source migrates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Precopy,
    Postcopy,
    Preempt,
    /// In postcopy, over a link that breaks once.
    Broken,
}

/// What it shares with whoever watches over it.
#[derive(Clone)]
struct Shared {
    /// The destination's process has ended.
    gone: Arc<AtomicBool>,
    /// The link is down, and a new one is tried for.
    waiting: Arc<AtomicBool>,
    control: Control,
}

/// A running source.
pub(crate) struct Peer {
    thread: JoinHandle<Told>,
    shared: Shared,
}

impl Peer {
    /// Connects as soon as somebody listens on the socket.
    pub(crate) fn start(socket: &Path, way: Way) -> Self {
        let shared = Shared {
            gone: Arc::default(),
            waiting: Arc::default(),
            control: Control::new().expect("a descriptor"),
        };
        let (socket, ours) = (socket.to_owned(), shared.clone());
        let thread = thread::spawn(move || {
            loop {
                let told = match way {
                    Way::Precopy => ours.replay(&socket),
                    _ => ours.serve(&socket, way),
                };
                // Whoever has not left tries again, as a user would.
                if told != Told::Kept || ours.gone.load(Ordering::Acquire) {
                    return told;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { thread, shared }
    }

    /// The destination's process has ended: whether the source waits for another one, which goes
    /// on with the migration.
    pub(crate) fn is_paused(&self) -> bool {
        self.shared.gone.store(true, Ordering::Release);
        let is_waiting = || self.shared.waiting.load(Ordering::Acquire);
        self.wait(is_waiting);
        !self.thread.is_finished()
    }

    /// What the source knows in the end; it stops to wait for another destination.
    pub(crate) fn end(self) -> Told {
        if self.is_paused() {
            self.shared.control.stop();
            self.wait(|| false);
        }
        self.thread.join().expect("the source does not panic")
    }

    /// Waits until the source has ended, or something else has happened.
    fn wait(&self, or: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !self.thread.is_finished() && !or() {
            assert!(Instant::now() < end, "the source does not notice the end");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn config(way: Way) -> Config {
    retpath_support::wire::config((way == Way::Preempt).then_some(Preempt::Late))
        .machine(MACHINE.into())
        .section(2)
        .ping_loaded(true)
}

impl Shared {
    /// Connects once somebody listens.
    fn connect(&self, address: &Address) -> Result<Link, ChannelError> {
        loop {
            match address.connect(false) {
                Err(_) if !self.gone.load(Ordering::Acquire) => {
                    thread::sleep(Duration::from_millis(1));
                }
                done => return done,
            }
        }
    }

    fn serve(&self, socket: &Path, way: Way) -> Told {
        let mut core = Source::new(config(way), retpath_support::wire::blocks()).expect("good");
        let mut dial = Dial {
            address: Address::Unix(socket.to_owned()),
            shared: self,
            break_after: (way == Way::Broken).then_some(40_000),
            first: true,
        };
        let mut machine = Stopped {
            memory: vec![retpath_support::wire::image()],
        };
        let options = ServeOptions::default().reconnect_timeout(LONG);
        match serve(&mut core, &mut machine, &mut dial, &options, &self.control) {
            Ok(()) => Told::Done,
            Err(RunError::Source(source::Error::GaveUp { .. })) => Told::MayRun,
            Err(_) if !core.guest_left() => Told::Kept,
            Err(_) => Told::Paused {
                loaded: core.is_loaded(),
            },
        }
    }

    /// Writes a recorded precopy stream, and reads until the destination has said its last word.
    fn replay(&self, socket: &Path) -> Told {
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) if self.gone.load(Ordering::Acquire) => return Told::Kept,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        // A destination that refuses the stream closes while this writes.
        let _ = stream.write_all(&precopy(true));
        let mut message = [0; 4];
        while stream.read_exact(&mut message).is_ok() {
            let [_, kind, _, len] = message;
            let mut body = vec![0; len.into()];
            if stream.read_exact(&mut body).is_err() {
                break;
            }
            match (kind, &body[..]) {
                (1, [0, 0, 0, 0]) => return Told::Done,
                (1, _) => return Told::MayRun,
                _ => {}
            }
        }
        Told::Kept
    }
}

struct Dial<'a> {
    address: Address,
    shared: &'a Shared,
    break_after: Option<usize>,
    first: bool,
}

impl Connector for Dial<'_> {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        let link = match std::mem::take(&mut self.first) {
            true => self.shared.connect(&self.address)?,
            false => {
                // Until there is a link; this may fail.
                self.shared.waiting.store(true, Ordering::Release);
                self.address.connect(false)?
            }
        };
        self.shared.waiting.store(false, Ordering::Release);
        Ok(match self.break_after.take() {
            Some(bytes) => break_after(link, bytes),
            None => link,
        })
    }
}

/// A machine whose guest has stopped.
struct Stopped {
    memory: Vec<Vec<u8>>,
}

impl SourceHandler for Stopped {
    fn pages(&self) -> &dyn PageSource {
        &self.memory
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        match core.phase() {
            source::SourcePhase::Precopy => Ok(core.switch(DEVICE.to_vec())?),
            _ => Ok(()),
        }
    }
}

/// The main channel of a migration in postcopy, as a file has it.
pub(crate) fn recorded_postcopy() -> Vec<u8> {
    let mut config = config(Way::Postcopy);
    // Nobody answers.
    config.ping_loaded = false;
    let mut core = Source::new(config, retpath_support::wire::blocks()).expect("good");
    let memory = vec![retpath_support::wire::image()];
    let (mut bytes, mut gather, mut swept) = (Vec::new(), Gather::new(), 0);
    loop {
        match core.next(Channel::Main, 0, &mut bytes) {
            Next::Urgent(run) | Next::Sweep(run) => {
                let len = usize::try_from(run.len).expect("a page");
                let page = memory.lend(run.block, run.offset, len).expect("inside");
                let zeros = gather.lay(&run, retpath_support::wire::name().name(), page);
                gather.slices(page).for_each(|part| bytes.extend(part));
                core.written(&run, zeros);
                swept += run.len / PAGE;
            }
            Next::Write => {}
            Next::Wait { .. } => return bytes,
            next => panic!("{next:?}"),
        }
        if core.phase() == source::SourcePhase::Precopy && swept == 7 {
            core.switch(DEVICE.to_vec()).expect("in precopy");
        }
    }
}

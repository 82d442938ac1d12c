//! The source's loop: links on one side, the source core and the memory that
//! it serves on the other.
//!
//! One thread serves everything. What is urgent comes first in every turn: the
//! return path, then the preempt channel, then at most one run of pages on the
//! main channel. The loop blocks only in poll(2), and while it connects.
//!
//! A link that breaks after the switch is replaced, for as long as the options
//! say; before the switch the guest is still here, and the loop ends with an
//! error.

use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use retpath_codec::Qemu;
use retpath_codec::stream::Stream;
use rustix::event::PollFlags;

use super::outbound::{Outbound, Pumped};
use super::window::Window;
use super::{Clock, Control, RunError, Waiting};
use crate::Channel;
use crate::channel::{ChannelError, Link, Moved};
use crate::source::{Error, Next, PageSource, Phase, Source};

/// The machine that is being sent.
pub trait Machine {
    /// Its memory.
    fn pages(&self) -> &dyn PageSource;

    /// Called in every turn before the switch: here dirty pages are marked,
    /// and [`Source::switch`] is called once its time has come.
    ///
    /// # Errors
    ///
    /// The migration ends.
    fn precopy(&mut self, core: &mut Source) -> Result<(), String>;

    /// Called about ten times a second.
    fn progress(&mut self, core: &Source) {
        let _ = core;
    }

    /// The link broke after the switch: is it to be replaced?
    fn broken(&mut self, core: &Source, error: &RunError) -> bool {
        let _ = (core, error);
        true
    }
}

/// Opens links to the destination.
pub trait Connector {
    /// A new link for a channel.
    ///
    /// # Errors
    ///
    /// There is none to be had now. A main channel that replaces a broken one
    /// is tried again until the time is up.
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError>;
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// How long to try to replace a broken link; zero gives up at once.
    pub retry: Duration,
    /// Most bytes that wait in the kernel to be sent on the main channel: the
    /// start of the range while pages are requested over it, growing to the
    /// end while none is. The kernel may round, and cap, what is set. More than
    /// 256 KiB made no sweep faster: the bytes leave the caches on their way.
    pub send_queue: RangeInclusive<usize>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(60),
            send_queue: 64 << 10..=256 << 10,
        }
    }
}

/// Serves one migration to its end: from its beginning, or what is left of it
/// if the core is one that [took over](Source::taking_over).
///
/// # Errors
///
/// The destination failed or broke the protocol, the machine refuses, the link
/// stayed broken, or `control` stopped the loop. [`Source::guest_left`] says
/// whose the guest is.
pub fn serve(
    core: &mut Source,
    machine: &mut dyn Machine,
    connector: &mut dyn Connector,
    options: &ServeOptions,
    control: &Control,
) -> Result<(), RunError> {
    let main = connector.connect(Channel::Main)?;
    let page = core.blocks().iter().map(|block| block.page).max();
    let mut serving = Serving {
        core,
        machine,
        connector,
        options,
        control,
        main: None,
        preempt: None,
        stream: Stream::new(0),
        heard: false,
        window: Window::new(&options.send_queue, page.unwrap_or(0)),
        clock: Clock::new(),
        outage: None,
    };
    serving.open(main);
    if serving.core.phase() == Phase::Paused {
        serving.core.resume()?;
    }
    serving.run()
}

/// Bytes of the return path that are read at once: many requests.
const READ: usize = 4096;

/// How long to wait before an attempt to connect again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a destination may take to close a link that it does not want.
const GRACE: Duration = Duration::from_millis(250);

struct Serving<'a> {
    core: &'a mut Source,
    machine: &'a mut dyn Machine,
    connector: &'a mut dyn Connector,
    options: &'a ServeOptions,
    control: &'a Control,
    main: Option<Outbound>,
    preempt: Option<Outbound>,
    stream: Stream<Qemu>,
    /// Whether anything has come back over the main link.
    heard: bool,
    window: Window,
    clock: Clock,
    outage: Option<Outage>,
}

/// A time without a link over which the migration goes on.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// How often the migration had gone on before.
    resumes: u64,
    /// When to give up.
    deadline: Instant,
}

impl Serving<'_> {
    fn run(&mut self) -> Result<(), RunError> {
        let mut next_progress = 0;
        while self.core.phase() != Phase::Completed {
            let now = self.clock.now();
            if now >= next_progress {
                next_progress = now + 100_000_000;
                self.machine.progress(self.core);
            }
            if let Err(error) = self.turn() {
                self.mend(error)?;
            }
        }
        self.machine.progress(self.core);
        Ok(())
    }

    /// Sends what can be sent, and waits for more to do.
    fn turn(&mut self) -> Result<(), RunError> {
        if matches!(self.core.phase(), Phase::Fresh | Phase::Precopy) {
            self.machine.precopy(self.core).map_err(RunError::Guest)?;
        }
        self.size_queue()?;
        let preempt = self.pump(Channel::Preempt)?;
        let main = self.pump(Channel::Main)?;
        if self.core.phase() == Phase::Completing {
            // An early preempt channel has an end mark, which nothing that comes back calls for.
            self.pump(Channel::Preempt)?;
        }
        if self.core.phase() == Phase::Completed {
            return Ok(());
        }
        let most = match main {
            Pumped::More => Duration::ZERO,
            Pumped::Blocked | Pumped::Idle { until: None } => Duration::from_millis(100),
            Pumped::Idle { until: Some(until) } => {
                Duration::from_nanos(until.saturating_sub(self.clock.now()).clamp(1, 100_000_000))
            }
        };

        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let link = self.main.as_ref().map(|out| out.link.as_fd());
        let back = waiting.add(link, PollFlags::IN | main.wants());
        let link = self.preempt.as_ref().map(|out| out.link.as_fd());
        waiting.add(link, preempt.wants());
        waiting.wait(most)?;
        let (control, back) = (waiting.readable(control), waiting.readable(back));
        if back {
            self.return_path()?;
        }
        if control {
            let wishes = self.control.take();
            if wishes.stop {
                return Err(RunError::Stopped);
            }
            if wishes.pause {
                return Err(RunError::Closed);
            }
        }
        Ok(())
    }

    /// Sends on one channel until it is idle or blocked, or has sent a run of
    /// pages that nobody asked for.
    fn pump(&mut self, channel: Channel) -> Result<Pumped, RunError> {
        loop {
            let slot = match channel {
                Channel::Main => &mut self.main,
                Channel::Preempt => &mut self.preempt,
            };
            let Some(out) = slot else {
                return Ok(Pumped::Idle { until: None });
            };
            if !out.flush(self.machine.pages())? {
                return Ok(Pumped::Blocked);
            }
            let now = self.clock.now();
            let next = self.core.next(channel, now, out.head());
            match next {
                Next::Write => {}
                Next::Urgent(run) | Next::Sweep(run) => {
                    let block = self.core.blocks().block(run.block)?;
                    let zeros = out.lay(run, block, self.machine.pages())?;
                    self.core.written(&run, zeros);
                    if matches!(next, Next::Sweep(_)) {
                        self.window.swept(run.len);
                        let sent = out.flush(self.machine.pages())?;
                        return Ok(if sent { Pumped::More } else { Pumped::Blocked });
                    }
                }
                Next::Connect => {
                    self.prove_main()?;
                    let link = self.connector.connect(Channel::Preempt)?;
                    self.preempt = Some(Outbound::new(link));
                    self.core.preempt_connected()?;
                }
                Next::Wait { until } => {
                    let sent = out.flush(self.machine.pages())?;
                    return Ok(if sent {
                        Pumped::Idle { until }
                    } else {
                        Pumped::Blocked
                    });
                }
                Next::Stop => return Ok(Pumped::Idle { until: None }),
            }
        }
    }

    /// Reads the return path once.
    fn return_path(&mut self) -> Result<(), RunError> {
        let Some(main) = &self.main else {
            return Ok(());
        };
        let mut bytes = [0; READ];
        let moved = main.link.read(&mut bytes);
        let mut input = match moved.map_err(|error| RunError::Link {
            what: "reading",
            error,
        })? {
            Moved::Bytes(size) => {
                self.heard = true;
                &bytes[..size]
            }
            Moved::Later => return Ok(()),
            Moved::End => return Err(RunError::Closed),
        };
        let now = self.clock.now();
        loop {
            match self.stream.next(&mut input) {
                Ok(Some(item)) => self.core.message(item, now)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.core.malformed(error).into()),
            }
            self.stream.limit_bitmap(self.core.recv_bitmap_limit());
        }
    }

    /// Replaces the links after an error that a new link can mend; gives any
    /// other error back.
    fn mend(&mut self, error: RunError) -> Result<(), RunError> {
        if self.core.phase() == Phase::Completed {
            return Ok(());
        }
        let mendable = match &error {
            RunError::Source(Error::GaveUp { .. }) => false,
            RunError::Source(_) | RunError::Channel(_) => true,
            other => other.is_link(),
        };
        let lost = self.core.link_lost();
        for out in self.main.take().into_iter().chain(self.preempt.take()) {
            out.link.shut_down();
        }
        if !mendable || lost.is_err() || self.core.phase() != Phase::Paused {
            return Err(error);
        }
        let resumes = self.core.stats().resumes;
        let known = self.outage.filter(|outage| outage.resumes == resumes);
        if known.is_none() && !self.machine.broken(self.core, &error) {
            return Err(error);
        }
        // If the last link was of no use, it is still the same outage.
        let outage = *self.outage.insert(known.unwrap_or_else(|| Outage {
            resumes,
            deadline: Instant::now() + self.options.retry,
        }));
        let mut tried = known.is_some();
        loop {
            if tried && Instant::now() >= outage.deadline {
                let seconds = self.options.retry.as_secs();
                return Err(RunError::Abandoned {
                    seconds,
                    cause: Some(Box::new(error)),
                });
            }
            // The other side must notice the end of the old link first: until
            // then a QEMU turns new ones away.
            self.sleep(PAUSE)?;
            tried = true;
            if let Ok(link) = self.connector.connect(Channel::Main) {
                self.open(link);
                return Ok(self.core.resume()?);
            }
        }
    }

    /// Makes sure, as far as it can be, that the destination keeps the new main
    /// link before another one is made. One that has not noticed the end of the
    /// old link closes the new one at once; then it would take the next
    /// connection, which is meant for urgent pages, for the main one.
    fn prove_main(&mut self) -> Result<(), RunError> {
        if self.core.phase() != Phase::Recovering || self.heard {
            return Ok(());
        }
        let mut waiting = Waiting::new();
        let link = self.main.as_ref().map(|out| out.link.as_fd());
        let back = waiting.add(link, PollFlags::IN);
        waiting.wait(GRACE)?;
        if waiting.readable(back) {
            self.return_path()?;
        }
        Ok(())
    }

    /// Sleeps, unless the loop is to stop.
    fn sleep(&self, time: Duration) -> Result<(), RunError> {
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        waiting.wait(time)?;
        if waiting.readable(control) && self.control.take().stop {
            return Err(RunError::Stopped);
        }
        Ok(())
    }

    /// Sets how much may wait to be sent.
    fn size_queue(&mut self) -> Result<(), RunError> {
        let Some(main) = &self.main else {
            return Ok(());
        };
        let requests = self.core.stats().requests;
        let Some(size) = self.window.turn(requests, self.preempt.is_none()) else {
            return Ok(());
        };
        let set = main.link.limit_send_queue(size);
        set.map_err(|error| RunError::Link {
            what: "setting it up",
            error,
        })
    }

    /// Begins with a new main link.
    fn open(&mut self, link: Link) {
        self.window.reset();
        self.main = Some(Outbound::new(link));
        self.heard = false;
        self.stream = Stream::new(self.core.recv_bitmap_limit());
    }
}

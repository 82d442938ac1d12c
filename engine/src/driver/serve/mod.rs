//! The source's loop: links on one side, the source core and the memory that
//! it serves on the other.
//!
//! One thread serves everything. What is urgent comes first in every turn: the
//! return path, then the preempt channel, then at most one run of pages on the
//! main channel. The loop blocks only in poll(2), and in [`Connector::connect`].
//!
//! A link that breaks after the switch is replaced, for as long as the options
//! say; before the switch the guest is still here, and the loop ends with an
//! error.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use retpath_codec::Qemu;
use retpath_codec::stream::Stream;
use rustix::event::PollFlags;

use super::outbound::{Outbound, Pumped};
use super::window::Window;
use super::{Clock, Control, RunError, Waiting};
use crate::Channel;
use crate::protocol::wide;
use crate::socket::{ChannelError, Link, Moved};
use crate::source::{Next, Phase, Source};

mod api;
mod mend;
mod silence;
mod stall;

pub use api::{Connector, Machine, ServeOptions};
use mend::{Outage, sleep};
pub use silence::{Offer, Suspicion};
use silence::{Silence, Step};
use stall::Stall;

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
    let main = first(machine, connector, options, control)?;
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
        stall: Stall::new(options.stall),
        silence: Silence::new(options.offer),
        moved: (0, 0),
        read: 0,
    };
    serving.open(main);
    if serving.core.phase() == Phase::Paused {
        serving.core.resume()?;
    }
    serving.run()
}

/// Connects. Retries after an interruption unless the loop is to stop.
fn connect(
    connector: &mut dyn Connector,
    control: &Control,
    channel: Channel,
) -> Result<Link, RunError> {
    loop {
        match connector.connect(channel) {
            Err(ChannelError::Interrupted { .. }) if !control.take().stop => {}
            Err(ChannelError::Interrupted { .. }) => return Err(RunError::Stopped),
            done => return Ok(done?),
        }
    }
}

/// Delay between attempts to make the first connection.
const AGAIN: Duration = Duration::from_millis(20);

/// Makes the first connection. Retries while the destination does not listen: it may
/// have been started a moment ago.
fn first(
    machine: &mut dyn Machine,
    connector: &mut dyn Connector,
    options: &ServeOptions,
    control: &Control,
) -> Result<Link, RunError> {
    let deadline = Instant::now() + options.wait;
    let mut told = false;
    loop {
        let error = match connect(connector, control, Channel::Main) {
            Err(RunError::Channel(error)) if error.is_absence() => error,
            done => return done,
        };
        if Instant::now() >= deadline {
            return Err(error.into());
        }
        if !told {
            machine.waiting(&error, options.wait);
            told = true;
        }
        sleep(control, AGAIN)?;
    }
}

/// Bytes of the return path that are read at once: many requests.
const READ: usize = 4096;

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
    stall: Stall,
    silence: Silence,
    /// Bytes written to and read from the links at the last check.
    moved: (u64, u64),
    /// Bytes read from the main links.
    read: u64,
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
        self.watch(main, preempt)?;
        if self.listen(main)? {
            return Ok(());
        }
        let most = match main {
            Pumped::More => Duration::ZERO,
            Pumped::Blocked | Pumped::Idle { until: None } => Duration::from_millis(100),
            Pumped::Idle { until: Some(until) } => {
                Duration::from_nanos(until.saturating_sub(self.clock.now()).clamp(1, 100_000_000))
            }
        };

        let most = self.silence.poll_deadline().map_or(most, |deadline| {
            most.min(Duration::from_nanos(
                deadline.saturating_sub(self.clock.now()),
            ))
        });

        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let link = self.main.as_ref().map(|out| out.link.as_fd());
        let back = waiting.add(link, PollFlags::IN | main.wants());
        let link = self.preempt.as_ref().map(|out| out.link.as_fd());
        let closing = match self.core.is_preempt_unproven() {
            true => PollFlags::RDHUP,
            false => PollFlags::empty(),
        };
        waiting.add(link, preempt.wants() | closing);
        waiting.wait(most)?;
        let (control, back) = (waiting.readable(control), waiting.readable(back));
        if back {
            self.return_path()?;
        }
        self.look_at_preempt()?;
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
                    let link = connect(self.connector, self.control, Channel::Preempt)?;
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

    /// Reads the return path once; says whether there was anything.
    fn return_path(&mut self) -> Result<bool, RunError> {
        let Some(main) = &self.main else {
            return Ok(false);
        };
        let mut bytes = [0; READ];
        let moved = main.link.read(&mut bytes);
        let mut input = match moved.map_err(|error| RunError::Link {
            what: "reading",
            error,
        })? {
            Moved::Bytes(size) => &bytes[..size],
            Moved::Later => return Ok(false),
            Moved::End => return Err(RunError::Closed),
        };
        self.heard = true;
        self.read += wide(input.len());
        // Before the answer is handled, which would count an open channel as kept.
        self.look_at_preempt()?;
        let now = self.clock.now();
        // A bitmap may take its time.
        let mut moved = self.core.phase() == Phase::Recovering;
        loop {
            match self.stream.next(&mut input) {
                Ok(Some(item)) => {
                    moved |= !stall::is_request(&item);
                    self.core.message(item, now)?;
                }
                Ok(None) => {
                    if moved {
                        self.stall.moved();
                    }
                    return Ok(true);
                }
                Err(error) => return Err(self.core.malformed(error).into()),
            }
            self.stream.limit_bitmap(self.core.recv_bitmap_limit());
        }
    }

    /// Does not wait for ever for a peer of which nothing is heard.
    fn watch(&mut self, main: Pumped, preempt: Pumped) -> Result<(), RunError> {
        let links = self.main.iter().chain(&self.preempt);
        let written = links.map(|out| out.written).sum();
        let early = matches!(self.core.phase(), Phase::Fresh | Phase::Precopy);
        let idle = matches!(main, Pumped::Idle { until: None }) && !early;
        let blocked = [main, preempt]
            .iter()
            .any(|pumped| matches!(pumped, Pumped::Blocked));
        self.stall.check(written, idle || blocked)
    }

    /// Handles a silent destination; returns whether there is more to do now.
    fn listen(&mut self, main: Pumped) -> Result<bool, RunError> {
        let links = self.main.iter().chain(&self.preempt);
        let moved = (links.map(|out| out.written).sum(), self.read);
        let moved = std::mem::replace(&mut self.moved, moved) != self.moved;
        let awaited = match main {
            Pumped::Idle { until: None } | Pumped::Blocked => self.core.awaits(),
            // The source still has something to do.
            Pumped::More | Pumped::Idle { .. } => None,
        };
        let now = self.clock.now();
        let preempt = self.preempt.is_some();
        match self.silence.handle(now, awaited, moved, preempt) {
            None => return Ok(false),
            Some(Step::Say(suspicion)) => self.machine.suspects(suspicion),
            Some(Step::Open(kind)) => {
                self.core.open_preempt(kind)?;
                match connect(self.connector, self.control, Channel::Preempt) {
                    Ok(link) => {
                        self.preempt = Some(Outbound::new(link));
                        self.core.preempt_connected()?;
                    }
                    Err(RunError::Stopped) => return Err(RunError::Stopped),
                    Err(_) => self.core.preempt_refused()?,
                }
            }
        }
        Ok(true)
    }

    /// Detects that the destination has closed the preempt channel because its
    /// capability is off.
    fn look_at_preempt(&mut self) -> Result<(), RunError> {
        if self.core.is_preempt_unproven()
            && self
                .preempt
                .as_ref()
                .is_some_and(|out| out.link.has_ended())
        {
            self.preempt = None;
            self.core.preempt_refused()?;
            self.machine.preempt_refused();
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
        self.stall.moved();
        self.silence.relink();
        self.heard = false;
        self.stream = Stream::new(self.core.recv_bitmap_limit());
    }
}

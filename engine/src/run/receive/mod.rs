//! The destination's loop: links and userfaultfd on one side, the destination
//! core on the other.
//!
//! One thread serves everything. What is urgent comes first in every turn:
//! faults, then the preempt channel, then at most one read's worth of the main
//! channel. The loop blocks only in poll(2).
//!
//! Errors end the migration with everything received still in memory; a broken
//! link in postcopy does not, it is waited for until the migration is
//! recovered over a new one.
//!
//! Until there is a main link, connections that say nothing keep nobody out,
//! and neither does a new link over which the migration does not go on. A main
//! link that has come so far may be silent for as long as it likes: the user
//! of its source may have paused it. See [`Control`] for letting go of it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retpath_codec::forward::{self, Decoder};
use rustix::event::PollFlags;

use super::buffer::Outbox;
use super::{Clock, Control, RunError, Waiting};
use crate::Channel;
use crate::blocks::{BlockError, BlockId};
use crate::channel::{Link, Listener};
use crate::destination::{self, Action, Destination, Ending};
use crate::memory::Memory;

mod guest;
mod links;
mod lobby;
mod placing;
mod seats;
mod stray;
mod sweep;

pub use guest::Guest;
use links::Inbound;
use lobby::Lobby;
use placing::Trap;

/// How to receive.
#[derive(Debug)]
pub struct ReceiveOptions {
    /// The core's.
    pub core: destination::Config,
    /// The decoder's.
    pub stream: forward::Options,
    /// How long to wait for a new link when one breaks.
    pub patience: Duration,
    /// How long a new link may take to get the migration going again, after
    /// which it is dropped, and the next one may try, with all the patience
    /// there is; and how long a source may say nothing once everything is here.
    pub recovery: Duration,
}

/// Receives one migration.
///
/// # Errors
///
/// The peer broke the protocol, the machine lacks something, the link stayed
/// broken, or `control` stopped the loop.
pub fn receive(
    listener: &mut Listener,
    guest: &mut dyn Guest,
    options: ReceiveOptions,
    control: &Control,
) -> Result<Destination, RunError> {
    let mut receiving = Receiving::new(listener, guest, options, control);
    match receiving.serve() {
        Ok(()) => Ok(receiving.finish()),
        Err(error) => {
            if receiving.guest.may_go_back() {
                receiving.give_back();
            }
            let release = receiving.guest.failed(&error);
            receiving.abandon(release);
            Err(error)
        }
    }
}

/// How long a migration waits at its end for a source that may not have seen
/// SHUT, because a link broke, and what still comes on a broken link is read.
const LINGER: Duration = Duration::from_secs(1);

/// How long a source may say nothing where its stream may be over.
const SILENCE: Duration = Duration::from_secs(10);

struct Receiving<'a> {
    core: Destination,
    listener: &'a mut Listener,
    guest: &'a mut dyn Guest,
    control: &'a Control,
    options: ReceiveOptions,
    main: Option<Inbound>,
    preempt: Option<Inbound>,
    /// Whether the preempt channel of this main channel has begun. There is
    /// one, so the next connection is a new main channel, whatever is left to
    /// be read of the old one.
    had_preempt: bool,
    /// Connections that have no place yet.
    lobby: Lobby,
    /// A second connection that nobody expects.
    stray: Option<Link>,
    outbox: Outbox,
    /// Since when the main link cannot be written to, and why.
    mute: Option<(Instant, io::Error)>,
    /// Why the last message could not be written; the source may come back.
    untold: Option<RunError>,
    memories: Vec<Arc<Memory>>,
    trap: Option<Trap>,
    /// The main decoder of the last link over which it went on: what a new link goes on from.
    last: Option<Decoder>,
    clock: Clock,
    /// Since when no link is there, and why.
    since: Instant,
    cause: Option<Box<RunError>>,
    /// Since when the main link is there, how often the migration had gone on
    /// before, and when something last came.
    seated: Instant,
    resumes: u64,
    moved: Instant,
    /// Since when there has been nothing to do.
    idle: Option<Instant>,
    ending: Option<Ending>,
    /// Whether the last message has been written to a link.
    told: bool,
}

struct Ready {
    control: bool,
    faults: bool,
    preempt: bool,
    main: bool,
    listener: bool,
    lobby: bool,
}

impl Ready {
    fn is_idle(&self) -> bool {
        let links = self.preempt || self.main || self.listener || self.lobby;
        !(self.control || self.faults || links)
    }
}

impl<'a> Receiving<'a> {
    fn new(
        listener: &'a mut Listener,
        guest: &'a mut dyn Guest,
        options: ReceiveOptions,
        control: &'a Control,
    ) -> Self {
        Self {
            core: Destination::new(options.core.clone()),
            listener,
            guest,
            control,
            options,
            main: None,
            preempt: None,
            had_preempt: false,
            lobby: Lobby::default(),
            stray: None,
            outbox: Outbox::default(),
            mute: None,
            untold: None,
            memories: Vec::new(),
            trap: None,
            last: None,
            clock: Clock::new(),
            since: Instant::now(),
            cause: None,
            seated: Instant::now(),
            resumes: 0,
            moved: Instant::now(),
            idle: None,
            ending: None,
            told: false,
        }
    }

    fn serve(&mut self) -> Result<(), RunError> {
        let mut next_progress = 0;
        while !self.is_over() {
            let ready = self.wait()?;
            match ready.is_idle() {
                true => self.idle()?,
                false => self.idle = None,
            }
            if ready.control {
                let wishes = self.control.take();
                if wishes.stop {
                    return Err(RunError::Stopped);
                }
                if wishes.pause && self.main.is_some() {
                    self.lost(Channel::Main, RunError::Closed)?;
                    continue;
                }
            }
            if ready.faults {
                self.faults()?;
                self.flush();
            }
            if ready.preempt {
                self.inbound(Channel::Preempt)?;
            }
            if ready.main {
                self.inbound(Channel::Main)?;
            }
            self.accept(ready.listener)?;
            if ready.lobby {
                self.promote();
            }
            self.act()?;
            self.flush();
            self.unmute(!ready.main)?;
            self.limits()?;
            let now = self.clock.now();
            if now >= next_progress {
                next_progress = now + 100_000_000;
                self.judge_stray()?;
                self.guest.progress(&self.core);
            }
        }
        self.unmute(true)?;
        match self.untold.take().filter(|_| !self.told) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> Result<Ready, RunError> {
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let faults = waiting.add(self.trap.as_ref().map(|t| t.handler.as_fd()), PollFlags::IN);
        let preempt = self.preempt.as_ref().filter(|_| self.trap.is_some());
        let preempt = waiting.add(preempt.map(|p| p.link.as_fd()), PollFlags::IN);
        let out = if self.outbox.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        let main = self.main.as_ref().map(|m| m.link.as_fd());
        let main = waiting.add(main, PollFlags::IN | out);
        let listener = waiting.add(
            self.listener.fd().filter(|_| self.wants_link()),
            PollFlags::IN,
        );
        let lobby = waiting.len();
        if self.looks_at_lobby() {
            for (fd, flags) in self.lobby.fds() {
                waiting.add(Some(fd), flags);
            }
        }
        waiting.wait(Duration::from_millis(100))?;
        Ok(Ready {
            control: waiting.readable(control),
            faults: waiting.readable(faults),
            preempt: waiting.readable(preempt),
            main: waiting.readable(main),
            listener: waiting.readable(listener),
            lobby: waiting.any_since(lobby),
        })
    }

    /// Carries the core's wishes out.
    fn act(&mut self) -> Result<(), RunError> {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Block { id } => {
                    let block = self.core.blocks().block(id)?;
                    let memory = self.guest.memory(block).map_err(RunError::Guest)?;
                    if memory.len() < block.len {
                        let name = block.name.clone();
                        return Err(RunError::TooSmall {
                            name,
                            have: memory.len(),
                            need: block.len,
                        });
                    }
                    // A huge page would fill in what was never received.
                    memory.nohugepage()?;
                    self.memories.push(memory);
                }
                Action::Discard { block, start, len } => {
                    memory(&self.memories, block)?.discard(start, len)?;
                }
                Action::Listen => self.listen()?,
                Action::Run => self.guest.run(),
                Action::DeviceStateComplete => {
                    self.guest
                        .device_state_complete()
                        .map_err(RunError::Guest)?;
                    self.core.device_state_saved()?;
                }
                Action::Complete(ending) => {
                    if ending == Ending::Precopy {
                        self.judge_strays()?;
                    }
                    self.release()?;
                    self.guest
                        .complete(&self.core, ending)
                        .map_err(RunError::Guest)?;
                    self.core.confirm()?;
                }
                Action::Finished(ending) => self.ending = Some(ending),
            }
        }
        self.outbox.bytes.append(self.core.outbox());
        Ok(())
    }

    /// Takes the traps away: every page is there.
    fn release(&mut self) -> Result<(), RunError> {
        let Some(trap) = self.trap.as_mut().filter(|trap| !trap.released) else {
            return Ok(());
        };
        for region in &trap.regions {
            region.unregister()?;
        }
        trap.released = true;
        Ok(())
    }

    fn finish(mut self) -> Destination {
        // Every page is there: memory that cannot be unregistered is when the descriptor closes.
        let _ = self.release();
        if let Some(trap) = self.trap {
            trap.handler.finish();
        }
        self.core
    }

    /// Tells the source that it may have its guest back.
    fn give_back(&mut self) {
        self.core.abort();
        self.outbox.bytes.append(self.core.outbox());
        self.flush();
    }

    /// The migration has failed; aborts the process unless nobody waits.
    fn abandon(self, release: bool) {
        if let Some(trap) = self.trap.filter(|_| release) {
            trap.handler.finish();
        }
    }
}

fn memory(memories: &[Arc<Memory>], block: BlockId) -> Result<&Arc<Memory>, RunError> {
    memories
        .get(block)
        .ok_or(RunError::Block(BlockError::Unknown))
}

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
use crate::blocks::BlockId;
use crate::destination::{self, Action, Destination, Ending, Phase};
use crate::memory::Memory;
use crate::socket::{Listener, Moved};

mod guest;
mod links;
mod lobby;
mod placing;
mod seats;
mod sweep;

pub use guest::{Content, Guest};
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
    /// Whether to accept a link that closes inside the device state as the end of a
    /// stream that does not mark its end; see [`RunError::UnprovenEnd`]. Only without
    /// a return path: with one, a source that is done waits for SHUT.
    pub accept_unproven_end: bool,
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
    let core = Destination::new(options.core.clone());
    Receiving::new(core, None, listener, guest, options, control).run()
}

/// Continues a migration that another process left in postcopy. The user has the
/// source resume it (`migrate -r`), and it connects here. `known` is what that
/// process learned from the stream. Memory is not trapped: [`Guest::memory`] is not
/// called.
///
/// # Errors
///
/// As [`receive`].
pub fn take_over(
    core: Destination,
    known: forward::Known,
    listener: &mut Listener,
    guest: &mut dyn Guest,
    options: ReceiveOptions,
    control: &Control,
) -> Result<Destination, RunError> {
    let decoder = Decoder::resumed(options.stream.clone(), known);
    Receiving::new(core, Some(decoder), listener, guest, options, control).run()
}

/// How long a migration waits at its end for a source that may not have seen
/// SHUT, because a link broke, and what still comes on a broken link is read.
const LINGER: Duration = Duration::from_secs(1);

/// How long to wait for a source to close after SHUT(1).
const FAREWELL: Duration = Duration::from_secs(5);

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
    outbox: Outbox,
    /// Since when the main link cannot be written to, and why.
    mute: Option<(Instant, io::Error)>,
    /// Why the last message could not be written; the source may come back.
    untold: Option<RunError>,
    /// The blocks' memory, where the embedder gave any.
    memories: Vec<Option<Arc<Memory>>>,
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
    /// How often the guest has been told that the migration goes on.
    recovered: u64,
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
        core: Destination,
        last: Option<Decoder>,
        listener: &'a mut Listener,
        guest: &'a mut dyn Guest,
        options: ReceiveOptions,
        control: &'a Control,
    ) -> Self {
        let mut core = core;
        // Whether the source has the channel is only known once it connects.
        core.expect_preempt();
        Self {
            core,
            listener,
            guest,
            control,
            options,
            main: None,
            preempt: None,
            had_preempt: false,
            lobby: Lobby::default(),
            outbox: Outbox::default(),
            mute: None,
            untold: None,
            memories: Vec::new(),
            trap: None,
            last,
            clock: Clock::new(),
            since: Instant::now(),
            cause: None,
            seated: Instant::now(),
            resumes: 0,
            moved: Instant::now(),
            recovered: 0,
            idle: None,
            ending: None,
            told: false,
        }
    }

    fn run(mut self) -> Result<Destination, RunError> {
        match self.serve() {
            Ok(()) => Ok(self.finish()),
            Err(error) => {
                self.tell_failure();
                let release = self.guest.failed(&error);
                self.abandon(release);
                Err(error)
            }
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
            self.tell_recovered();
            self.flush();
            self.unmute(!ready.main)?;
            self.limits()?;
            let now = self.clock.now();
            if now >= next_progress {
                next_progress = now + 100_000_000;
                self.refuse_multifd()?;
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
        let preempt = self.preempt.as_ref().filter(|_| self.core.is_listening());
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
                    let target = self.core.blocks().target();
                    let given = self.guest.memory(block, target);
                    let given = given.map_err(RunError::Guest)?;
                    let Some(memory) = given else {
                        self.memories.push(None);
                        continue;
                    };
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
                    self.memories.push(Some(memory));
                }
                Action::Discard { block, start, len } => {
                    if let Some(memory) = self.memory(block) {
                        memory.discard(start, len)?;
                    }
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
                        self.refuse_all_multifd()?;
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

    /// Calls [`Guest::recovered`] once per recovery.
    fn tell_recovered(&mut self) {
        let resumes = self.core.stats().resumes;
        if resumes != self.recovered {
            self.recovered = resumes;
            self.guest.recovered(&self.core);
        }
    }

    /// Takes the traps away: every page is there.
    fn release(&mut self) -> Result<(), RunError> {
        let Some(trap) = self.trap.as_mut().filter(|trap| !trap.released) else {
            return Ok(());
        };
        for region in trap.regions.iter().flatten() {
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

    /// Ends the migration on the wire: with SHUT(1), if the source may run its
    /// guest again.
    ///
    /// A source in recovery gets no SHUT(1): QEMU handles it there like a broken link,
    /// and pauses again. When the link closes it pauses as well, and another process
    /// can continue.
    fn tell_failure(&mut self) {
        let phase = self.core.phase();
        if phase.is_recoverable() {
            return;
        }
        // From the first discarded page on its guest stands still.
        let switched = self.core.has_switched() || phase == Phase::Discarding;
        if self.guest.may_go_back() {
            self.core.abort();
        }
        self.outbox.bytes.append(self.core.outbox());
        let Some(main) = &self.main else { return };
        // Before the switch the source runs its guest even if SHUT(1) is lost.
        let waits = switched && !self.outbox.is_empty();
        let deadline = Instant::now() + if waits { FAREWELL } else { Duration::ZERO };
        let mut rest = vec![0; 64 << 10];
        loop {
            let written = self.outbox.flush(&main.link);
            let flags = match written {
                Ok(true) => PollFlags::IN,
                Ok(false) => PollFlags::IN | PollFlags::OUT,
                Err(_) => return,
            };
            match main.link.read(&mut rest) {
                // A source that has sent everything closes once it has read SHUT(1). One that has
                // not may have lost its link: then it pauses, and does not get its guest back.
                Ok(Moved::End) if waits && self.core.is_main_ended() && self.outbox.is_empty() => {
                    return self.guest.given_back();
                }
                Ok(Moved::Bytes(_)) if Instant::now() < deadline => {}
                Ok(Moved::Later) if Instant::now() < deadline => {
                    let mut waiting = Waiting::new();
                    waiting.add(Some(main.link.as_fd()), flags);
                    let left = deadline.saturating_duration_since(Instant::now());
                    if waiting.wait(left).is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The memory of a block, if the embedder gave any.
    fn memory(&self, block: BlockId) -> Option<&Arc<Memory>> {
        self.memories.get(block)?.as_ref()
    }

    /// The migration has failed; aborts the process unless nobody waits.
    fn abandon(self, release: bool) {
        if let Some(trap) = self.trap.filter(|_| release) {
            trap.handler.finish();
        }
    }
}

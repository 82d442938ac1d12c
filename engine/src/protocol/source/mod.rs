//! The source of a postcopy migration, without I/O: return-path messages in,
//! which page next on which channel out.
//!
//! ```text
//!                next          switch            next              next        SHUT 0
//!  Fresh ─────────▶ Precopy ─────▶ Switching ─────────▶ Postcopy ─────▶ Completing ─▶ Completed
//!    └─ broken ─▶ Failed ◀─ broken ──┘        package ▲   │ broken         │ broken
//!                                           RESUME_ACK│   ▼                ▼
//!                              Resuming ──────────────┘  Paused ◀──────────┘
//!                                 ▲  all bitmaps            │ resume
//!                                 └─────────── Recovering ◀─┘
//! ```
//!
//! A [`Source`] decides, its caller moves bytes:
//!
//! * [`Source::next`] returns what a channel sends now. It appends to `out` the bytes
//!   that must be written first, whatever it returns. Calling it again for the same
//!   channel promises that everything before has been written, or will be written
//!   before anything that follows.
//! * [`Source::message`] handles a message of the return path. After it, and after
//!   every other call that changes something, call `next` for both channels.
//! * [`Source::link_lost`] and [`Source::resume`] are for a broken link. Runs that
//!   were handed out before must not be written after.
//!
//! Nothing here panics or blocks, whatever the destination sends and in whatever
//! order; memory is bounded by the blocks' sizes. A destination that breaks the
//! protocol causes an [`Error`]: before the switch the migration has failed and the
//! guest is still at the source; after it the migration is paused, and can be
//! recovered over a new link.
//!
//! Beside the core are the policies of its driver: when to reconnect, when the
//! destination counts as stalled or silent, and how long the send queue may be. Like
//! the core they know no clock: the caller passes the time, in nanoseconds.
//! Mirrors `migration.c:migration_thread`,
//! `source_return_path_thread` and `ram.c`.

use retpath_codec::DecodeError;

use crate::Channel;
use crate::blocks::{BlockId, Blocks, Span};
use crate::protocol::wide;
use crate::stats::Stats;

mod config;
mod error;
mod framing;
mod order;
mod pace;
mod pages;
mod preempt;
mod queue;
mod receive;
mod reconnect;
mod recovery;
mod send;
mod send_queue;
mod silence;
mod state;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::release::Preempt;
pub use config::Config;
pub use error::{Cause, Error};
pub use framing::MAX_DEVICE_STATE;
pub use order::{FirstRequest, Hold, MAX_RECORDED, merge_order};
pub use pages::{Gather, PageRun, PageSource};
pub use preempt::Awaited;
pub(crate) use reconnect::{Drain, LinkAction, Reconnect};
pub(crate) use send_queue::SendQueue;
pub use silence::{Offer, Suspicion};
pub(crate) use silence::{Silence, SilenceAction, Stall};
pub use state::SourcePhase;

use crate::protocol::page_set::PageSet;
use order::{HoldTimer, Recorder};
use pace::Pace;
use preempt::Connection;
use queue::Queue;
use state::{Guest, Heard, LinkState};

/// The source of one migration.
#[derive(Debug)]
pub struct Source {
    config: Config,
    blocks: Blocks,
    phase: SourcePhase,
    dirty: PageSet,
    /// Pages that had never been handed out when a link last broke.
    unsent: Option<PageSet>,
    queue: Queue,
    pace: Pace,
    hold: HoldTimer,
    recorder: Option<Recorder>,
    link: LinkState,
    /// The block that REQ_PAGES refers to.
    named: Option<BlockId>,
    /// Whether SWITCHOVER_ACK has been received.
    acked: bool,
    guest: Guest,
    stats: Stats,
}

/// What a channel sends now, after the bytes in `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Only those bytes; call again.
    Write,
    /// Requested pages, to be written before anything else.
    Urgent(PageRun),
    /// Pages that were not requested: those of the background sweep, and of
    /// [`Config::order`].
    Sweep(PageRun),
    /// Nothing, but the preempt channel must be connected now; see
    /// [`Source::preempt_connected`]. Returned once for each link; call again.
    Connect,
    /// Nothing until another event, or until this time.
    Wait {
        /// Nanoseconds; `None` if time alone changes nothing.
        until: Option<u64>,
    },
    /// Nothing on this link any more; see [`Source::phase`].
    Stop,
}

impl Source {
    /// A source that has sent nothing: every page is dirty except unplugged memory.
    ///
    /// # Errors
    ///
    /// The configuration does not fit the blocks: [`Error::Blocks`] (also if there
    /// are no blocks), [`Error::Config`].
    pub fn new(config: Config, blocks: Blocks) -> Result<Self, Error> {
        config.check(&blocks)?;
        let mut dirty = PageSet::all(&blocks);
        dirty.leave_out(&config.unplugged);
        Ok(Self {
            phase: SourcePhase::Fresh,
            dirty,
            unsent: None,
            queue: Queue::new(&blocks),
            pace: Pace::new(config.bandwidth),
            hold: HoldTimer::default(),
            recorder: config.record.then(|| Recorder::new(&blocks)),
            link: LinkState::default(),
            named: None,
            acked: false,
            guest: Guest::Here,
            stats: Stats::default(),
            config,
            blocks,
        })
    }

    /// A source that continues a migration which another source left after the
    /// switch, with the same memory: the destination's bitmaps say what it has
    /// received. It is paused, and continues with [`Source::resume`].
    ///
    /// The other source must have ended, the memory must be what it was at the
    /// switch, and the configuration the same: a resumed link does not repeat the
    /// section id.
    ///
    /// # Errors
    ///
    /// As [`Source::new`].
    pub fn taking_over(config: Config, blocks: Blocks) -> Result<Self, Error> {
        let mut source = Self::new(config, blocks)?;
        source.dirty = PageSet::none(&source.blocks);
        source.unsent = Some(source.dirty.clone());
        source.phase = SourcePhase::Paused;
        source.guest = Guest::Loaded;
        Ok(source)
    }

    /// Returns what `channel` sends now.
    ///
    /// Appends to `out` the bytes that precede it. Pages become clean when they are
    /// handed out; after a lost link the destination's bitmaps say which of them have
    /// arrived. When the preempt channel has nothing more to send, call this for the
    /// main channel again: it ends the stream only then.
    #[must_use = "pages that were handed out must be written"]
    pub fn next(&mut self, channel: Channel, now: u64, out: &mut Vec<u8>) -> Next {
        if let Connection::Trial { until } = self.link.connection
            && now >= until
        {
            self.link.connection = Connection::Up;
        }
        self.next_on(channel, now, out)
    }

    /// Reports how many target pages of a run were zero: they are counted, and not
    /// charged to the bandwidth. Calling this is optional.
    pub fn written(&mut self, run: &PageRun, zeros: u64) {
        let zeros = zeros.min(run.len / run.page);
        self.stats.zero += zeros;
        if run.paced {
            self.pace.put_back(zeros.saturating_mul(run.page));
        }
    }

    /// Marks memory that the guest has changed; before the switch only. Every target
    /// page that the range touches is sent again.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]; [`Error::Blocks`] if the range is invalid.
    pub fn mark_dirty(&mut self, block: BlockId, start: u64, len: u64) -> Result<(), Error> {
        if !matches!(self.phase, SourcePhase::Fresh | SourcePhase::Precopy) {
            return Err(self.not_now("mark_dirty"));
        }
        self.blocks
            .check(block, start, len, 1)
            .map_err(Error::Blocks)?;
        let offset = start;
        self.dirty.add(Span { block, offset, len });
        Ok(())
    }

    /// Asks for the switch: the guest has stopped, and `device_state` is the state of
    /// its devices as a sequence of SECTION_FULL. [`Source::next`] makes the switch as
    /// soon as nothing is missing; see [`Source::is_ready_to_switch`].
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: not in precopy. [`Error::Config`]: the state is too long.
    pub fn switch(&mut self, device_state: Vec<u8>) -> Result<(), Error> {
        let len = device_state.len();
        if wide(len) > MAX_DEVICE_STATE {
            return Err(Error::Config(format!(
                "device state of {len} bytes: a package holds at most {MAX_DEVICE_STATE}"
            )));
        }
        if self.phase != SourcePhase::Precopy {
            return Err(self.not_now("switch"));
        }
        self.phase = SourcePhase::Switching;
        self.link.device_state = device_state;
        Ok(())
    }

    /// Whether [`Source::switch`] is possible now and is made at once: the migration is
    /// in precopy, and the preempt channel, the first PONG and SWITCHOVER_ACK are there
    /// as far as they are configured. Stop the guest no earlier.
    pub fn is_ready_to_switch(&self) -> bool {
        self.phase == SourcePhase::Precopy && self.has_what_the_switch_needs()
    }

    fn has_what_the_switch_needs(&self) -> bool {
        (self.config.preempt.is_none() || self.has_preempt())
            && (self.link.heard >= Heard::Start || !self.config.probe)
            && (!self.config.switchover_ack || self.acked)
    }

    /// Handles a channel that broke or was closed by the peer. The caller closes both
    /// channels and drops runs that were handed out. Calling it again, or after the
    /// end, does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::LinkLost`]: the guest is still at the source, and the migration has
    /// failed. After the switch the migration is paused, which is not an error.
    pub fn link_lost(&mut self) -> Result<(), Error> {
        let was_over = self.phase.is_over();
        self.broken();
        match self.phase {
            SourcePhase::Failed if !was_over => Err(Error::LinkLost),
            _ => Ok(()),
        }
    }

    /// Handles a malformed return path like a lost link; returns the error.
    pub fn malformed(&mut self, error: DecodeError) -> Error {
        self.broken();
        Error::Malformed(error)
    }

    /// Continues over a new main connection: the destination is asked what it has.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: not paused.
    pub fn resume(&mut self, now: u64) -> Result<(), Error> {
        if self.phase != SourcePhase::Paused {
            return Err(self.not_now("resume"));
        }
        self.phase = SourcePhase::Recovering;
        self.link.since = now;
        Ok(())
    }

    /// Changes the bandwidth of the background sweep, in bytes per second; 0 is no
    /// limit.
    pub fn set_bandwidth(&mut self, bandwidth: u64) {
        self.pace = Pace::new(bandwidth);
    }

    /// The phase of the migration.
    pub fn phase(&self) -> SourcePhase {
        self.phase
    }

    /// Whether the guest may run at the destination, and so must not run here any
    /// more: true once the package has been handed out.
    pub fn guest_left(&self) -> bool {
        self.guest != Guest::Here
    }

    /// Whether the destination has confirmed that it loaded the device state.
    pub fn is_loaded(&self) -> bool {
        self.guest == Guest::Loaded
    }

    /// The RAM blocks.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Whether nothing of the page at `offset` of a block is left to be sent; always so for a
    /// block that does not exist.
    pub fn is_sent(&self, block: BlockId, offset: u64) -> bool {
        !self.dirty.contains(block, offset)
    }

    /// Bytes of pages that have not been handed out. During a recovery it is known
    /// only when all bitmaps have been received.
    pub fn remaining(&self) -> u64 {
        let channels = [&self.link.main, &self.link.preempt];
        let rests = channels.into_iter().filter_map(|channel| channel.rest);
        self.dirty.bytes() + rests.map(|rest| rest.span.len).sum::<u64>()
    }

    /// Host pages that are requested and have not been handed out.
    pub fn waiting(&self) -> u64 {
        self.queue.wanted.pages()
    }

    /// Counters and latencies.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes allocated for pages and requests.
    pub fn memory(&self) -> usize {
        let unsent = self.unsent.as_ref().map_or(0, PageSet::memory);
        let device_state = self.link.device_state.capacity();
        let recorder = self.recorder.as_ref().map_or(0, Recorder::memory);
        self.dirty.memory() + unsent + self.queue.memory() + device_state + recorder
    }

    /// Gives the link up.
    fn broken(&mut self) {
        match (self.phase, self.guest) {
            (SourcePhase::Paused | SourcePhase::Completed | SourcePhase::Failed, _) => return,
            (_, Guest::Here) => self.phase = SourcePhase::Failed,
            _ => {
                self.phase = SourcePhase::Paused;
                self.stats.pauses += 1;
                let unsent = self.unsent.get_or_insert_with(|| self.dirty.clone());
                unsent.keep_common(&self.dirty);
            }
        }
        self.forget_link();
    }

    /// Forgets everything that belongs to the link.
    fn forget_link(&mut self) {
        self.link = LinkState::default();
        self.queue.tidy();
    }

    fn not_now(&self, call: &'static str) -> Error {
        Error::Phase {
            call,
            phase: self.phase,
        }
    }
}

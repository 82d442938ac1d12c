//! The destination core: what an incoming migration means, without any I/O.
//!
//! Its input is the events of [`retpath_codec::forward`], faults, and changes of the
//! connections; its output is placements, [`Action`]s and return-path bytes. There is no
//! clock: `now` is in nanoseconds and never decreases.
//!
//! Policies beside it decide which connections become channels ([`pending`]) and how long
//! each may take ([`deadlines`]).
//!
//! ```text
//!  events of a channel ──▶ event / run_of_pages ──▶ Placement ──▶ placed
//!  faults             ───▶ fault                ──▶ PageState
//!  connections        ───▶ link_lost, link_restored, end_of_stream
//!                          after each call: poll until None, write the outbox
//! ```
//!
//! # What the caller does
//!
//! * Carry out a [`Placement`] immediately, and report an [atomic](Placement::atomic) one
//!   with [`Destination::placed`].
//! * After each call, [`Destination::poll`] until there are no more actions, and write the
//!   [`Destination::outbox`].
//! * After an error, check [`Destination::phase`]. It is unchanged after an error of the
//!   caller; [`Phase::Paused`] if the guest may be running: close both connections and
//!   wait for a new one; and [`Phase::Failed`] before that, with SHUT(1) in the outbox.
//!
//! # Guarantees
//!
//! No sequence of calls panics, whatever the peer sends. Every number in an event is
//! checked against the blocks. A page is requested at most once on each connection, and
//! handed out for placement at most once until it is discarded. SHUT(0) is sent when every
//! page has been received and the device state is saved, and is the last message.
//!
//! It is stricter than QEMU (`savevm.c`, `postcopy-ram.c`, `ram.c`) in these cases, which
//! are errors: a page that is received twice, a target page twice in its host page, a
//! POSTCOPY_RESUME or RECV_BITMAP outside recovery or before all bitmaps, and a stream that
//! ends with pages missing.
//!
//! # Unplugged memory
//!
//! QEMU never sends unplugged memory of a virtio-mem device, and RAM records do not
//! distinguish it from pages that a faulty source left out. A page counts as unplugged
//! if both hold: the device's own state says so ([`virtio_mem`](crate::virtio_mem)),
//! and the source has not promised the page in POSTCOPY_RAM_DISCARD, which names
//! every page that it will send after the switch. Unplugged pages are neither missing
//! nor requested, and read as zeros. Any other page that has not been received when
//! the stream ends is an error.
//!
//! A source that resumes after a lost connection forgets its promises of unplugged
//! pages (`ram.c:ram_dirty_bitmap_reload`), and so does this core.
//!
//! # Memory
//!
//! At most three bits for each page (received, requested, promised), a fourth in blocks
//! of virtio-mem, each only around pages that have it; one section of a virtio-mem device,
//! one more bit while received bitmaps wait in the outbox, one host page for each channel if
//! host pages are larger than target pages, and about 1.3 MB for percentiles. Nothing grows
//! with a peer's number before it is checked against [`Config::max_ram`],
//! [`MAX_BLOCKS`] and [`MAX_PONGS`], nor with the number of its commands.

mod api;
mod assembly;
mod blocklist;
mod commands;
pub mod deadlines;
mod ending;
mod error;
pub mod pending;
mod phase;
mod placing;
mod ram;
mod recovery;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use retpath_codec::BlockName;
use retpath_codec::command::PageSizes;
use retpath_codec::forward::Event;

pub use self::api::{Action, Config, Content, Ending, Placement, Tail};
pub use self::error::{Blame, Error, ErrorKind, Location};
pub use self::phase::Phase;
pub use crate::pages::PageState;

use self::error::Cause;
use self::phase::{Completion, Device, EventClass, MainStream, PreemptStream, ReturnPath};
use self::placing::ChannelState;
use self::ram::Delivery;
use self::requests::Requests;
use crate::Channel;
use crate::bits::Bits;
use crate::blocks::{Block, Blocks};
use crate::pages::Pages;
use crate::stats::Stats;
use crate::virtio_mem::Devices;

/// Maximum number of RAM blocks.
pub const MAX_BLOCKS: usize = 4096;

/// Maximum number of PONGs that are not [written](Destination::written); QEMU sends five PINGs.
pub const MAX_PONGS: usize = 1024;

/// Maximum number of ranges of one channel that are handed out and not placed.
pub const MAX_RUNS: usize = 64;

/// Maximum number of faults that are timed at once; others are served untimed.
pub const MAX_TIMED: usize = 4096;

/// Default limit for the RAM of all blocks: 4 TiB.
pub const DEFAULT_MAX_RAM: u64 = 4 << 40;

/// An incoming migration.
#[derive(Debug)]
pub struct Destination {
    config: Config,
    phase: Phase,
    blocks: Blocks,
    pages: Pages,
    /// The virtio-mem devices, whose state says what is unplugged.
    virtio_mem: Devices,
    advice: Option<PageSizes>,
    return_path: ReturnPath,
    device: Device,
    /// Number of `ram` sections without pages, minus those with pages.
    empty_pieces: u32,
    /// Pages received in precopy by the end of the last `ram` section.
    piece: u64,
    /// Number of unanswered PINGs with `PING_PACKAGE_LOADED`, which wait for the device state.
    held: usize,
    /// Whether POSTCOPY_LISTEN has come.
    listening: bool,
    main: MainStream,
    preempt: PreemptStream,
    completion: Completion,
    /// Blocks whose bitmap has been requested in this recovery.
    asked: Bits,
    channels: [ChannelState; 2],
    requests: Requests,
    actions: VecDeque<Action>,
    stats: Stats,
}

impl Destination {
    /// A migration that has not begun.
    pub fn new(config: Config) -> Self {
        Self {
            completion: match config.confirm_end {
                true => Completion::Unconfirmed,
                false => Completion::Confirmed,
            },
            preempt: match config.preempt {
                true => PreemptStream::Open,
                false => PreemptStream::NotAgreed,
            },
            virtio_mem: Devices::new(config.max_ram),
            config,
            phase: Phase::Fresh,
            blocks: Blocks::new(4096).expect("4096 is a target page size"),
            pages: Pages::default(),
            advice: None,
            return_path: ReturnPath::Closed,
            device: Device::Arriving,
            empty_pieces: 0,
            piece: 0,
            held: 0,
            listening: false,
            main: MainStream::Open,
            asked: Bits::default(),
            channels: Default::default(),
            requests: Requests::default(),
            actions: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// A migration that another process received up to some point after the switch to
    /// postcopy. It is paused until [`Destination::link_restored`], and there is no
    /// [`Action::Block`].
    ///
    /// Each block comes with its received bitmap, as words of 64 bits; the target page
    /// size is that of `config`. `sections` are the devices' sections as received, which
    /// say what memory is unplugged; `None` if the device state is incomplete, so that the
    /// guest can only be [given back](Config::give_back).
    ///
    /// # Errors
    ///
    /// A block is invalid, or exceeds a limit.
    pub fn resumed<W>(
        config: Config,
        blocks: impl IntoIterator<Item = (Block, W)>,
        sections: Option<&[&[u8]]>,
    ) -> Result<Self, Error>
    where
        W: IntoIterator<Item = u64>,
    {
        let mut core = Self::new(config);
        for (block, received) in blocks {
            let name = block.name.clone();
            let added = core.add_block(block);
            let id =
                added.map_err(|kind| core.give_up(None, Cause::in_block(name.name(), kind)))?;
            core.pages.restore(id, received);
        }
        match sections {
            Some(sections) => {
                core.device = Device::Saved;
                core.virtio_mem = Devices::in_sections(core.config.max_ram, sections);
                core.unplug();
            }
            None => {
                core.device = Device::Lost;
                core.pages.forget();
            }
        }
        core.phase = Phase::Paused;
        core.stats.pauses = 1;
        core.return_path = ReturnPath::Open;
        core.listening = true;
        Ok(core)
    }

    /// Takes one event of a channel, in the order of its stream.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`]. Unless it is an error of the caller, the migration is paused or
    /// has failed.
    pub fn event<'a>(
        &'a mut self,
        channel: Channel,
        event: Event<'a>,
        now: u64,
    ) -> Result<Option<Placement<'a>>, Error> {
        match self.take(channel, &event, now) {
            Ok(None) => Ok(None),
            Ok(Some((span, content))) => {
                let assembly = &self.channels[channel.index()].assembly;
                Ok(Some(Placement {
                    block: span.block,
                    offset: span.offset,
                    content: content.unwrap_or_else(|| Content::Data(assembly.bytes(span.len))),
                    atomic: self.listening,
                }))
            }
            Err(cause) => Err(self.give_up(Some(channel), cause)),
        }
    }

    fn take<'a>(
        &mut self,
        channel: Channel,
        event: &Event<'a>,
        now: u64,
    ) -> Result<Option<Delivery<'a>>, Cause> {
        self.expect(channel, EventClass::of(event), event.label())?;
        if self.virtio_mem.event(event) {
            for part in self.virtio_mem.newly_unplugged(&self.blocks) {
                self.pages.unplug(part);
            }
        }
        match *event {
            Event::Record(record) => return self.record(channel, record, event.label(), now),
            Event::Command(command) => self.command(command, event.label())?,
            Event::PackageEnd => self.package_end()?,
            Event::Eof => self.eof()?,
            Event::Configuration { machine } => self.machine(machine),
            Event::Subsection(subsection) => self.subsection(&subsection)?,
            // Stored by the caller, or not needed.
            _ => {}
        }
        Ok(None)
    }

    /// Marks the memory that the virtio-mem devices say is unplugged.
    fn unplug(&mut self) {
        for part in self.virtio_mem.unplugged(&self.blocks) {
            self.pages.unplug(part);
        }
    }

    /// Returns the next action.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The bytes to write to the return path, in order: drain from the front what has been
    /// written. A call may add requests that have to be repeated, so call until it is empty.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        self.requests
            .outbox(&self.blocks, &self.pages, &mut self.stats)
    }

    /// Reports that the whole outbox, and what was moved out of it, has been written.
    /// Latency statistics depend on it, and the number of PONGs that may wait ([`MAX_PONGS`]).
    pub fn written(&mut self, now: u64) {
        self.requests.written(now);
    }

    /// Whether there is a return path: the source then waits for the last message, SHUT,
    /// before it closes.
    pub fn has_return_path(&self) -> bool {
        self.return_path != ReturnPath::Closed
    }

    /// Whether POSTCOPY_LISTEN has come: from then on each page comes once, and an early
    /// preempt channel is read.
    pub fn is_listening(&self) -> bool {
        self.listening
    }

    /// Whether the source has stopped its guest: it switched to postcopy, or has sent
    /// everything.
    pub fn has_switched(&self) -> bool {
        self.listening || self.is_main_ended()
    }

    /// Whether the main stream has ended: the source has sent everything.
    pub fn is_main_ended(&self) -> bool {
        self.main == MainStream::Ended
    }

    /// The phase of the migration.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The RAM blocks announced so far.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The states of all pages.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Statistics of the migration so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

//! The destination core: what an incoming migration means, without any I/O.
//!
//! In go the events of [`retpath_codec::forward`], faults, and news of the
//! connections; out come placements, [`Action`]s and return-path bytes. There
//! is no clock: `now` is in nanoseconds and never decreases.
//!
//! ```text
//!  events of a channel ──▶ event / run_of_pages ──▶ Placement ──▶ placed
//!  faults             ───▶ fault                ──▶ Fault
//!  connections        ───▶ link_lost, link_restored, end_of_stream
//!                          after each call: poll until None, write the outbox
//! ```
//!
//! # What the caller does
//!
//! * Carries out a [`Placement`] at once, and after [`Placement::Copy`] and
//!   [`Placement::Zero`] says so with [`Destination::placed`].
//! * After each call, [`Destination::poll`]s until there is nothing to do and
//!   writes what is in the [`Destination::outbox`].
//! * After an error, looks at [`Destination::phase`]: unchanged after a fault
//!   of the caller; [`Phase::Paused`] if the guest may be running, after which
//!   both connections must be closed and a new one awaited; [`Phase::Failed`]
//!   before that, with SHUT(1) in the outbox.
//!
//! # What it promises
//!
//! No sequence of calls makes it panic, whatever the peer sends. Every number
//! in an event is checked against the blocks. A page is requested at most once
//! on each link, and handed out for placement at most once until it is
//! discarded. SHUT(0) is sent when every page is here and the device state is
//! safe, and is the last message.
//!
//! It is stricter than QEMU (`savevm.c`, `postcopy-ram.c`, `ram.c`), and the
//! places are these: a page that is received twice, a target page twice in its
//! host page, a POSTCOPY_RESUME or RECV_BITMAP outside recovery or before all
//! bitmaps, and a stream that ends with pages missing, are errors.
//!
//! # Unplugged memory
//!
//! QEMU never sends unplugged memory of a virtio-mem device, and RAM records do not
//! distinguish it from pages that a faulty source forgot. A page counts as unplugged
//! if both hold: the device's own state says so ([`virtio_mem`](crate::virtio_mem)),
//! and the source has not promised the page in POSTCOPY_RAM_DISCARD, which names
//! everything that it will send after the switch. Unplugged pages are neither missing
//! nor requested, and read as zeros. Any other page that has not been received when
//! the stream ends is an error.
//!
//! A source that resumes after a broken link forgets its promises of unplugged
//! pages (`ram.c:ram_dirty_bitmap_reload`), and so does this core.
//!
//! # Memory
//!
//! Three bits for each page (received, requested, promised), a fourth in blocks
//! of virtio-mem, one section of a virtio-mem device, one more bit while received
//! bitmaps wait in the outbox, one host page for each channel if host pages are
//! larger than target pages, and about 1.3 MB for percentiles. Nothing grows
//! with what a peer says before it is checked against [`Config::max_ram`],
//! [`MAX_BLOCKS`] and [`MAX_PONGS`].

mod api;
mod assembly;
mod blocklist;
mod commands;
mod ending;
mod error;
mod phase;
mod placing;
mod ram;
mod recovery;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use retpath_codec::command::PageSizes;
use retpath_codec::forward::{Event, ram::Record};

pub use self::api::{Action, Config, Ending, Placed, Placement, Tail};
pub use self::error::{Blame, Error, Place, What};
pub use self::phase::Phase;
pub use crate::pages::Fault;

use self::assembly::Lane;
use self::phase::Turn;
use self::ram::Verdict;
use self::requests::Requests;
use crate::Channel;
use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks};
use crate::pages::Pages;
use crate::stats::Stats;
use crate::virtio_mem::Devices;

/// Most RAM blocks a machine may have.
pub const MAX_BLOCKS: usize = 4096;

/// Most PONGs in an outbox that is never drained; QEMU sends five PINGs.
pub const MAX_PONGS: usize = 1024;

/// Most ranges of one channel that may be handed out and not placed.
pub const MAX_RUNS: usize = 64;

/// Most faults whose waiting is timed at once; others are served untimed.
pub const MAX_TIMED: usize = 4096;

/// Limit for the RAM of all blocks unless the settings say otherwise, 4 TiB.
pub const DEFAULT_MAX_RAM: u64 = 4 << 40;

/// The PING value with which a source asks whether the device state is loaded
/// (`savevm.h`, since 10.2).
const PING_LOADED: u32 = 0x42;

/// How far the device state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Arriving,
    Complete,
    Saved,
    /// The link broke before all of it was here.
    Lost,
}

/// An incoming migration.
#[derive(Debug)]
pub struct Destination {
    config: Config,
    phase: Phase,
    blocks: Blocks,
    pages: Pages,
    /// The virtio-mem devices, which say what is unplugged.
    virtio_mem: Devices,
    /// Target page size in bytes.
    target: u64,
    /// Bytes of RAM announced.
    ram: u64,
    advice: Option<PageSizes>,
    return_path: bool,
    device: Device,
    /// Whether the events are those of a package.
    in_package: bool,
    /// Whether SWITCHOVER_ACK has been sent.
    acknowledged: bool,
    /// By how many `ram` sections without a page outnumber those with one.
    empty_pieces: u32,
    /// Pages received in precopy by the end of the last `ram` section.
    piece: u64,
    /// PINGs with [`PING_LOADED`] that wait for the device state.
    held: usize,
    /// Whether LISTEN has come.
    listened: bool,
    /// Whether EOF has come on this main channel.
    main_ended: bool,
    /// Whether this preempt channel will bring nothing more.
    preempt_ended: bool,
    /// Whether [`Action::Complete`] is out.
    asked_to_confirm: bool,
    /// Whether the end may be told to the source.
    confirmed: bool,
    /// Whether [`Action::Finished`] is out.
    told: bool,
    /// Blocks whose bitmap has been asked for in this recovery.
    asked: Bits,
    lanes: [Lane; 2],
    requests: Requests,
    actions: VecDeque<Action>,
    stats: Stats,
}

/// What decides whether an event may come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Command,
    /// The preempt channel may carry it.
    Urgent,
    /// So it may this, which ends it.
    Eos,
    Description,
    Other,
}

impl Kind {
    fn of(event: &Event<'_>) -> Self {
        match event {
            Event::Command(_) => Kind::Command,
            Event::Record(Record::Page { .. } | Record::Zero { .. }) => Kind::Urgent,
            Event::Record(Record::Eos) => Kind::Eos,
            Event::Description { .. } | Event::DescriptionBytes(_) => Kind::Description,
            _ => Kind::Other,
        }
    }
}

/// An error in the making: the channel and the phase come last.
#[derive(Debug)]
struct Flaw {
    what: What,
    place: Option<Place>,
}

impl From<What> for Flaw {
    fn from(what: What) -> Self {
        Self { what, place: None }
    }
}

impl Destination {
    /// A migration that has not begun.
    pub fn new(config: Config) -> Self {
        Self {
            confirmed: !config.confirm_end,
            target: config.target_page,
            virtio_mem: Devices::new(config.max_ram),
            config,
            phase: Phase::Fresh,
            blocks: Blocks::new(4096).expect("4096 is a target page size"),
            pages: Pages::default(),
            ram: 0,
            advice: None,
            return_path: false,
            device: Device::Arriving,
            in_package: false,
            acknowledged: false,
            empty_pieces: 0,
            piece: 0,
            held: 0,
            listened: false,
            main_ended: false,
            preempt_ended: false,
            asked_to_confirm: false,
            told: false,
            asked: Bits::default(),
            lanes: Default::default(),
            requests: Requests::default(),
            actions: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Continues a migration that another process received up to some point after the
    /// switch to postcopy. Each block comes with its received bitmap, as words of 64
    /// bits; the target page size is that of `config`. `sections` are the devices'
    /// sections as received, which say what memory is unplugged; `None` if the device
    /// state is incomplete, so that the guest can only be
    /// [given back](Config::give_back). The migration is paused until
    /// [`Destination::link_restored`]; there is no [`Action::Block`].
    ///
    /// # Errors
    ///
    /// The blocks break a rule, or are larger than the settings allow.
    pub fn taking_over<W>(
        config: Config,
        blocks: impl IntoIterator<Item = (Block, W)>,
        sections: Option<&[&[u8]]>,
    ) -> Result<Self, Error>
    where
        W: IntoIterator<Item = u64>,
    {
        let mut core = Self::new(config);
        for (block, received) in blocks {
            let place = Some(Place {
                block: block.name.clone(),
                offset: None,
            });
            core.add_block(block)
                .map_err(|what| core.give_up(None, Flaw { what, place }))?;
            core.pages.restore(received);
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
        core.return_path = true;
        core.listened = true;
        Ok(core)
    }

    /// Takes one event of a channel, in the order of its stream.
    ///
    /// # Errors
    ///
    /// See [`What`]. Unless the caller is to blame, the migration is paused or
    /// has failed.
    pub fn event<'a>(
        &'a mut self,
        channel: Channel,
        event: Event<'a>,
        now: u64,
    ) -> Result<Placement<'a>, Error> {
        match self.take(channel, &event, now) {
            Ok(verdict) => Ok(self.placement(channel, &event, verdict)),
            Err(flaw) => Err(self.give_up(Some(channel), flaw)),
        }
    }

    fn take(&mut self, channel: Channel, event: &Event<'_>, now: u64) -> Result<Verdict, Flaw> {
        self.expect(channel, Kind::of(event), event.label())?;
        // Before LISTEN the source may still promise pages.
        if channel == Channel::Main && self.virtio_mem.event(event) && self.listened {
            for part in self.virtio_mem.newly_unplugged(&self.blocks) {
                self.pages.unplug(part.block, part.start, part.len);
            }
        }
        match *event {
            Event::Record(record) => return self.record(channel, record, event.label(), now),
            Event::Command(command) => self.command(command, event.label())?,
            Event::PackageEnd => self.package_end()?,
            Event::Eof => self.eof()?,
            Event::Configuration { machine } => self.machine(machine),
            Event::Subsection(subsection) => self.subsection(&subsection)?,
            // Kept by the caller, or of no meaning here.
            Event::Header
            | Event::Section { .. }
            | Event::Footer { .. }
            | Event::DeviceState { .. }
            | Event::Description { .. }
            | Event::DescriptionBytes(_) => {}
        }
        Ok(Verdict::None)
    }

    /// Marks the memory that the virtio-mem devices say is unplugged.
    fn unplug(&mut self) {
        for part in self.virtio_mem.unplugged(&self.blocks) {
            self.pages.unplug(part.block, part.start, part.len);
        }
    }

    /// Whether anything like this may come on this channel now.
    fn expect(&self, channel: Channel, kind: Kind, what: &'static str) -> Result<(), What> {
        match (self.phase, kind) {
            (Phase::Failed, _) => return Err(What::Over),
            (Phase::Paused, _) => return Err(What::LinkDown),
            (_, Kind::Description) => {
                let legal = self.main_ended && !self.listened && channel == Channel::Main;
                return if legal {
                    Ok(())
                } else {
                    Err(What::OutOfTurn { what })
                };
            }
            (Phase::Recovering, Kind::Command) => {}
            // An early preempt channel ends behind the main channel, when all
            // pages may be here already; the main one is refused below.
            (Phase::Finished, Kind::Eos) => {}
            (Phase::Finished | Phase::Recovering, _) => return Err(What::OutOfTurn { what }),
            _ => {}
        }
        match channel {
            Channel::Main if self.main_ended => Err(What::OutOfTurn { what }),
            Channel::Main => Ok(()),
            Channel::Preempt if !self.config.preempt => Err(What::NoPreempt),
            Channel::Preempt if self.preempt_ended => Err(What::OutOfTurn { what }),
            Channel::Preempt if matches!(kind, Kind::Urgent | Kind::Eos) => Ok(()),
            Channel::Preempt => Err(What::OnPreempt { what }),
        }
    }

    /// A thread touched `offset`: says whether the page has been requested by
    /// this call, by an earlier one (the thread will be woken by the
    /// placement), or is there. If it is there, wake the thread; should the
    /// kernel find nothing there, the page is one that was zero before LISTEN,
    /// or is unplugged, and must be placed as zeros.
    ///
    /// While the link is down, the request goes out when it is restored.
    ///
    /// # Errors
    ///
    /// [`What::NoSuchPage`], [`What::NotListening`], and [`What::Over`] if the
    /// page will never come.
    pub fn fault(&mut self, block: BlockId, offset: u64, now: u64) -> Result<Fault, Error> {
        self.touch(block, offset, now)
            .map_err(|flaw| self.give_up(None, flaw))
    }

    fn touch(&mut self, id: BlockId, offset: u64, now: u64) -> Result<Fault, Flaw> {
        let Ok(block) = self.blocks.block(id) else {
            return Err(What::NoSuchPage.into());
        };
        let start = offset - offset % block.page;
        if offset >= block.len {
            return Err(self.at(id, offset, What::NoSuchPage));
        }
        if !self.listened {
            return Err(self.at(id, offset, What::NotListening));
        }
        if self.phase == Phase::Failed && !self.pages.is_received(id, start) {
            return Err(self.at(id, offset, What::Over));
        }
        let fault = self.pages.fault(id, start);
        match fault {
            Fault::Present => self.stats.faults_present += 1,
            Fault::Pending => self.stats.faults_pending += 1,
            Fault::New => {
                self.stats.faults += 1;
                self.requests.wait(id, start, now);
                // What is here already is not asked for; should the link
                // break first, its repetition will ask.
                if self.phase.is_live() && !self.is_placing(id, start, block.page) {
                    self.requests.request(id, block, start, &mut self.stats);
                }
            }
        }
        Ok(fault)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What has to be written to the return path, in order: drain from the
    /// front what has been written. A call may add requests that have to be
    /// repeated, so call until it is empty.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        self.requests
            .outbox(&self.blocks, &self.pages, &mut self.stats)
    }

    /// All of the outbox has been handed to the connection. Only the latency's
    /// parts depend on it.
    pub fn written(&mut self, now: u64) {
        self.requests.written(now);
    }

    /// Whether the source hears from here: it then waits for the last message,
    /// SHUT, before it closes.
    pub fn has_return_path(&self) -> bool {
        self.return_path
    }

    /// Whether POSTCOPY_LISTEN has come: from then on pages come once each, and
    /// an early preempt channel is read.
    pub fn is_listening(&self) -> bool {
        self.listened
    }

    /// Whether the source has stopped its guest for good: it switched to
    /// postcopy, or has sent everything.
    pub fn has_switched(&self) -> bool {
        self.listened || self.main_ended
    }

    /// Whether the main stream has ended: the source has sent everything.
    pub fn is_main_ended(&self) -> bool {
        self.main_ended
    }

    /// Where the migration stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The RAM blocks announced so far.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The states of their pages.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// What has happened so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Goes on to the next phase, if `what` may come now.
    fn turn(&mut self, turn: Turn, what: &'static str) -> Result<(), What> {
        self.phase = self.phase.after(turn).ok_or(What::OutOfTurn { what })?;
        Ok(())
    }

    /// An error at a place in a block.
    fn at(&self, id: BlockId, offset: u64, what: What) -> Flaw {
        let place = self.blocks.block(id).ok().map(|block| Place {
            block: block.name.clone(),
            offset: Some(offset),
        });
        Flaw { what, place }
    }
}

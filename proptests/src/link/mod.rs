//! Connects both cores in memory, without I/O: source → bytes → decoder →
//! destination → bytes → decoder → source.
//!
//! The caller decides how bytes travel, when the link breaks, what the guest
//! touches and when time passes.
//!
//! ```text
//!           Wire::Main     ─▶ Decoder ─▶
//!  Source   Wire::Preempt  ─▶ Decoder ─▶   Destination
//!           ◀─ Stream ◀─  Wire::Back
//! ```
//!
//! Every step checks the invariants: valid input is accepted, no page is placed
//! twice, and the guest never runs on both sides. At the end the destination's
//! memory equals the source's.

mod guest;
mod random;
mod receiver;
mod sender;

use retpath_codec::NameBuf;
use retpath_codec::stream::Stream;

pub use self::random::{link, migration, setup};

use self::guest::Guest;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::{self, Destination};
use retpath_engine::source::{self, Gather, Source};

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Forward, on the main channel.
    Main,
    /// Forward, on the preempt channel.
    Preempt,
    /// The return path.
    Back,
}

/// All wires.
pub const WIRES: [Wire; 3] = [Wire::Main, Wire::Preempt, Wire::Back];

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest runs at the destination, with all of its memory.
    Done,
    /// The link broke before the switch; the guest stays at the source.
    Stayed,
    /// The link broke between the source's last message and the destination's
    /// first; neither side can tell where the guest may run.
    Lost,
}

/// The guest and its migration settings.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Target page size in bytes.
    pub target: u64,
    /// Number and size in bytes of each block's host pages, and the block's content.
    pub blocks: Vec<(u64, u64, Vec<u8>)>,
    /// Source configuration; page sizes are filled in by [`Link::new`].
    pub config: source::Config,
    /// Device state, as the payload of SECTION_FULL.
    pub device_state: Vec<u8>,
}

impl Setup {
    /// Returns the source's blocks.
    pub fn layout(&self) -> Blocks {
        let mut blocks = Blocks::new(self.target).expect("valid page size");
        for (number, (pages, page, _)) in self.blocks.iter().enumerate() {
            let block = Block {
                name: NameBuf::new(format!("block{number}")).expect("valid name"),
                len: pages * page,
                page: *page,
            };
            blocks.add(block).expect("valid block");
        }
        blocks
    }
}

/// A migration in progress.
#[derive(Debug)]
pub struct Link {
    setup: Setup,
    blocks: Blocks,
    /// The source's configuration.
    config: source::Config,
    source: Source,
    gather: Gather,
    /// The source's return-path decoder.
    path: Stream<retpath_codec::Qemu>,
    destination: Destination,
    receiver: receiver::Receiver,
    /// The destination's memory and guest.
    guest: Guest,
    /// Bytes written but not yet delivered, by wire.
    wires: [Vec<u8>; 3],
    /// Bytes delivered over this link, by wire.
    delivered: [usize; 3],
    /// Whether the link is connected.
    up: bool,
    now: u64,
}

impl Link {
    /// Creates a migration in which nothing was sent.
    pub fn new(setup: Setup) -> Self {
        let blocks = setup.layout();
        let smallest = blocks.iter().map(|block| block.page).min();
        let mut config = setup.config.clone();
        config.host_page = smallest.unwrap_or(setup.target);
        let incoming = destination::Config::default()
            .preempt(config.preempt.is_some())
            .switchover_ack(config.switchover_ack)
            .accept_precopy_end(false)
            .target_page(setup.target)
            .host_page(config.host_page);
        Self {
            source: Source::new(config.clone(), blocks.clone()).expect("valid setup"),
            config,
            gather: Gather::new(),
            path: Stream::new(0),
            destination: Destination::new(incoming),
            receiver: receiver::Receiver::new(&setup, &blocks),
            guest: Guest::default(),
            wires: Default::default(),
            delivered: [0; 3],
            up: true,
            now: 0,
            blocks,
            setup,
        }
    }

    /// Returns the source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the destination.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Number of bytes delivered over this link.
    pub fn delivered(&self, wire: Wire) -> usize {
        self.delivered[at(wire)]
    }

    /// Bytes in flight on a wire.
    pub fn flight(&self, wire: Wire) -> &[u8] {
        &self.wires[at(wire)]
    }

    /// Ends of the items that a wire delivered over this link: events of a channel,
    /// or messages of the return path.
    pub fn boundaries(&self, wire: Wire) -> &[usize] {
        self.receiver.boundaries(wire)
    }

    /// Lets time pass, in nanoseconds.
    pub fn pass(&mut self, nanos: u64) {
        self.now += nanos;
    }

    /// Breaks the link; bytes in flight are lost.
    pub fn cut(&mut self) {
        self.up = false;
        self.wires = Default::default();
        self.delivered = [0; 3];
        self.path = Stream::new(0);
        self.receiver.cut();
        // Whether the loss is fatal depends on the phase.
        let _ = self.source.link_lost();
        self.lose_destination();
    }

    /// Replaces the source with another that takes over its state, if the phase
    /// allows it. Returns whether it did.
    pub fn replace_source(&mut self) -> bool {
        let paused = self.source.phase() == source::SourcePhase::Paused;
        if paused {
            let other = Source::taking_over(self.config.clone(), self.blocks.clone());
            self.source = other.expect("same configuration as the first source");
        }
        paused
    }

    /// Connects a new link, if the phase allows it. Returns whether it did.
    pub fn reconnect(&mut self) -> bool {
        use destination::Phase as D;
        use source::SourcePhase as S;
        let both = (self.source.phase(), self.destination.phase());
        if self.up || !matches!(both, (S::Paused, D::Paused | D::Finished)) {
            return false;
        }
        self.source.resume(self.now).expect("phase is paused");
        self.destination.link_restored().expect("phase is paused");
        self.up = true;
        true
    }

    /// Returns the outcome, if the migration ended: both sides finished, or the
    /// link is down and cannot be restored.
    pub fn outcome(&self) -> Option<Outcome> {
        use destination::Phase as D;
        use source::SourcePhase as S;
        let outcome = match (self.source.phase(), self.destination.phase()) {
            (S::Completed, D::Finished) => Outcome::Done,
            (S::Failed, _) if !self.up => {
                assert!(!self.source.guest_left());
                Outcome::Stayed
            }
            (S::Paused, D::Failed) if !self.up => {
                assert!(self.source.guest_left());
                Outcome::Lost
            }
            (S::Completed | S::Failed, _) | (_, D::Failed) => {
                panic!("{} and {}", self.source.phase(), self.destination.phase())
            }
            _ => return None,
        };
        match outcome {
            Outcome::Done => self.compare(),
            Outcome::Stayed | Outcome::Lost => {
                assert!(!self.guest.runs(), "guest runs on both sides")
            }
        }
        Some(outcome)
    }

    /// Asserts that the destination's memory equals the source's.
    fn compare(&self) {
        assert!(self.guest.runs());
        assert_eq!(self.destination.pages().missing(), 0);
        assert_eq!(self.destination.stats().duplicates, 0);
        assert_eq!(self.source.remaining(), 0);
        for (id, (_, _, bytes)) in self.setup.blocks.iter().enumerate() {
            let target = usize::try_from(self.setup.target).expect("fits in usize");
            for (page, bytes) in bytes.chunks(target).enumerate() {
                let page = u64::try_from(page).expect("fits in u64");
                let offset = page * self.setup.target;
                let got = self.guest.page(id, offset);
                assert!(got == Some(bytes), "block {id} at {offset:#x} differs");
            }
        }
    }
}

fn at(wire: Wire) -> usize {
    match wire {
        Wire::Main => 0,
        Wire::Preempt => 1,
        Wire::Back => 2,
    }
}

//! Both cores joined in memory, without I/O: source → bytes → decoder →
//! destination → bytes → decoder → source. Whoever turns the crank says how the
//! bytes travel, when the link breaks and what the guest touches; the clock
//! stands still in between.
//!
//! ```text
//!           Wire::Main     ─▶ Decoder ─▶
//!  Source   Wire::Preempt  ─▶ Decoder ─▶   Destination
//!           ◀─ Stream ◀─  Wire::Back
//! ```
//!
//! What must be true is looked at with every step: nothing that an honest peer
//! sends is refused, no page is placed over another, no guest runs twice; and in
//! the end the destination's memory is the source's.

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

/// All of them.
pub const WIRES: [Wire; 3] = [Wire::Main, Wire::Preempt, Wire::Back];

/// Where a migration is when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest runs at the destination, with all of its memory.
    Done,
    /// The link broke early: the guest never left the source.
    Stayed,
    /// The link broke between the source's last word and the destination's
    /// first: neither side can know better.
    Lost,
}

/// What is migrated, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Target page size in bytes.
    pub target: u64,
    /// Number and size in bytes of each block's host pages, and its contents.
    pub blocks: Vec<(u64, u64, Vec<u8>)>,
    /// How the source migrates. Sizes of pages are filled in.
    pub config: source::Config,
    /// State of the guest's devices, as a row of SECTION_FULL.
    pub device_state: Vec<u8>,
}

impl Setup {
    /// The source's blocks.
    pub fn layout(&self) -> Blocks {
        let mut blocks = Blocks::new(self.target).expect("a target page size");
        for (number, (pages, page, _)) in self.blocks.iter().enumerate() {
            let block = Block {
                name: NameBuf::new(format!("block{number}")).expect("a name"),
                len: pages * page,
                page: *page,
            };
            blocks.add(block).expect("a block");
        }
        blocks
    }
}

/// A migration under way.
#[derive(Debug)]
pub struct Link {
    setup: Setup,
    blocks: Blocks,
    /// The source's.
    config: source::Config,
    source: Source,
    gather: Gather,
    /// The return path, as the source reads it.
    path: Stream<retpath_codec::Qemu>,
    destination: Destination,
    receiver: receiver::Receiver,
    /// The destination's memory and its guest.
    guest: Guest,
    /// What has been written and not delivered.
    wires: [Vec<u8>; 3],
    /// Bytes delivered over this link, by wire.
    delivered: [usize; 3],
    /// Whether there is a link.
    up: bool,
    now: u64,
}

impl Link {
    /// Nothing has been sent.
    pub fn new(setup: Setup) -> Self {
        let blocks = setup.layout();
        let smallest = blocks.iter().map(|block| block.page).min();
        let mut config = setup.config.clone();
        config.host_page = smallest.unwrap_or(setup.target);
        let incoming = destination::Config {
            preempt: config.preempt.is_some(),
            switchover_ack: config.switchover_ack,
            accept_precopy_end: false,
            target_page: setup.target,
            host_page: config.host_page,
            ..destination::Config::default()
        };
        Self {
            source: Source::new(config.clone(), blocks.clone()).expect("a good setup"),
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

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The destination.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Bytes delivered over this link.
    pub fn delivered(&self, wire: Wire) -> usize {
        self.delivered[at(wire)]
    }

    /// What is on its way.
    pub fn flight(&self, wire: Wire) -> &[u8] {
        &self.wires[at(wire)]
    }

    /// Where the items of this link ended that a wire has delivered: events of
    /// a channel, or messages.
    pub fn boundaries(&self, wire: Wire) -> &[usize] {
        self.receiver.boundaries(wire)
    }

    /// Lets time pass, in nanoseconds.
    pub fn pass(&mut self, nanos: u64) {
        self.now += nanos;
    }

    /// The link breaks: nothing that is on its way arrives.
    pub fn cut(&mut self) {
        self.up = false;
        self.wires = Default::default();
        self.delivered = [0; 3];
        self.path = Stream::new(0);
        self.receiver.cut();
        // Whether that is the end depends on how far it was.
        let _ = self.source.link_lost();
        self.lose_destination();
    }

    /// The source is gone for good, and another takes over, if that is of any
    /// use. Says whether it is.
    pub fn replace_source(&mut self) -> bool {
        let paused = self.source.phase() == source::SourcePhase::Paused;
        if paused {
            let other = Source::taking_over(self.config.clone(), self.blocks.clone());
            self.source = other.expect("as good as the first");
        }
        paused
    }

    /// A new link, if one is of any use. Says whether it is.
    pub fn reconnect(&mut self) -> bool {
        use destination::Phase as D;
        use source::SourcePhase as S;
        let both = (self.source.phase(), self.destination.phase());
        if self.up || !matches!(both, (S::Paused, D::Paused | D::Finished)) {
            return false;
        }
        self.source.resume(self.now).expect("is paused");
        self.destination.link_restored().expect("is paused");
        self.up = true;
        true
    }

    /// How it ended, if it has: with a link, when both sides say so; without
    /// one, when no new link would help.
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
            Outcome::Stayed | Outcome::Lost => assert!(!self.guest.runs(), "it runs twice"),
        }
        Some(outcome)
    }

    /// The destination's memory is the source's.
    fn compare(&self) {
        assert!(self.guest.runs());
        assert_eq!(self.destination.pages().missing(), 0);
        assert_eq!(self.destination.stats().duplicates, 0);
        assert_eq!(self.source.remaining(), 0);
        for (id, (_, _, bytes)) in self.setup.blocks.iter().enumerate() {
            let target = usize::try_from(self.setup.target).expect("small");
            for (page, bytes) in bytes.chunks(target).enumerate() {
                let page = u64::try_from(page).expect("small");
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

//! Strategies for guests and for the events of their migration, which [`link`](crate::link)
//! carries out and checks.

use crate::link::{Link, Outcome, Setup, WIRES, Wire};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::{Index, select};
use retpath_engine::Channel;
use retpath_engine::source::{Config, Preempt};

/// An event of a migration.
#[derive(Clone, Debug)]
pub enum Step {
    /// The source sends what is pending on a channel.
    Send(Channel),
    /// Up to this many bytes arrive.
    Deliver(Wire, usize),
    /// The device state is saved.
    Save,
    /// The guest changes a byte, while it runs at the source.
    Change(Address, u8),
    /// The guest accesses a byte, once it runs at the destination.
    Touch(Address),
    /// Time passes, in nanoseconds.
    Pass(u64),
    /// The source stops the guest.
    Switch,
    /// The link breaks.
    Cut,
    /// A new link is connected.
    Reconnect,
}

/// An address in guest memory.
#[derive(Clone, Debug)]
pub struct Address {
    block: Index,
    offset: Index,
}

impl Address {
    /// Returns the block, and the offset in it.
    pub fn of(&self, setup: &Setup) -> (usize, u64) {
        let block = self.block.index(setup.blocks.len());
        let offset = self.offset.index(setup.blocks[block].2.len());
        (block, u64::try_from(offset).expect("fits in u64"))
    }
}

/// Generates guests of one to three blocks and their migration settings.
pub fn setups() -> impl Strategy<Value = Setup> {
    let blocks = select(&[1024_u64, 1024, 1024, 4096][..]).prop_flat_map(|target| {
        let blocks = vec(block(target), 1..=3);
        (Just(target), blocks)
    });
    (blocks, config()).prop_map(|((target, blocks), mut config)| {
        config.run *= target;
        let device_state = if config.footers {
            b"\x04\0\0\x09\0\x03cpu\0\0\0\0\0\0\0\x01state\x7e\0\0\x09\0".to_vec()
        } else {
            Vec::new()
        };
        Setup {
            target,
            blocks,
            config,
            device_state,
        }
    })
}

/// Generates host pages of 1 to 16 target pages and their content.
fn block(target: u64) -> impl Strategy<Value = (u64, u64, Vec<u8>)> {
    let shape = prop_oneof![
        2 => (1..20_u64, Just(0)),
        1 => (1..4_u64, 1..=4_u32),
    ];
    (shape, vec(page(), 80)).prop_map(move |((pages, shift), contents)| {
        let page = target << shift;
        let size = usize::try_from(target).expect("fits in usize");
        let count = usize::try_from(pages << shift).expect("fits in usize");
        let contents = contents.iter().cycle().take(count);
        let bytes = contents.flat_map(|content| content.bytes(size)).collect();
        (pages, page, bytes)
    })
}

/// Content of a target page.
#[derive(Clone, Debug)]
enum Content {
    Zero,
    Fill(u8),
    /// Zeros except for this byte.
    SingleByte(Index, u8),
    Noise(u64),
}

fn page() -> impl Strategy<Value = Content> {
    prop_oneof![
        2 => Just(Content::Zero),
        1 => any::<u8>().prop_map(Content::Fill),
        2 => (any::<Index>(), 1..=u8::MAX).prop_map(|(at, byte)| Content::SingleByte(at, byte)),
        2 => any::<u64>().prop_map(Content::Noise),
    ]
}

impl Content {
    fn bytes(&self, size: usize) -> Vec<u8> {
        match *self {
            Self::Zero => vec![0; size],
            Self::Fill(byte) => vec![byte; size],
            Self::SingleByte(at, byte) => {
                let mut bytes = vec![0; size];
                bytes[at.index(size)] = byte;
                bytes
            }
            Self::Noise(seed) => {
                let mut state = seed | 1;
                let step = || {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_be_bytes()[0]
                };
                std::iter::repeat_with(step).take(size).collect()
            }
        }
    }
}

/// Generates source configurations. `run` counts target pages.
fn config() -> impl Strategy<Value = Config> {
    let preempt = select(&[None, Some(Preempt::Late), Some(Preempt::Early)][..]);
    let numbers = (preempt, 1..256_u32, select(&[0, 0, 1 << 24][..]), 1..=8_u64);
    (numbers, any::<[bool; 7]>()).prop_map(|((preempt, section, bandwidth, run), on)| {
        Config::new("pc")
            .preempt(preempt)
            .section(section)
            .bandwidth(bandwidth)
            .run(run)
            .footers(on[0])
            .configuration(on[1])
            .page_bits(on[2])
            .switchover_start(on[3])
            .switchover_ack(on[4])
            .ping_loaded(on[5])
            .outer_pings(on[6])
    })
}

/// Generates events. With `cuts`, the link breaks at times, mostly after the
/// switch, because an earlier break ends the migration.
pub fn steps(cuts: bool) -> impl Strategy<Value = Vec<Step>> {
    let early = prop_oneof![4 => vec(step(false), 0..60), 1 => vec(step(cuts), 0..60)];
    (early, vec(step(cuts), 0..300)).prop_map(|(mut steps, late)| {
        steps.push(Step::Switch);
        steps.extend(late);
        steps
    })
}

fn step(cuts: bool) -> impl Strategy<Value = Step> {
    let address =
        || (any::<Index>(), any::<Index>()).prop_map(|(block, offset)| Address { block, offset });
    let few = prop_oneof![0..9_usize, 0..9000_usize];
    prop_oneof![
        12 => Just(Step::Send(Channel::Main)),
        6 => Just(Step::Send(Channel::Preempt)),
        12 => few.prop_map(|count| Step::Deliver(Wire::Main, count)),
        4 => (0..9000_usize).prop_map(|count| Step::Deliver(Wire::Preempt, count)),
        6 => (0..60_usize).prop_map(|count| Step::Deliver(Wire::Back, count)),
        3 => Just(Step::Save),
        3 => (address(), any::<u8>()).prop_map(|(address, byte)| Step::Change(address, byte)),
        5 => address().prop_map(Step::Touch),
        3 => (0..30_000_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Switch),
        1 => Just(if cuts { Step::Cut } else { Step::Reconnect }),
        3 => Just(Step::Reconnect),
    ]
}

/// A migration in progress with an observer.
#[derive(Debug)]
pub struct Migration<W> {
    link: Link,
    setup: Setup,
    /// Receives all traffic.
    pub observer: W,
}

/// Observes what each side sends and receives.
pub trait Observer {
    /// Bytes were written.
    fn sent(&mut self, wire: Wire, bytes: &[u8]);
    /// Bytes arrive; this is called before their effects are observed.
    fn delivered(&mut self, wire: Wire, bytes: &[u8]);
    /// The link broke; bytes in flight are lost.
    fn link_lost(&mut self);
}

/// Ignores all traffic.
impl Observer for () {
    fn sent(&mut self, _: Wire, _: &[u8]) {}
    fn delivered(&mut self, _: Wire, _: &[u8]) {}
    fn link_lost(&mut self) {}
}

impl<W: Observer> Migration<W> {
    /// Creates a migration in which nothing was sent.
    pub fn new(setup: &Setup, observer: W) -> Self {
        Self {
            link: Link::new(setup.clone()),
            setup: setup.clone(),
            observer,
        }
    }

    /// Performs all steps, finishes over a reliable link, and returns the outcome.
    pub fn run(&mut self, steps: &[Step]) -> Outcome {
        for step in steps {
            self.step(step);
            if let Some(outcome) = self.link.outcome() {
                return outcome;
            }
        }
        let rest = [
            Step::Reconnect,
            Step::Switch,
            Step::Save,
            Step::Send(Channel::Preempt),
            Step::Send(Channel::Main),
            Step::Deliver(Wire::Main, usize::MAX),
            Step::Deliver(Wire::Preempt, usize::MAX),
            Step::Deliver(Wire::Back, usize::MAX),
        ];
        for _ in 0..100_000 {
            if let Some(outcome) = self.link.outcome() {
                return outcome;
            }
            for step in &rest {
                self.step(step);
            }
        }
        panic!("migration does not end: {:?}", self.link);
    }

    fn step(&mut self, step: &Step) {
        let mut before = WIRES.map(|wire| self.link.flight(wire).len());
        match step {
            Step::Send(channel) => self.link.wait(*channel),
            Step::Deliver(wire, count) => {
                let flight = self.link.flight(*wire);
                let bytes = flight[..flight.len().min(*count)].to_vec();
                // Bytes that were not read stay on the wire.
                let count = self.link.deliver(*wire, *count);
                if count > 0 {
                    self.observer.delivered(*wire, &bytes[..count]);
                }
                let at = WIRES.iter().position(|other| other == wire);
                before[at.expect("one of WIRES")] -= count;
            }
            Step::Save => drop(self.link.save()),
            Step::Change(address, byte) => {
                let (block, offset) = address.of(&self.setup);
                self.link.change(block, offset, *byte);
            }
            Step::Touch(address) => {
                let (block, offset) = address.of(&self.setup);
                self.link.touch(block, offset);
            }
            Step::Pass(nanos) => self.link.pass(*nanos),
            Step::Switch => drop(self.link.switch()),
            Step::Cut => {
                self.link.cut();
                self.observer.link_lost();
                before = [0; 3];
            }
            Step::Reconnect => drop(self.link.reconnect()),
        }
        for (wire, before) in WIRES.into_iter().zip(before) {
            let new = &self.link.flight(wire)[before..];
            if !new.is_empty() {
                self.observer.sent(wire, new);
            }
        }
    }
}

//! Invariants of the message order: each item that a core sends is checked
//! against what the core has received.
//!
//! The checkers know nothing of the cores' implementation; they record traffic
//! in sets.

mod destination;
mod source;
mod wires;

use proptest::prelude::*;
use retpath_codec::forward::{Decoder, Options};
use retpath_engine::blocks::Blocks;
use retpath_proptests::config;
use retpath_proptests::guest::{Migration, Observer, setups, steps};
use retpath_proptests::link::{Setup, Wire};

use destination::Destination;
use source::Source;
use wires::Wires;

/// Checks all traffic of a migration.
#[derive(Debug)]
struct OrderChecker {
    source: Source,
    destination: Destination,
    /// Decoders of each wire at its sending and at its receiving end.
    written: Wires,
    read: Wires,
}

impl OrderChecker {
    fn new(setup: &Setup, blocks: &Blocks) -> Self {
        let smallest = blocks.iter().map(|block| block.page).min();
        let decoder = Decoder::new(
            Options::default()
                .target_page(setup.target)
                .host_page(smallest.expect("there is at least one block")),
        );
        Self {
            source: Source::new(blocks),
            destination: Destination::new(blocks),
            written: Wires::new(blocks, decoder.clone()),
            read: Wires::new(blocks, decoder),
        }
    }
}

impl Observer for OrderChecker {
    fn sent(&mut self, wire: Wire, bytes: &[u8]) {
        for item in self.written.read(wire, bytes) {
            match wire {
                Wire::Main | Wire::Preempt => self.source.sends(&item),
                Wire::Back => self.destination.sends(&item),
            }
        }
    }

    fn delivered(&mut self, wire: Wire, bytes: &[u8]) {
        for item in self.read.read(wire, bytes) {
            match wire {
                Wire::Main | Wire::Preempt => self.destination.receives(&item),
                Wire::Back => self.source.receives(&item),
            }
        }
    }

    fn link_lost(&mut self) {
        self.written.next_link();
        self.read.next_link();
        self.source.link_lost();
        self.destination.link_lost();
    }
}

proptest! {
    #![proptest_config(config("proptest-regressions/invariants.txt"))]

    #[test]
    fn cores_keep_the_message_order(setup in setups(), steps in steps(true)) {
        let blocks = setup.layout();
        Migration::new(&setup, OrderChecker::new(&setup, &blocks)).run(&steps);
    }
}

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
use retpath_proptests::guest::{Move, Watch, setups, steps};
use retpath_proptests::link::{Setup, Wire};

use destination::Destination;
use source::Source;
use wires::Wires;

/// Checks all traffic of a migration.
#[derive(Debug)]
struct Sheriff {
    source: Source,
    destination: Destination,
    /// Decoders of each wire at its sending and at its receiving end.
    written: Wires,
    read: Wires,
}

impl Sheriff {
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

impl Watch for Sheriff {
    fn leaves(&mut self, wire: Wire, bytes: &[u8]) {
        for said in self.written.read(wire, bytes) {
            match wire {
                Wire::Main | Wire::Preempt => self.source.says(&said),
                Wire::Back => self.destination.says(&said),
            }
        }
    }

    fn arrives(&mut self, wire: Wire, bytes: &[u8]) {
        for said in self.read.read(wire, bytes) {
            match wire {
                Wire::Main | Wire::Preempt => self.destination.hears(&said),
                Wire::Back => self.source.hears(&said),
            }
        }
    }

    fn breaks(&mut self) {
        self.written.next_link();
        self.read.next_link();
        self.source.breaks();
        self.destination.breaks();
    }
}

proptest! {
    #![proptest_config(config("proptest-regressions/laws.txt"))]

    #[test]
    fn say_everything_in_its_turn(setup in setups(), steps in steps(true)) {
        let blocks = setup.layout();
        Move::new(&setup, Sheriff::new(&setup, &blocks)).run(&steps);
    }
}

//! The order of what the two cores say, whatever happens to them: each thing
//! that one of them writes is looked at in the light of what it has heard.
//!
//! Nothing here knows how a core works; what it has heard is kept in sets.

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

/// Who looks after the laws.
#[derive(Debug)]
struct Sheriff {
    source: Source,
    destination: Destination,
    /// The wires where they are written, and where they are read.
    written: Wires,
    read: Wires,
}

impl Sheriff {
    fn new(setup: &Setup, blocks: &Blocks) -> Self {
        let smallest = blocks.iter().map(|block| block.page).min();
        let decoder = Decoder::new(
            Options::default()
                .target_page(setup.target)
                .host_page(smallest.expect("there is a block")),
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

//! Random migrations over unreliable links.

use super::{Link, Outcome, Setup, WIRES, Wire};
use crate::choices::Choices;
use retpath_engine::Channel;
use retpath_engine::source::{Config, Next, Preempt};

/// Interprets `bytes` as a guest and the events of its link.
pub fn link(bytes: &[u8]) {
    migration(&mut Choices::from_bytes(bytes));
}

/// Migrates a random guest over a link that splits, delays and reorders bytes
/// between channels and breaks at any point, and returns the outcome.
///
/// Asserts that the outcome is legal and that after success both memories match.
pub fn migration(choices: &mut Choices<'_>) -> Outcome {
    let mut link = Link::new(setup(choices));
    let mut cuts = choices.below(5);
    let patience = choices.below(60);
    loop {
        link.turn(choices);
        link.switch_after(patience);
        if cuts > 0 && choices.one_in(40) {
            cuts -= 1;
            link.cut();
        }
        if let Some(outcome) = link.outcome() {
            return outcome;
        }
        if !link.up && choices.one_in(4) {
            if choices.one_in(4) {
                assert!(link.replace_source());
            }
            assert!(link.reconnect());
        }
        if choices.is_empty() {
            return link.finish();
        }
    }
}

/// Generates a guest and its migration settings.
pub fn setup(choices: &mut Choices<'_>) -> Setup {
    let target = [1024, 4096][choices.index(2)];
    let mut blocks = Vec::new();
    for _ in 0..1 + choices.below(3) {
        let page = target << [0, 0, 1, 2, 4][choices.index(5)];
        let pages = 1 + choices.below(if page == target { 20 } else { 5 });
        let size = usize::try_from(pages * page).expect("fits in usize");
        let mut bytes = vec![0; size];
        for page in bytes.chunks_mut(usize::try_from(target).expect("fits in usize")) {
            if !choices.one_in(3) {
                let place = choices.index(page.len());
                page[place] = choices.byte();
                page[0] = choices.byte();
            }
        }
        blocks.push((pages, page, bytes));
    }
    let config = Config::new("pc")
        .preempt([None, Some(Preempt::Late), Some(Preempt::Early)][choices.index(3)])
        .footers(!choices.one_in(5))
        .configuration(choices.one_in(2))
        .page_bits(choices.one_in(2))
        .section(1 + u32::from(choices.byte()))
        .bandwidth([0, 0, 1 << 24][choices.index(3)])
        .switchover_start(choices.one_in(2))
        .switchover_ack(choices.one_in(2))
        .ping_loaded(choices.one_in(2))
        .outer_pings(choices.one_in(2))
        .run(target * (1 + choices.below(8)));
    let device_state = if config.footers && choices.one_in(2) {
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
}

impl Link {
    /// Performs one random event.
    pub fn turn(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..3 => self.wait(Channel::Main),
            3..5 => self.wait(Channel::Preempt),
            5..8 => drop(self.deliver(Wire::Main, choices.index(9000))),
            8 => drop(self.deliver(Wire::Main, choices.index(9))),
            9 => drop(self.deliver(Wire::Preempt, choices.index(9000))),
            10..12 => drop(self.deliver(Wire::Back, choices.index(40))),
            12 => drop(self.save()),
            13 => {
                let (block, offset) = self.anywhere(choices);
                self.change(block, offset, choices.byte());
            }
            14 => {
                let (block, offset) = self.anywhere(choices);
                self.touch(block, offset);
            }
            _ => self.pass(choices.below(30_000_000)),
        }
    }

    /// Returns a random block and an offset in it.
    fn anywhere(&self, choices: &mut Choices<'_>) -> (usize, u64) {
        let block = choices.index(self.blocks.len());
        let len = self.blocks.block(block).expect("block exists").len;
        (block, choices.below(len))
    }

    /// Switches once `patience` turns have passed or every page was sent.
    fn switch_after(&mut self, patience: u64) {
        if self.source.remaining() == 0 || self.delivered(Wire::Main) as u64 > patience * 4096 {
            self.switch();
        }
    }

    /// Sends what is pending on a channel, then advances the clock by the wait the
    /// source asks for.
    pub fn wait(&mut self, channel: Channel) {
        if let Next::Wait { until: Some(until) } = self.send(channel) {
            self.now = self.now.max(until);
        }
    }

    /// Completes the migration over a reliable link.
    ///
    /// # Panics
    ///
    /// Panics if the migration does not end.
    pub fn finish(&mut self) -> Outcome {
        for _ in 0..100_000 {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            if !self.up {
                assert!(self.reconnect());
            }
            self.switch();
            self.save();
            self.wait(Channel::Preempt);
            self.wait(Channel::Main);
            for wire in WIRES {
                self.deliver(wire, usize::MAX);
            }
        }
        panic!("migration does not end: {self:?}")
    }
}

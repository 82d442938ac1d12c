//! The machine that is migrated: its settings, and what arrives of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::{self, Event};
use retpath_codec::{BlockName, NameBuf};
use retpath_engine::blocks::{Block, BlockId};
use retpath_engine::destination;
use retpath_engine::driver::{Content, DestinationHandler, HandlerError, RunError};
use retpath_engine::memory::Memory;
use retpath_engine::source::{Config, Preempt};

use super::MAX_RAM;
use crate::choices::Choices;
use crate::link::Setup;

/// Generates a small guest and its migration settings.
pub(super) fn setup(choices: &mut Choices<'_>) -> Setup {
    let target = [1024, 1024, 1024, 4096][choices.index(4)];
    let mut blocks = Vec::new();
    for _ in 0..1 + choices.below(2) {
        let page = target << [0, 0, 0, 1, 2][choices.index(5)];
        let pages = 1 + choices.below(12);
        let size = usize::try_from(pages * page).expect("fits in usize");
        let mut bytes = vec![0; size];
        for page in bytes.chunks_mut(usize::try_from(target).expect("fits in usize")) {
            page[0] = [0, 1, 2][choices.index(3)];
        }
        blocks.push((pages, page, bytes));
    }
    let flags = choices.byte();
    let flag = |bit: u32| flags >> bit & 1 == 1;
    let config = Config::new("pc")
        .preempt([None, Some(Preempt::Late), Some(Preempt::Early)][choices.index(3)])
        .footers(!flag(0) || flag(1))
        .configuration(flag(2))
        .section(1 + u32::from(flags))
        .switchover_start(flag(3))
        .switchover_ack(flag(4))
        .ping_loaded(flag(5))
        .outer_pings(flag(6))
        .probe(flag(7))
        .bandwidth([0, 0, 1 << 24][choices.index(3)])
        .run(target * (1 + choices.below(4)));
    let device_state = match config.footers {
        true => b"\x04\0\0\x09\0\x03cpu\0\0\0\0\0\0\0\x01state\x7e\0\0\x09\0".to_vec(),
        false => Vec::new(),
    };
    Setup {
        target,
        blocks,
        config,
        device_state,
    }
}

/// The settings of a destination for this guest.
pub(super) fn settings(setup: &Setup, is_hostile: bool) -> (destination::Config, forward::Options) {
    let smallest = setup.blocks.iter().map(|(_, page, _)| *page).min();
    let host_page = smallest.unwrap_or(setup.target);
    let core = destination::Config::default()
        .preempt(setup.config.preempt.is_some())
        .switchover_ack(setup.config.switchover_ack)
        .accept_precopy_end(is_hostile)
        .target_page(setup.target)
        .host_page(host_page)
        .max_ram(MAX_RAM);
    let stream = forward::Options::default()
        .target_page(setup.target)
        .host_page(host_page);
    (core, stream)
}

/// The machine that is received.
pub(super) struct Guest {
    /// Whether nothing has arrived.
    pub(super) is_fresh: bool,
    pub(super) may_go_back: bool,
    names: Vec<NameBuf>,
    lengths: Vec<u64>,
    target: u64,
    /// Target pages, by block and offset.
    pages: BTreeMap<(BlockId, u64), Vec<u8>>,
    listens: bool,
    pub(super) runs: bool,
    /// Chooses what the running guest accesses.
    pub(super) accesses: Choices<'static>,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            is_fresh: true,
            may_go_back: false,
            names: Vec::new(),
            lengths: Vec::new(),
            target: 0,
            pages: BTreeMap::new(),
            listens: false,
            runs: false,
            accesses: Choices::seeded(0),
        }
    }
}

impl Guest {
    /// Asserts that the memory is that of the source.
    pub(super) fn compare(&self, memory: &[Vec<u8>]) {
        assert!(self.runs);
        for (block, bytes) in memory.iter().enumerate() {
            let target = usize::try_from(self.target).expect("fits in usize");
            let pages = (0..).step_by(target).zip(bytes.chunks(target));
            for (offset, page) in pages {
                let got = self.pages.get(&(block, offset));
                let same = got.is_some_and(|got| got == page);
                assert!(same, "block {block} at {offset:#x} differs");
            }
        }
    }
}

impl DestinationHandler for Guest {
    fn memory(&mut self, block: &Block, target: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        self.names.push(block.name.clone());
        self.lengths.push(block.len);
        self.target = target;
        Ok(None)
    }

    fn page(
        &mut self,
        block: BlockId,
        offset: u64,
        content: Content<'_>,
    ) -> Result<(), HandlerError> {
        let target = self.target;
        let mut put = |at, page: Vec<u8>| {
            let before = self.pages.insert((block, at), page);
            let twice = self.listens && before.is_some();
            assert!(!twice, "{at:#x} of block {block} is placed twice");
        };
        let step = usize::try_from(target).expect("fits in usize");
        match content {
            Content::Data(data) => {
                for (at, page) in (offset..).step_by(step).zip(data.chunks(step)) {
                    put(at, page.to_vec());
                }
            }
            Content::Zero(len) => {
                for at in (offset..offset + len).step_by(step) {
                    put(at, vec![0; step]);
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        self.is_fresh = false;
        match event {
            Event::Command(Command::PostcopyListen) => self.listens = true,
            Event::Command(Command::PostcopyRamDiscard { block, ranges }) if !self.listens => {
                let id = self.names.iter().position(|name| name.name() == *block);
                for range in ranges.iter() {
                    let end = range.start.saturating_add(range.len);
                    self.pages.retain(|(one, at), _| {
                        Some(*one) != id || !(range.start..end).contains(at)
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn run(&mut self) {
        assert!(!self.runs);
        self.runs = true;
    }

    fn fault(&mut self) -> Option<(BlockId, u64)> {
        if !self.runs || !self.accesses.one_in(4) {
            return None;
        }
        let block = self.accesses.index(self.lengths.len());
        Some((block, self.accesses.below(self.lengths[block])))
    }

    fn may_go_back(&self) -> bool {
        self.may_go_back
    }

    fn failed(&mut self, _: &RunError) -> bool {
        true
    }
}

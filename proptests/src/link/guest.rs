//! Simulates the destination's kernel memory and guest with a map of present
//! target pages.

use std::collections::{BTreeMap, BTreeSet};

use retpath_engine::blocks::BlockId;

/// A target page: block and offset.
type Page = (BlockId, u64);

#[derive(Debug, Default)]
pub(super) struct Guest {
    pages: BTreeMap<Page, Vec<u8>>,
    /// Whether accesses to missing pages are trapped.
    traps: bool,
    runs: bool,
    /// Pages that a guest thread waits for.
    waits: BTreeSet<Page>,
}

impl Guest {
    /// Writes a page before accesses are trapped.
    pub(super) fn write(&mut self, block: BlockId, offset: u64, bytes: &[u8]) {
        assert!(
            !self.traps,
            "{offset:#x} of block {block} is written after LISTEN"
        );
        self.pages.insert((block, offset), bytes.to_vec());
    }

    /// Places a missing page.
    pub(super) fn place(&mut self, block: BlockId, offset: u64, bytes: &[u8]) {
        assert!(
            self.traps,
            "{offset:#x} of block {block} is placed before LISTEN"
        );
        let there = self.pages.insert((block, offset), bytes.to_vec());
        assert!(
            there.is_none(),
            "{offset:#x} of block {block} is placed twice"
        );
        self.waits.remove(&(block, offset));
    }

    /// Discards the content of a range.
    pub(super) fn discard(&mut self, block: BlockId, start: u64, len: u64) {
        assert!(
            !self.traps,
            "{start:#x} of block {block} is discarded after LISTEN"
        );
        self.pages
            .retain(|(id, at), _| *id != block || !(start..start + len).contains(at));
    }

    pub(super) fn listen(&mut self) {
        assert!(!self.traps);
        self.traps = true;
    }

    pub(super) fn run(&mut self) {
        assert!(self.traps && !self.runs);
        self.runs = true;
    }

    pub(super) fn runs(&self) -> bool {
        self.runs
    }

    pub(super) fn page(&self, block: BlockId, offset: u64) -> Option<&[u8]> {
        self.pages.get(&(block, offset)).map(Vec::as_slice)
    }

    /// Adds a guest thread that waits for a missing page.
    pub(super) fn wait(&mut self, block: BlockId, offset: u64) {
        self.waits.insert((block, offset));
    }

    pub(super) fn waits(&self) -> usize {
        self.waits.len()
    }
}

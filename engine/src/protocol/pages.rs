//! Page states at the destination: missing → requested → received.
//!
//! One bit for each target page (received), two for each host page (requested, promised).
//! After the switch the target pages of a host page become received together, when the
//! host page has been placed.
//!
//! Unplugged host pages are a separate state, one more bit for each in blocks that have
//! any: they are neither missing nor received, and are not requested. A page that the
//! source has sent, or has promised to send by discarding it, is never unplugged.
//!
//! Callers check ranges. Nothing is missing of an unknown block, and offsets beyond the end
//! of a block have no effect.

use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Span};
use crate::protocol::page_set::PageSet;

#[cfg(test)]
mod tests;

/// Page states of all blocks.
#[derive(Debug, Default)]
pub struct Pages {
    /// Target pages.
    received: PageSet,
    /// Host pages that are requested and not received.
    requested: PageSet,
    /// Host pages that the source will send again.
    promised: PageSet,
    /// Host pages that will not be sent.
    unplugged: PageSet,
    /// Bytes of all blocks.
    len: u64,
    /// Target page size in bytes.
    target: u64,
}

/// The state in which a fault found its host page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Request it now.
    Missing,
    /// Requested before.
    Requested,
    /// Received in the meantime; or unplugged, so that it reads as zeros.
    Present,
}

impl Pages {
    /// Adds a block with target pages of `target` bytes, all of them missing.
    pub fn add(&mut self, block: &Block, target: u64) {
        self.received.push(block.len, target);
        for set in [&mut self.requested, &mut self.promised, &mut self.unplugged] {
            set.push(block.len, block.page);
        }
        self.len += block.len;
        self.target = target;
    }

    /// Marks every page as missing: the source will send all of them.
    pub fn forget(&mut self) {
        let host = [&mut self.requested, &mut self.promised, &mut self.unplugged];
        for set in host.into_iter().chain([&mut self.received]) {
            set.clear();
        }
    }

    /// Sets which target pages of a block have been received, as words of 64 bits. A
    /// host page that is partly missing counts as missing: it can only come as a whole.
    pub fn restore(&mut self, block: BlockId, words: impl IntoIterator<Item = u64>) {
        self.received.assign(block, words);
        let len = self.requested.unit(block);
        let mut at = 0;
        while len > self.target
            && let Some(gap) = self.received.gap(block, at)
        {
            let offset = gap - gap % len;
            self.received.remove(Span { block, offset, len });
            at = offset + len;
        }
    }

    /// Whether the target page at `offset` has been received.
    pub fn is_received(&self, block: BlockId, offset: u64) -> bool {
        self.received.contains(block, offset)
    }

    /// Whether any target page in the range has been received.
    pub fn any_received(&self, span: Span) -> bool {
        self.received.first_in(span).is_some()
    }

    /// Handles a fault on the host page at `offset`.
    pub fn fault(&mut self, block: BlockId, offset: u64) -> PageState {
        let len = 1;
        let is_unknown = self.received.bits(block).is_none();
        if is_unknown || self.is_received(block, offset) || self.unplugged.contains(block, offset) {
            return PageState::Present;
        }
        match self.requested.add(Span { block, offset, len }) {
            0 => PageState::Requested,
            _ => PageState::Missing,
        }
    }

    /// Marks a range as received. Returns how many of its host pages were requested.
    pub fn receive(&mut self, span: Span) -> u64 {
        self.received.add(span);
        self.unplugged.remove(span);
        self.requested.remove(span)
    }

    /// Marks a range as missing: the source will send it again. Returns how many of its
    /// target pages were received.
    pub fn discard(&mut self, span: Span) -> u64 {
        self.promised.add(span);
        self.unplugged.remove(span);
        self.requested.remove(span);
        self.received.remove(span)
    }

    /// Marks a range of whole host pages as unplugged, except for pages that the source has
    /// sent or promised.
    pub fn unplug(&mut self, span: Span) {
        self.unplugged.add(span);
        let sent = self.received.runs_in(span);
        for run in sent.chain(self.promised.runs_in(span)) {
            self.unplugged.remove(run);
        }
    }

    /// Drops the source's promises in a range of whole host pages.
    pub fn forget_promises(&mut self, span: Span) {
        self.promised.remove(span);
    }

    /// The received target pages of a block.
    pub fn received(&self, block: BlockId) -> Option<&Bits> {
        self.received.bits(block)
    }

    /// Offset of the first requested host page that a range touches.
    pub fn first_requested_in(&self, span: Span) -> Option<u64> {
        Some(self.requested.first_in(span)?.offset)
    }

    /// Offsets of the requested host pages that a range touches.
    pub fn requested_in(&self, span: Span) -> impl Iterator<Item = u64> + '_ {
        self.requested.runs_in(span).flat_map(|run| {
            let page = self.requested.unit(run.block);
            (run.offset / page..run.end() / page).map(move |at| at * page)
        })
    }

    /// A host page of a block that is only partly received.
    pub fn torn(&self, block: BlockId) -> Option<u64> {
        let mut edges = self
            .received(block)?
            .runs()
            .flat_map(|(at, len)| [at, at + len]);
        let page = self.requested.unit(block);
        let torn = edges.find(|edge| !(edge * self.target).is_multiple_of(page))?;
        Some(torn * self.target / page * page)
    }

    /// Number of host pages that are requested and not received.
    pub fn pending(&self) -> u64 {
        self.requested.pages()
    }

    /// Number of missing target pages, including requested ones.
    pub fn missing(&self) -> u64 {
        self.count(self.len - self.received.bytes() - self.unplugged.bytes())
    }

    /// Number of unplugged target pages.
    pub fn unplugged(&self) -> u64 {
        self.count(self.unplugged.bytes())
    }

    /// Block and offset of the first missing target page.
    pub fn first_missing(&self) -> Option<(BlockId, u64)> {
        let mut blocks = self.received.blocks();
        blocks.find_map(|block| {
            let mut at = self.received.gap(block, 0)?;
            while self.unplugged.contains(block, at) {
                let plugged = self.unplugged.gap(block, at)?;
                at = self.received.gap(block, plugged)?;
            }
            Some((block, at))
        })
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        let sets = [
            &self.received,
            &self.requested,
            &self.promised,
            &self.unplugged,
        ];
        sets.map(PageSet::memory).iter().sum()
    }

    /// Number of target pages in this many bytes.
    fn count(&self, bytes: u64) -> u64 {
        bytes.checked_div(self.target).unwrap_or(0)
    }
}

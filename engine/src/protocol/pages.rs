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
use crate::blocks::{Block, BlockId};

#[cfg(test)]
mod tests;

/// Page states of all blocks.
#[derive(Debug, Default)]
pub struct Pages {
    blocks: Vec<States>,
}

#[derive(Debug)]
struct States {
    /// Target pages.
    received: Bits,
    /// Host pages that are requested and not received.
    requested: Bits,
    /// Host pages that the source will send again; empty before the first one.
    promised: Bits,
    /// Host pages that will not be sent; empty before the first one.
    unplugged: Bits,
    /// Target page size in bytes.
    target: u64,
    /// Host page size in bytes.
    page: u64,
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
        self.blocks.push(States {
            received: Bits::new(block.len / target),
            requested: Bits::new(block.len / block.page),
            promised: Bits::default(),
            unplugged: Bits::default(),
            target,
            page: block.page,
        });
    }

    /// Marks every page as missing: the source will send all of them.
    pub fn forget(&mut self) {
        for s in &mut self.blocks {
            s.received = Bits::new(s.received.len());
            s.requested = Bits::new(s.requested.len());
            s.promised = Bits::default();
            s.unplugged = Bits::default();
        }
    }

    /// Sets which target pages of the last block have been received, as words of 64 bits. A
    /// host page that is partly missing counts as missing: it can only come as a whole.
    pub fn restore(&mut self, words: impl IntoIterator<Item = u64>) {
        let Some(s) = self.blocks.last_mut() else {
            return;
        };
        s.received.assign(words);
        let ratio = s.page / s.target;
        if ratio == 1 {
            return;
        }
        let mut at = 0;
        while let Some(gap) = s.received.next_gap(at) {
            let first = gap - gap % ratio;
            s.received.clear_range(first, ratio);
            at = first + ratio;
        }
    }

    /// Whether the target page at `offset` has been received.
    pub fn is_received(&self, block: BlockId, offset: u64) -> bool {
        self.blocks
            .get(block)
            .is_some_and(|s| s.received.test(offset / s.target))
    }

    /// Whether any target page in the range has been received.
    pub fn any_received(&self, block: BlockId, offset: u64, len: u64) -> bool {
        self.blocks
            .get(block)
            .is_some_and(|s| s.received.count_range(offset / s.target, len / s.target) > 0)
    }

    /// Handles a fault on the host page at `offset`.
    pub fn fault(&mut self, block: BlockId, offset: u64) -> PageState {
        let Some(s) = self.blocks.get_mut(block) else {
            return PageState::Present;
        };
        if s.received.test(offset / s.target) || s.unplugged.test(offset / s.page) {
            return PageState::Present;
        }
        if s.requested.set(offset / s.page) {
            PageState::Missing
        } else {
            PageState::Requested
        }
    }

    /// Marks a range as received. Returns how many of its host pages were requested.
    pub fn receive(&mut self, block: BlockId, offset: u64, len: u64) -> u64 {
        let Some(s) = self.blocks.get_mut(block) else {
            return 0;
        };
        s.received.set_range(offset / s.target, len / s.target);
        s.plug(offset, len);
        s.requested.clear_range(offset / s.page, len / s.page)
    }

    /// Marks a range as missing: the source will send it again. Returns how many of its
    /// target pages were received.
    pub fn discard(&mut self, block: BlockId, offset: u64, len: u64) -> u64 {
        let Some(s) = self.blocks.get_mut(block) else {
            return 0;
        };
        let (first, count) = (offset / s.page, len / s.page);
        allocated(&mut s.promised, s.requested.len()).set_range(first, count);
        s.plug(offset, len);
        s.requested.clear_range(first, count);
        s.received.clear_range(offset / s.target, len / s.target)
    }

    /// Marks a range of whole host pages as unplugged, except for pages that the source has
    /// sent or promised.
    pub fn unplug(&mut self, block: BlockId, offset: u64, len: u64) {
        let Some(s) = self.blocks.get_mut(block) else {
            return;
        };
        let (first, count) = (offset / s.page, len / s.page);
        allocated(&mut s.unplugged, s.requested.len()).set_range(first, count);
        for (start, len) in s.promised.runs_in(first, count) {
            s.unplugged.clear_range(start, len);
        }
        let each = s.page / s.target;
        for (start, len) in s.received.runs_in(first * each, count * each) {
            let (start, end) = (start / each, (start + len).div_ceil(each));
            s.unplugged.clear_range(start, end - start);
        }
    }

    /// Drops the source's promises in a range of whole host pages.
    pub fn forget_promises(&mut self, block: BlockId, offset: u64, len: u64) {
        if let Some(s) = self.blocks.get_mut(block) {
            s.promised.clear_range(offset / s.page, len / s.page);
        }
    }

    /// The received target pages of a block.
    pub fn received(&self, block: BlockId) -> Option<&Bits> {
        self.blocks.get(block).map(|s| &s.received)
    }

    /// The first requested host page of a block at or after `offset`.
    pub fn next_requested(&self, block: BlockId, offset: u64) -> Option<u64> {
        let s = self.blocks.get(block)?;
        Some(s.requested.next(offset.div_ceil(s.page))? * s.page)
    }

    /// The first requested host page in a range of whole host pages.
    pub fn requested_in(&self, block: BlockId, offset: u64, len: u64) -> Option<u64> {
        let s = self.blocks.get(block)?;
        Some(s.requested.next_in(offset / s.page, len / s.page)? * s.page)
    }

    /// Requested host pages, in order of block and offset.
    pub fn requested(&self) -> impl Iterator<Item = (BlockId, u64)> + '_ {
        self.blocks.iter().enumerate().flat_map(|(block, s)| {
            s.requested
                .runs()
                .flat_map(|(start, len)| start..start + len)
                .map(move |page| (block, page * s.page))
        })
    }

    /// A host page of a block that is only partly received.
    pub fn torn(&self, block: BlockId) -> Option<u64> {
        let s = self.blocks.get(block)?;
        let ratio = s.page / s.target;
        let edge = |at: &u64| !at.is_multiple_of(ratio);
        let torn = s
            .received
            .runs()
            .find_map(|(start, len)| [start, start + len].into_iter().find(edge))?;
        Some(torn * s.target / s.page * s.page)
    }

    /// Number of host pages that are requested and not received.
    pub fn pending(&self) -> u64 {
        self.blocks.iter().map(|s| s.requested.count()).sum()
    }

    /// Number of missing target pages, including requested ones.
    pub fn missing(&self) -> u64 {
        let missing = |s: &States| s.received.len() - s.received.count() - s.unplugged_pages();
        self.blocks.iter().map(missing).sum()
    }

    /// Number of unplugged target pages.
    pub fn unplugged(&self) -> u64 {
        self.blocks.iter().map(States::unplugged_pages).sum()
    }

    /// Block and offset of the first missing target page.
    pub fn first_missing(&self) -> Option<(BlockId, u64)> {
        self.blocks
            .iter()
            .enumerate()
            .find_map(|(block, s)| Some((block, s.first_missing()? * s.target)))
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.blocks.iter().map(States::memory).sum()
    }
}

/// Allocates bits for this many pages, if there are none yet.
fn allocated(bits: &mut Bits, pages: u64) -> &mut Bits {
    if bits.len() != pages {
        *bits = Bits::new(pages);
    }
    bits
}

impl States {
    /// Number of unplugged target pages.
    fn unplugged_pages(&self) -> u64 {
        self.unplugged.count() * (self.page / self.target)
    }

    /// Clears the unplugged state of the host pages in a range.
    fn plug(&mut self, offset: u64, len: u64) {
        let (first, end) = (offset / self.page, (offset + len).div_ceil(self.page));
        self.unplugged.clear_range(first, end - first);
    }

    /// The first missing target page.
    fn first_missing(&self) -> Option<u64> {
        let each = self.page / self.target;
        let mut at = 0;
        loop {
            at = self.received.next_gap(at)?;
            if !self.unplugged.test(at / each) {
                return Some(at);
            }
            at = self.unplugged.next_gap(at / each)? * each;
        }
    }

    fn memory(&self) -> usize {
        let host = [&self.requested, &self.promised, &self.unplugged];
        self.received.memory() + host.map(Bits::memory).iter().sum::<usize>()
    }
}

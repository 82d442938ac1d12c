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
    /// Host pages that the source will send again.
    promised: Bits,
    /// Host pages that will not be sent.
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
        self.blocks.push(States::new(block.len, block.page, target));
    }

    /// Marks every page as missing: the source will send all of them.
    pub fn forget(&mut self) {
        for s in &mut self.blocks {
            *s = States::new(s.received.len() * s.target, s.page, s.target);
        }
    }

    /// Sets which target pages of the last block have been received, as words of 64 bits. A
    /// host page that is partly missing counts as missing: it can only come as a whole.
    pub fn restore(&mut self, words: impl IntoIterator<Item = u64>) {
        let Some(s) = self.blocks.last_mut() else {
            return;
        };
        s.received.assign(words);
        let each = s.page / s.target;
        let mut at = 0;
        while each > 1
            && let Some(gap) = s.received.next_gap(at)
        {
            let first = gap - gap % each;
            s.received.clear_range(first, each);
            at = first + each;
        }
    }

    /// Whether the target page at `offset` has been received.
    pub fn is_received(&self, block: BlockId, offset: u64) -> bool {
        self.blocks
            .get(block)
            .is_some_and(|s| s.received.test(offset / s.target))
    }

    /// Whether any target page in the range has been received.
    pub fn any_received(&self, span: Span) -> bool {
        self.blocks.get(span.block).is_some_and(|s| {
            let (first, count) = (span.offset / s.target, span.len / s.target);
            s.received.next_in(first, count).is_some()
        })
    }

    /// Handles a fault on the host page at `offset`.
    pub fn fault(&mut self, block: BlockId, offset: u64) -> PageState {
        let Some(s) = self.blocks.get_mut(block) else {
            return PageState::Present;
        };
        let page = offset / s.page;
        if s.received.test(offset / s.target) || s.unplugged.test(page) {
            return PageState::Present;
        }
        match s.requested.set(page) {
            true => PageState::Missing,
            false => PageState::Requested,
        }
    }

    /// Marks a range as received. Returns how many of its host pages were requested.
    pub fn receive(&mut self, span: Span) -> u64 {
        self.blocks.get_mut(span.block).map_or(0, |s| {
            s.received
                .set_range(span.offset / s.target, span.len / s.target);
            s.plug(span)
        })
    }

    /// Marks a range as missing: the source will send it again. Returns how many of its
    /// target pages were received.
    pub fn discard(&mut self, span: Span) -> u64 {
        self.blocks.get_mut(span.block).map_or(0, |s| {
            s.promised
                .set_range(span.offset / s.page, span.len / s.page);
            s.plug(span);
            s.received
                .clear_range(span.offset / s.target, span.len / s.target)
        })
    }

    /// Marks a range of whole host pages as unplugged, except for pages that the source has
    /// sent or promised.
    pub fn unplug(&mut self, span: Span) {
        let Some(s) = self.blocks.get_mut(span.block) else {
            return;
        };
        let (first, count) = (span.offset / s.page, span.len / s.page);
        s.unplugged.set_range(first, count);
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
    pub fn forget_promises(&mut self, span: Span) {
        if let Some(s) = self.blocks.get_mut(span.block) {
            s.promised
                .clear_range(span.offset / s.page, span.len / s.page);
        }
    }

    /// The received target pages of a block.
    pub fn received(&self, block: BlockId) -> Option<&Bits> {
        self.blocks.get(block).map(|s| &s.received)
    }

    /// Offsets of the requested host pages that begin in a range.
    pub fn requested_in(&self, span: Span) -> impl Iterator<Item = u64> + '_ {
        self.blocks.get(span.block).into_iter().flat_map(move |s| {
            let (first, end) = (span.offset.div_ceil(s.page), span.end().div_ceil(s.page));
            let runs = s.requested.runs_in(first, end - first);
            runs.flat_map(|(start, len)| (start..start + len).map(|at| at * s.page))
        })
    }

    /// A host page of a block that is only partly received.
    pub fn torn(&self, block: BlockId) -> Option<u64> {
        let s = self.blocks.get(block)?;
        let each = s.page / s.target;
        let torn = s
            .received
            .runs()
            .flat_map(|(start, len)| [start, start + len])
            .find(|edge| !edge.is_multiple_of(each))?;
        Some(torn / each * s.page)
    }

    /// Number of host pages that are requested and not received.
    pub fn pending(&self) -> u64 {
        self.blocks.iter().map(|s| s.requested.count()).sum()
    }

    /// Number of missing target pages, including requested ones.
    pub fn missing(&self) -> u64 {
        let there = |s: &States| s.received.count() + s.unplugged_pages();
        let missing = |s: &States| s.received.len() - there(s);
        self.blocks.iter().map(missing).sum()
    }

    /// Number of unplugged target pages.
    pub fn unplugged(&self) -> u64 {
        self.blocks.iter().map(States::unplugged_pages).sum()
    }

    /// Block and offset of the first missing target page.
    pub fn first_missing(&self) -> Option<(BlockId, u64)> {
        let mut blocks = self.blocks.iter().enumerate();
        blocks.find_map(|(block, s)| Some((block, s.first_missing()? * s.target)))
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        let bits = |s: &States| {
            let all = [&s.received, &s.requested, &s.promised, &s.unplugged];
            all.map(Bits::memory).iter().sum::<usize>()
        };
        self.blocks.iter().map(bits).sum()
    }
}

impl States {
    fn new(len: u64, page: u64, target: u64) -> Self {
        let host_pages = || Bits::new(len / page);
        Self {
            received: Bits::new(len / target),
            requested: host_pages(),
            promised: host_pages(),
            unplugged: host_pages(),
            target,
            page,
        }
    }

    /// Number of unplugged target pages.
    fn unplugged_pages(&self) -> u64 {
        self.unplugged.count() * (self.page / self.target)
    }

    /// Clears the other states of the host pages in a range, which is received or promised. Returns
    /// how many were requested.
    fn plug(&mut self, span: Span) -> u64 {
        let (first, end) = (span.offset / self.page, span.end().div_ceil(self.page));
        self.unplugged.clear_range(first, end - first);
        self.requested.clear_range(first, span.len / self.page)
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
}

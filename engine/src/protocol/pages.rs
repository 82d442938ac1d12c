//! Page states at the destination: missing → requested → received.
//!
//! The only place where they change. One bit for each target page (received),
//! two for each host page (requested, promised); after the switch a host page's
//! target pages become received together, when the host page has been placed.
//!
//! Unplugged host pages are a state of their own, one more bit for each in blocks
//! that have any: they are neither missing nor received, and are not
//! requested. A page that the source has sent, or has promised to send by discarding
//! it, is never unplugged.
//!
//! Ranges are checked by the callers. Of blocks that do not exist nothing is
//! ever missing, and offsets beyond a block's end change nothing.

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
    /// Host pages asked for and not received.
    requested: Bits,
    /// Host pages that the source will send again; empty before the first.
    promised: Bits,
    /// Host pages that will never come; empty before the first.
    unplugged: Bits,
    /// Target page size in bytes.
    target: u64,
    /// Host page size in bytes.
    page: u64,
}

/// What a fault on a host page means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Missing: it is requested now.
    New,
    /// Its request is under way.
    Pending,
    /// Received: the fault was a race. Or unplugged: the page reads as zeros.
    Present,
}

impl Pages {
    /// One more block of `target` bytes in a target page, all of it missing.
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

    /// Nothing has been received: every page will be sent.
    pub fn forget(&mut self) {
        for s in &mut self.blocks {
            s.received = Bits::new(s.received.len());
            s.requested = Bits::new(s.requested.len());
            s.promised = Bits::default();
            s.unplugged = Bits::default();
        }
    }

    /// Takes over which target pages of the last block have been received, as
    /// words of 64 bits. A host page of which a part is missing counts as
    /// missing: it can come only as a whole.
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

    /// Somebody waits for the host page at `offset`.
    pub fn fault(&mut self, block: BlockId, offset: u64) -> Fault {
        let Some(s) = self.blocks.get_mut(block) else {
            return Fault::Present;
        };
        if s.received.test(offset / s.target) || s.unplugged.test(offset / s.page) {
            return Fault::Present;
        }
        if s.requested.set(offset / s.page) {
            Fault::New
        } else {
            Fault::Pending
        }
    }

    /// The range has been placed; says how many of its host pages had been
    /// requested.
    pub fn receive(&mut self, block: BlockId, offset: u64, len: u64) -> u64 {
        let Some(s) = self.blocks.get_mut(block) else {
            return 0;
        };
        s.received.set_range(offset / s.target, len / s.target);
        s.plug(offset, len);
        s.requested.clear_range(offset / s.page, len / s.page)
    }

    /// The range will be sent again: it is missing. Says how many of its
    /// target pages had been received.
    pub fn discard(&mut self, block: BlockId, offset: u64, len: u64) -> u64 {
        let Some(s) = self.blocks.get_mut(block) else {
            return 0;
        };
        let (first, count) = (offset / s.page, len / s.page);
        made(&mut s.promised, s.requested.len()).set_range(first, count);
        s.plug(offset, len);
        s.requested.clear_range(first, count);
        s.received.clear_range(offset / s.target, len / s.target)
    }

    /// The range of whole host pages is unplugged: what of it the source has
    /// neither sent nor promised will never come.
    pub fn unplug(&mut self, block: BlockId, offset: u64, len: u64) {
        let Some(s) = self.blocks.get_mut(block) else {
            return;
        };
        let (first, count) = (offset / s.page, len / s.page);
        made(&mut s.unplugged, s.requested.len()).set_range(first, count);
        for (start, len) in s.promised.runs_in(first, count) {
            s.unplugged.clear_range(start, len);
        }
        let each = s.page / s.target;
        for (start, len) in s.received.runs_in(first * each, count * each) {
            let (start, end) = (start / each, (start + len).div_ceil(each));
            s.unplugged.clear_range(start, end - start);
        }
    }

    /// The source has forgotten what it promised in a range of whole host pages.
    pub fn forget_promises(&mut self, block: BlockId, offset: u64, len: u64) {
        if let Some(s) = self.blocks.get_mut(block) {
            s.promised.clear_range(offset / s.page, len / s.page);
        }
    }

    /// Received target pages of a block.
    pub fn received(&self, block: BlockId) -> Option<&Bits> {
        self.blocks.get(block).map(|s| &s.received)
    }

    /// The first requested host page of a block that does not lie before
    /// `offset`.
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

    /// A host page of a block of which some target pages have been received
    /// and others have not.
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

    /// How many host pages are requested and not received.
    pub fn pending(&self) -> u64 {
        self.blocks.iter().map(|s| s.requested.count()).sum()
    }

    /// How many target pages are missing, requested ones included.
    pub fn missing(&self) -> u64 {
        let missing = |s: &States| s.received.len() - s.received.count() - s.left_out();
        self.blocks.iter().map(missing).sum()
    }

    /// How many target pages are unplugged.
    pub fn unplugged(&self) -> u64 {
        self.blocks.iter().map(States::left_out).sum()
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

/// Makes bits for so many pages, if there are none yet.
fn made(bits: &mut Bits, pages: u64) -> &mut Bits {
    if bits.len() != pages {
        *bits = Bits::new(pages);
    }
    bits
}

impl States {
    /// Unplugged target pages.
    fn left_out(&self) -> u64 {
        self.unplugged.count() * (self.page / self.target)
    }

    /// Host pages of which a part has come or will come are not unplugged.
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

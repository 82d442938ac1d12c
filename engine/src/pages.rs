//! Page states at the destination: missing → requested → received.
//!
//! The only place where they change. One bit for each target page (received),
//! one for each host page (requested); after the switch a host page's target
//! pages become received together, when the host page has been placed.
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
    /// It is there: the fault was a race.
    Present,
}

impl Pages {
    /// One more block of `target` bytes in a target page, all of it missing.
    pub fn add(&mut self, block: &Block, target: u64) {
        self.blocks.push(States {
            received: Bits::new(block.len / target),
            requested: Bits::new(block.len / block.page),
            target,
            page: block.page,
        });
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
        if s.received.test(offset / s.target) {
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
        s.requested.clear_range(offset / s.page, len / s.page)
    }

    /// The range will be sent again: it is missing. Says how many of its
    /// target pages had been received.
    pub fn discard(&mut self, block: BlockId, offset: u64, len: u64) -> u64 {
        let Some(s) = self.blocks.get_mut(block) else {
            return 0;
        };
        s.requested.clear_range(offset / s.page, len / s.page);
        s.received.clear_range(offset / s.target, len / s.target)
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
        self.blocks
            .iter()
            .map(|s| s.received.len() - s.received.count())
            .sum()
    }

    /// Block and offset of the first missing target page.
    pub fn first_missing(&self) -> Option<(BlockId, u64)> {
        self.blocks
            .iter()
            .enumerate()
            .find_map(|(block, s)| Some((block, s.received.next_gap(0)? * s.target)))
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.blocks
            .iter()
            .map(|s| s.received.memory() + s.requested.memory())
            .sum()
    }
}

//! The request queue: host pages that the destination has requested, in order.
//!
//! One bit for each host page says that it is requested and not handed out; a list of
//! bounded length keeps the order. Requests beyond that length are kept in the bits
//! only, so a flood of requests costs no memory. Those pages are still served before
//! the background sweep, in address order.

use std::collections::VecDeque;

use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks};

use super::dirty::Dirty;

/// Maximum number of requests whose order is kept.
pub(super) const ORDERED: usize = 16 << 10;

/// The requested host pages.
#[derive(Debug)]
pub(super) struct Queue {
    order: VecDeque<Request>,
    wanted: Vec<Bits>,
    /// Number of bits set in `wanted`.
    waiting: u64,
    /// Where the scan for pages without a place in the order continues.
    scan: (BlockId, u64),
}

/// The part of a request that has not been served. In host pages.
#[derive(Clone, Copy, Debug)]
struct Request {
    block: BlockId,
    first: u64,
    count: u64,
    /// Time of arrival in nanoseconds.
    since: u64,
}

/// A requested host page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) block: BlockId,
    /// Number of the host page.
    pub(super) page: u64,
    /// Time of the request, if its place in the order was kept.
    pub(super) since: Option<u64>,
}

impl Queue {
    pub(super) fn new(blocks: &Blocks) -> Self {
        let none = |block: &Block| Bits::new(block.len / block.page);
        Self {
            order: VecDeque::new(),
            wanted: blocks.iter().map(none).collect(),
            waiting: 0,
            scan: (0, 0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Adds the host pages of a range that are in `dirty`, or all of them if that is
    /// not known yet; returns how many are new.
    pub(super) fn push(
        &mut self,
        block: BlockId,
        first: u64,
        count: u64,
        dirty: Option<&Bits>,
        now: u64,
    ) -> u64 {
        let Some(wanted) = self.wanted.get_mut(block) else {
            return 0;
        };
        let new = match dirty {
            Some(dirty) => wanted.add_common(dirty, first, count),
            None => wanted.set_range(first, count),
        };
        self.waiting += new;
        if new > 0 && self.order.len() < ORDERED {
            self.order.push_back(Request {
                block,
                first,
                count,
                since: now,
            });
        }
        new
    }

    /// Removes and returns the next host page.
    pub(super) fn pop(&mut self) -> Option<Wanted> {
        if self.waiting == 0 {
            self.order.clear();
            return None;
        }
        while let Some(request) = self.order.front_mut() {
            let Request {
                block,
                first,
                count,
                since,
            } = *request;
            let Some(page) = self.wanted[block].next_in(first, count) else {
                self.order.pop_front();
                continue;
            };
            let served = page + 1 - first;
            *request = Request {
                block,
                first: page + 1,
                count: count - served,
                since,
            };
            self.wanted[block].clear(page);
            self.waiting -= 1;
            return Some(Wanted {
                block,
                page,
                since: Some(since),
            });
        }
        // Wraps around all blocks, so that no bit is scanned twice in a row.
        let (block, page) = (0..=self.wanted.len()).find_map(|step| {
            let at = (self.scan.0 + step) % self.wanted.len();
            let from = if step == 0 { self.scan.1 } else { 0 };
            Some((at, self.wanted[at].next(from)?))
        })?;
        self.scan = (block, page + 1);
        self.wanted[block].clear(page);
        self.waiting -= 1;
        Some(Wanted {
            block,
            page,
            since: None,
        })
    }

    /// Removes host pages that the sweep has handed out.
    pub(super) fn forget(&mut self, block: BlockId, first: u64, count: u64) {
        if self.waiting > 0
            && let Some(wanted) = self.wanted.get_mut(block)
        {
            self.waiting -= wanted.clear_range(first, count);
        }
    }

    /// Drops served requests when the link is lost: a page that is requested again
    /// must not inherit its old place.
    pub(super) fn tidy(&mut self) {
        let wanted = &self.wanted;
        self.order.retain(|request| {
            wanted[request.block]
                .next_in(request.first, request.count)
                .is_some()
        });
    }

    /// Removes pages that are clean.
    pub(super) fn keep(&mut self, dirty: &Dirty) {
        for (block, wanted) in self.wanted.iter_mut().enumerate() {
            if let Some(bits) = dirty.bits(block) {
                wanted.keep_common(bits);
            }
        }
        self.waiting = self.wanted.iter().map(Bits::count).sum();
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        let bits: usize = self.wanted.iter().map(Bits::memory).sum();
        bits + self.order.capacity() * size_of::<Request>()
            + self.wanted.capacity() * size_of::<Bits>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::blocks;
    use super::*;

    fn pages(queue: &mut Queue) -> Vec<(BlockId, u64)> {
        std::iter::from_fn(|| queue.pop())
            .map(|w| (w.block, w.page))
            .collect()
    }

    #[test]
    fn serves_in_order_and_each_page_once() {
        let mut queue = Queue::new(&blocks(&[(9, 4096), (4, 65536)]));
        assert_eq!(queue.push(1, 3, 1, None, 5), 1);
        assert_eq!(queue.push(0, 2, 4, None, 6), 4);
        assert_eq!(
            queue.push(0, 4, 3, None, 7),
            1,
            "two of them are queued already"
        );
        assert_eq!(queue.push(1, 3, 1, None, 8), 0);
        assert_eq!(
            queue.pop(),
            Some(Wanted {
                block: 1,
                page: 3,
                since: Some(5)
            })
        );
        queue.forget(0, 3, 1);
        assert_eq!(pages(&mut queue), [(0, 2), (0, 4), (0, 5), (0, 6)]);
        assert!(queue.is_empty());
        assert_eq!(queue.push(1, 3, 1, None, 9), 1, "requested again");
    }

    #[test]
    fn drops_clean_pages() {
        let blocks = blocks(&[(9, 4096)]);
        let mut queue = Queue::new(&blocks);
        let mut dirty = Bits::new(9);
        dirty.set(4);
        assert_eq!(queue.push(0, 0, 4, Some(&dirty), 0), 0);
        assert_eq!(queue.push(0, 0, 9, Some(&dirty), 0), 1);
        assert_eq!(pages(&mut queue), [(0, 4)]);
        queue.push(0, 0, 9, None, 0);
        let mut left = Dirty::everything(&blocks);
        left.take(0, 0, 7 * 4096);
        queue.keep(&left);
        assert_eq!(pages(&mut queue), [(0, 7), (0, 8)]);
    }

    #[test]
    fn a_lost_page_does_not_keep_its_place() {
        let mut queue = Queue::new(&blocks(&[(9, 4096)]));
        queue.push(0, 5, 1, None, 0);
        queue.push(0, 6, 1, None, 0);
        queue.forget(0, 5, 1);
        queue.tidy();
        queue.push(0, 5, 1, None, 0);
        assert_eq!(pages(&mut queue), [(0, 6), (0, 5)]);
    }

    #[test]
    fn uses_one_bit_per_page_and_little_memory_per_block() {
        let one = 8 + size_of::<Bits>();
        let mut queue = Queue::new(&blocks(&[(64, 4096); 1000]));
        for block in 0..1000 {
            queue.push(block, 63, 1, None, 0);
        }
        let order = queue.order.capacity() * size_of::<Request>();
        let memory = queue.memory() - order;
        assert!((1000 * one..2000 * one).contains(&memory), "{memory}");
    }

    #[test]
    fn keeps_requests_without_order_beyond_its_length() {
        let all = 2 * ORDERED as u64;
        let mut queue = Queue::new(&blocks(&[(all, 4096)]));
        let before = queue.memory();
        for _ in 0..3 {
            for page in (0..all).rev() {
                queue.push(0, page, 1, None, 0);
            }
        }
        let grown = queue.memory() - before;
        let bits = ORDERED * 2 / 8;
        assert_eq!(grown, ORDERED * size_of::<Request>() + bits);
        let half = ORDERED as u64;
        let want = (half..all).rev().chain(0..half);
        assert!(pages(&mut queue).into_iter().map(|(_, page)| page).eq(want));
    }

    /// Fills the order; later requests have no place in it.
    fn fill_order(queue: &mut Queue, first: u64) -> Vec<(BlockId, u64)> {
        let asked = (first..).take(ORDERED).map(|page| (0, page));
        asked
            .inspect(|(block, page)| assert_eq!(queue.push(*block, *page, 1, None, 0), 1))
            .collect()
    }

    #[test]
    fn serves_requests_without_order_in_address_order() {
        let pages_of_first = ORDERED as u64 + 10;
        let sizes = [(pages_of_first, 4096), (10, 4096), (10, 4096)];
        let mut queue = Queue::new(&blocks(&sizes));
        let turns = [
            (vec![(0, 3), (1, 5)], vec![(0, 3), (1, 5)]),
            (
                vec![(0, 3), (1, 2), (1, 5), (1, 9), (2, 0)],
                vec![(1, 9), (2, 0), (0, 3), (1, 2), (1, 5)],
            ),
        ];
        for (asked, served) in turns {
            let mut want = fill_order(&mut queue, 10);
            for (block, page) in asked {
                queue.push(block, page, 1, None, 0);
            }
            want.extend(served);
            assert_eq!(queue.waiting(), want.len() as u64);
            assert_eq!(pages(&mut queue), want);
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn keeps_the_order_of_ranges_and_ignores_repeated_requests() {
        let mut queue = Queue::new(&blocks(&[(100, 4096)]));
        queue.push(0, 7, 3, None, 0);
        for _ in 0..ORDERED {
            assert_eq!(queue.push(0, 7, 3, None, 0), 0);
        }
        queue.push(0, 5, 1, None, 0);
        queue.push(0, 3, 2, None, 0);
        let want = [7, 8, 9, 5, 3, 4].map(|page| (0, page));
        assert_eq!(pages(&mut queue), want);
    }
}

//! The request queue: host pages that the destination has requested, in order.
//!
//! A set of pages says what is requested and not handed out; a list of bounded length
//! keeps the order. Requests beyond that length are kept in the set only, so a flood of
//! requests costs no memory. Those pages are still served before the background sweep,
//! in address order.

use std::collections::VecDeque;

use crate::blocks::{BlockId, Blocks, Span};

use crate::protocol::page_set::PageSet;

/// Maximum number of requests whose order is kept.
pub(super) const ORDERED: usize = 16 << 10;

/// The requested host pages.
#[derive(Debug)]
pub(super) struct Queue {
    order: VecDeque<Request>,
    /// Every page that is requested.
    pub(super) wanted: PageSet,
    /// Where the scan for pages without a place in the order continues.
    scan: (BlockId, u64),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// What has not been served.
    span: Span,
    /// Time of arrival in nanoseconds.
    since: u64,
}

impl Queue {
    pub(super) fn new(blocks: &Blocks) -> Self {
        Self {
            order: VecDeque::new(),
            wanted: PageSet::none(blocks),
            scan: (0, 0),
        }
    }

    /// Adds the host pages of a range that are in `dirty`, or all of them if that is
    /// not known yet; returns how many are new.
    pub(super) fn push(&mut self, span: Span, dirty: Option<&PageSet>, now: u64) -> u64 {
        let new = match dirty {
            Some(dirty) => self.wanted.add_common(span, dirty),
            None => self.wanted.add(span),
        };
        if new > 0 && self.order.len() < ORDERED {
            self.order.push_back(Request { span, since: now });
        }
        new
    }

    /// Removes and returns the next host page, and the time of its request if its place
    /// in the order was kept.
    pub(super) fn pop(&mut self) -> Option<(Span, Option<u64>)> {
        if self.wanted.is_empty() {
            self.order.clear();
            return None;
        }
        while let Some(request) = self.order.front_mut() {
            let Some(page) = self.wanted.first_in(request.span) else {
                self.order.pop_front();
                continue;
            };
            let (offset, end) = (page.end(), request.span.end());
            request.span.offset = offset;
            request.span.len = end.saturating_sub(offset);
            let since = request.since;
            self.wanted.remove(page);
            return Some((page, Some(since)));
        }
        // From where the last scan ended, so that no bit is scanned twice in a row.
        let page = self.wanted.take(self.scan, 1)?;
        self.scan = (page.block, page.end());
        Some((page, None))
    }

    /// Drops served requests when the link is lost: a page that is requested again
    /// must not inherit its old place.
    pub(super) fn tidy(&mut self) {
        let wanted = &self.wanted;
        self.order
            .retain(|request| wanted.first_in(request.span).is_some());
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.wanted.memory() + self.order.capacity() * size_of::<Request>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::blocks;
    use super::*;

    fn span(queue: &Queue, block: BlockId, first: u64, count: u64) -> Span {
        let page = queue.wanted.unit(block);
        Span {
            block,
            offset: first * page,
            len: count * page,
        }
    }

    fn push(queue: &mut Queue, block: BlockId, first: u64, count: u64) -> u64 {
        queue.push(span(queue, block, first, count), None, 0)
    }

    fn pages(queue: &mut Queue) -> Vec<(BlockId, u64)> {
        std::iter::from_fn(|| queue.pop())
            .map(|(page, _)| (page.block, page.offset / page.len))
            .collect()
    }

    #[test]
    fn serves_in_order_and_each_page_once() {
        let mut queue = Queue::new(&blocks(&[(9, 4096), (4, 65536)]));
        let first = span(&queue, 1, 3, 1);
        assert_eq!(queue.push(first, None, 5), 1);
        assert_eq!(push(&mut queue, 0, 2, 4), 4);
        assert_eq!(push(&mut queue, 0, 4, 3), 1, "two are queued already");
        assert_eq!(queue.push(first, None, 8), 0);
        assert_eq!(queue.wanted.pages(), 6);
        assert_eq!(queue.pop(), Some((first, Some(5))));
        queue.wanted.remove(span(&queue, 0, 3, 1));
        assert_eq!(pages(&mut queue), [(0, 2), (0, 4), (0, 5), (0, 6)]);
        assert!(queue.wanted.is_empty());
        assert_eq!(push(&mut queue, 1, 3, 1), 1, "requested again");
    }

    #[test]
    fn drops_clean_pages() {
        let blocks = blocks(&[(9, 4096)]);
        let mut queue = Queue::new(&blocks);
        let mut dirty = PageSet::none(&blocks);
        dirty.add(span(&queue, 0, 4, 1));
        let (half, all) = (span(&queue, 0, 0, 4), span(&queue, 0, 0, 9));
        assert_eq!(queue.push(half, Some(&dirty), 0), 0);
        assert_eq!(queue.push(all, Some(&dirty), 0), 1);
        assert_eq!(pages(&mut queue), [(0, 4)]);
        push(&mut queue, 0, 0, 9);
        let mut left = PageSet::all(&blocks);
        left.take((0, 0), 7 * 4096);
        queue.wanted.keep_common(&left);
        assert_eq!(pages(&mut queue), [(0, 7), (0, 8)]);
    }

    #[test]
    fn a_lost_page_does_not_keep_its_place() {
        let mut queue = Queue::new(&blocks(&[(9, 4096)]));
        push(&mut queue, 0, 5, 1);
        push(&mut queue, 0, 6, 1);
        queue.wanted.remove(span(&queue, 0, 5, 1));
        queue.tidy();
        push(&mut queue, 0, 5, 1);
        assert_eq!(pages(&mut queue), [(0, 6), (0, 5)]);
    }

    #[test]
    fn uses_one_bit_per_page_and_little_memory_per_block() {
        let one = 8 + size_of::<crate::bits::Bits>() + size_of::<u64>();
        let mut queue = Queue::new(&blocks(&[(64, 4096); 1000]));
        for block in 0..1000 {
            push(&mut queue, block, 63, 1);
        }
        let memory = queue.wanted.memory();
        assert!((1000 * one..2000 * one).contains(&memory), "{memory}");
    }

    #[test]
    fn keeps_requests_without_order_beyond_its_length() {
        let all = 2 * ORDERED as u64;
        let mut queue = Queue::new(&blocks(&[(all, 4096)]));
        let before = queue.memory();
        for _ in 0..3 {
            for page in (0..all).rev() {
                push(&mut queue, 0, page, 1);
            }
        }
        let grown = queue.memory() - before;
        let bits = ORDERED * 2 / 8;
        let grown = grown - ORDERED * size_of::<Request>();
        assert!((bits..bits + bits / 16).contains(&grown), "{grown}");
        let half = ORDERED as u64;
        let want = (half..all).rev().chain(0..half);
        assert!(pages(&mut queue).into_iter().map(|(_, page)| page).eq(want));
    }

    /// Fills the order; later requests have no place in it.
    fn fill_order(queue: &mut Queue, first: u64) -> Vec<(BlockId, u64)> {
        let asked = (first..).take(ORDERED).map(|page| (0, page));
        asked
            .inspect(|(block, page)| assert_eq!(push(queue, *block, *page, 1), 1))
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
                push(&mut queue, block, page, 1);
            }
            want.extend(served);
            assert_eq!(queue.wanted.pages(), want.len() as u64);
            assert_eq!(pages(&mut queue), want);
            assert!(queue.wanted.is_empty());
        }
    }

    #[test]
    fn keeps_the_order_of_ranges_and_ignores_repeated_requests() {
        let mut queue = Queue::new(&blocks(&[(100, 4096)]));
        push(&mut queue, 0, 7, 3);
        for _ in 0..ORDERED {
            assert_eq!(push(&mut queue, 0, 7, 3), 0);
        }
        push(&mut queue, 0, 5, 1);
        push(&mut queue, 0, 3, 2);
        let want = [7, 8, 9, 5, 3, 4].map(|page| (0, page));
        assert_eq!(pages(&mut queue), want);
    }
}

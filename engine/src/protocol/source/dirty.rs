//! Dirty bitmaps: the pages that are still to be sent.
//!
//! Before the switch there is one bit for each target page. At the switch the bits
//! are folded to host pages: a host page is dirty if any of its target pages is, so
//! from then on a part of a host page cannot be expressed. A bit is cleared when its
//! page is handed out.
//!
//! Offsets and lengths are in bytes; callers check them against the blocks.

use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks, Span};

/// The pages to send, of all blocks.
#[derive(Clone, Debug)]
pub(super) struct Dirty {
    sets: Vec<Set>,
    /// Bytes of all dirty pages.
    left: u64,
}

#[derive(Clone, Debug)]
struct Set {
    bits: Bits,
    /// Bytes of a page.
    unit: u64,
}

/// A range of a block, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) block: BlockId,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Part {
    pub(super) fn end(self) -> u64 {
        self.offset + self.len
    }

    pub(super) fn overlaps(self, other: Part) -> bool {
        self.block == other.block && self.offset < other.end() && other.offset < self.end()
    }
}

impl Dirty {
    /// All target pages of all blocks.
    pub(super) fn everything(blocks: &Blocks) -> Self {
        let all = |block: &Block| Set {
            bits: Bits::full(block.len / blocks.target()),
            unit: blocks.target(),
        };
        let mut dirty = Self {
            sets: blocks.iter().map(all).collect(),
            left: 0,
        };
        dirty.count();
        dirty
    }

    /// No page of any block, in host pages.
    pub(super) fn nothing(blocks: &Blocks) -> Self {
        let none = |block: &Block| Set {
            bits: Bits::new(block.len / block.page),
            unit: block.page,
        };
        Self {
            sets: blocks.iter().map(none).collect(),
            left: 0,
        }
    }

    /// Converts to host pages, each of them dirty if any part of it was.
    pub(super) fn fold(&mut self, blocks: &Blocks) {
        for (set, block) in self.sets.iter_mut().zip(blocks.iter()) {
            if set.unit == block.page {
                continue;
            }
            let pieces = block.page / set.unit;
            let mut bits = Bits::new(block.len / block.page);
            let mut at = 0;
            while let Some(found) = set.bits.next(at) {
                bits.set(found / pieces);
                at = (found / pieces + 1) * pieces;
            }
            *set = Set {
                bits,
                unit: block.page,
            };
        }
        self.count();
    }

    /// Bytes of all dirty pages.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The pages of a block.
    pub(super) fn bits(&self, block: BlockId) -> Option<&Bits> {
        self.sets.get(block).map(|set| &set.bits)
    }

    /// Whether the page at an offset of a block is dirty.
    pub(super) fn contains(&self, block: BlockId, offset: u64) -> bool {
        let set = self.sets.get(block);
        set.is_some_and(|set| set.bits.test(offset / set.unit))
    }

    /// Marks every page that the range touches.
    pub(super) fn mark(&mut self, part: Part) {
        let Some(set) = self.sets.get_mut(part.block) else {
            return;
        };
        let first = part.offset / set.unit;
        let pages = part.end().div_ceil(set.unit) - first;
        self.left += set.bits.set_range(first, pages) * set.unit;
    }

    /// Clears pages; they may be clean already.
    pub(super) fn clear(&mut self, part: Part) {
        let Some(set) = self.sets.get_mut(part.block) else {
            return;
        };
        let pages = set
            .bits
            .clear_range(part.offset / set.unit, part.len / set.unit);
        self.left -= pages * set.unit;
    }

    /// Clears unplugged ranges: whole host pages.
    pub(super) fn leave_out(&mut self, unplugged: &[Span]) {
        for &Span { block, offset, len } in unplugged {
            self.clear(Part { block, offset, len });
        }
    }

    /// Clears and returns the first run of dirty pages at or after an offset,
    /// wrapping around all blocks: at most `most` bytes, but at least one page.
    pub(super) fn take(&mut self, block: BlockId, offset: u64, most: u64) -> Option<Part> {
        if self.is_empty() {
            return None;
        }
        let blocks = self.sets.len();
        let (block, first) = (0..=blocks).find_map(|step| {
            let at = (block + step) % blocks;
            let set = &self.sets[at];
            let from = if step == 0 { offset / set.unit } else { 0 };
            Some((at, set.bits.next(from)?))
        })?;
        let Set { bits, unit } = &self.sets[block];
        let pages = (most / unit).max(1).min(bits.len() - first);
        let end = bits.next_gap_in(first, pages).unwrap_or(first + pages);
        let part = Part {
            block,
            offset: first * unit,
            len: (end - first) * unit,
        };
        self.clear(part);
        Some(part)
    }

    /// Replaces the bits of a block; word `i` holds pages from `64 * i` on.
    pub(super) fn assign(&mut self, block: BlockId, words: impl IntoIterator<Item = u64>) {
        if let Some(set) = self.sets.get_mut(block) {
            set.bits.assign(words);
            self.count();
        }
    }

    /// Clears pages that are clean in `other`, which has the same blocks and page sizes.
    pub(super) fn keep_common(&mut self, other: &Dirty) {
        for (set, other) in self.sets.iter_mut().zip(&other.sets) {
            set.bits.keep_common(&other.bits);
        }
        self.count();
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        let bits: usize = self.sets.iter().map(|set| set.bits.memory()).sum();
        bits + self.sets.capacity() * size_of::<Set>()
    }

    fn count(&mut self) {
        self.left = self
            .sets
            .iter()
            .map(|set| set.bits.count() * set.unit)
            .sum();
    }
}

#[cfg(test)]
mod tests {
    use retpath_random::Random;

    use super::super::testing::blocks;
    use super::*;

    fn part(block: BlockId, offset: u64, len: u64) -> Part {
        Part { block, offset, len }
    }

    #[test]
    fn parts_overlap_if_they_share_a_byte() {
        let overlap = |a: Part, b: Part| {
            let both = a.overlaps(b);
            assert_eq!(b.overlaps(a), both);
            both
        };
        let one = part(0, 100, 10);
        for (offset, len, want) in [
            (90, 10, false),
            (90, 11, true),
            (104, 2, true),
            (90, 40, true),
            (109, 1, true),
            (110, 5, false),
        ] {
            assert_eq!(overlap(one, part(0, offset, len)), want, "{offset}+{len}");
            assert!(!overlap(one, part(1, offset, len)));
        }
    }

    #[test]
    fn uses_one_bit_per_page_and_little_memory_per_block() {
        let one = |pages: usize| 8 * pages / 64 + size_of::<Set>();
        let large = Dirty::everything(&blocks(&[(1 << 16, 4096)])).memory();
        assert!(
            (one(1 << 16)..one(1 << 16) + 512).contains(&large),
            "{large}"
        );
        let small = Dirty::everything(&blocks(&[(64, 4096); 1000])).memory();
        assert!((1000 * one(64)..2000 * one(64)).contains(&small), "{small}");
    }

    #[test]
    fn takes_every_page_once_from_any_start() {
        let blocks = blocks(&[(7, 4096), (3, 65536)]);
        for start in [
            (0, 0),
            (0, 5 * 4096),
            (1, 0),
            (1, 2 * 65536),
            (1, 3 * 65536),
            (0, 7 * 4096),
        ] {
            let mut dirty = Dirty::everything(&blocks);
            let mut taken = Vec::new();
            let mut at = start;
            while let Some(run) = dirty.take(at.0, at.1, 12288) {
                assert!(run.len <= 12288);
                taken.extend(
                    (run.offset..run.end())
                        .step_by(4096)
                        .map(|o| (run.block, o)),
                );
                at = (run.block, run.end());
            }
            assert_eq!(
                taken[0],
                if start.1 == 7 * 4096 {
                    (1, 0)
                } else if start.1 == 3 * 65536 {
                    (0, 0)
                } else {
                    start
                }
            );
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), 7 + 48);
            assert_eq!(dirty.left(), 0);
        }
    }

    #[test]
    fn stops_at_a_gap() {
        let blocks = blocks(&[(16, 4096)]);
        let mut dirty = Dirty::everything(&blocks);
        dirty.clear(part(0, 3 * 4096, 4096));
        assert_eq!(dirty.take(0, 0, 1 << 20), Some(part(0, 0, 3 * 4096)));
        assert_eq!(
            dirty.take(0, 0, 1 << 20),
            Some(part(0, 4 * 4096, 12 * 4096))
        );
        assert_eq!(dirty.take(0, 0, 1 << 20), None);
    }

    #[test]
    fn marks_pages_that_a_range_touches() {
        let blocks = blocks(&[(16, 4096)]);
        let mut dirty = Dirty::everything(&blocks);
        while dirty.take(0, 0, 1 << 20).is_some() {}
        dirty.mark(part(0, 4095, 2));
        assert_eq!(dirty.left(), 8192);
        dirty.mark(part(0, 4096, 4096));
        assert_eq!(dirty.left(), 8192, "marked twice, counted once");
        assert_eq!(dirty.take(0, 0, 1 << 20), Some(part(0, 0, 8192)));
    }

    #[test]
    fn folds_like_a_naive_loop() {
        let mut random = Random::new(7);
        for page in [4096, 8192, 65536, 1 << 20] {
            let blocks = blocks(&[(4, page), (1, page)]);
            for share in [1, 2, 20, 300] {
                let mut dirty = Dirty::everything(&blocks);
                let mut want = Vec::new();
                for block in 0..2 {
                    for tp in 0..blocks.target_pages(block) {
                        if random.below(share) > 0 {
                            dirty.clear(part(block, tp * 4096, 4096));
                        } else {
                            want.push((block, tp * 4096 / page));
                        }
                    }
                }
                want.dedup();
                dirty.fold(&blocks);
                assert_eq!(dirty.left(), want.len() as u64 * page);
                let mut got = Vec::new();
                while let Some(run) = dirty.take(0, 0, 1) {
                    assert_eq!(run.len, page);
                    got.push((run.block, run.offset / page));
                }
                assert_eq!(got, want);
            }
        }
    }
}

//! Sets of pages: those that are dirty, requested, received and so on.
//!
//! The unit of a set is the target page or the host page of each block. At the source it is
//! the target page before the switch and the host page from then on: a host page is dirty
//! if any of its target pages is, and a part of one cannot be expressed any more.
//!
//! Offsets and lengths are in bytes; callers check them against the blocks. A range stands
//! for every page that it touches.

use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks, Span};

/// Pages of all blocks, one bit each.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageSet {
    bits: Vec<Bits>,
    /// Bytes of a page, by block.
    units: Vec<u64>,
    /// Bytes of all pages in the set.
    bytes: u64,
}

impl PageSet {
    /// All target pages.
    pub(crate) fn all(blocks: &Blocks) -> Self {
        let all = |block: &Block| Bits::full(block.len / blocks.target());
        Self {
            bits: blocks.iter().map(all).collect(),
            units: vec![blocks.target(); blocks.len()],
            bytes: blocks.iter().map(|block| block.len).sum(),
        }
    }

    /// No host page.
    pub(crate) fn none(blocks: &Blocks) -> Self {
        let mut set = Self::default();
        for block in blocks.iter() {
            set.push(block.len, block.page);
        }
        set
    }

    /// Adds a block of `len` bytes in pages of `unit` bytes, none of them in the set.
    pub(crate) fn push(&mut self, len: u64, unit: u64) {
        self.bits.push(Bits::new(len / unit));
        self.units.push(unit);
    }

    /// Removes all pages.
    pub(crate) fn clear(&mut self) {
        for bits in &mut self.bits {
            *bits = Bits::new(bits.len());
        }
        self.bytes = 0;
    }

    /// Converts target pages to host pages.
    pub(crate) fn fold(&mut self, blocks: &Blocks) {
        let sets = self.bits.iter_mut().zip(&mut self.units);
        for ((bits, unit), block) in sets.zip(blocks.iter()) {
            if *unit == block.page {
                continue;
            }
            let mut folded = Bits::new(block.len / block.page);
            for (first, pages) in bits.runs() {
                let start = first * *unit / block.page;
                let end = ((first + pages) * *unit).div_ceil(block.page);
                folded.set_range(start, end - start);
            }
            (*bits, *unit) = (folded, block.page);
        }
        self.count();
    }

    /// Bytes of all pages in the set.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The number of pages in the set.
    pub(crate) fn pages(&self) -> u64 {
        self.bits.iter().map(Bits::count).sum()
    }

    /// The pages of a block.
    pub(crate) fn bits(&self, block: BlockId) -> Option<&Bits> {
        self.bits.get(block)
    }

    /// The numbers of the blocks.
    pub(crate) fn blocks(&self) -> std::ops::Range<BlockId> {
        0..self.bits.len()
    }

    /// Bytes of a page of a block.
    pub(crate) fn unit(&self, block: BlockId) -> u64 {
        self.units[block]
    }

    /// Whether the page at an offset of a block is in the set.
    pub(crate) fn contains(&self, block: BlockId, offset: u64) -> bool {
        let bits = self.bits.get(block);
        bits.is_some_and(|bits| bits.test(offset / self.units[block]))
    }

    /// Adds the pages of a range; returns how many are new.
    pub(crate) fn add(&mut self, span: Span) -> u64 {
        self.change(span, Bits::set_range)
    }

    /// Adds the pages of a range that are in `other`, too; returns how many are new.
    pub(crate) fn add_common(&mut self, span: Span, other: &Self) -> u64 {
        let other = &other.bits[span.block];
        self.change(span, |bits, first, pages| {
            bits.add_common(other, first, pages)
        })
    }

    /// Removes the pages of a range; returns how many there were.
    pub(crate) fn remove(&mut self, span: Span) -> u64 {
        match self.is_empty() {
            true => 0,
            false => self.change(span, Bits::clear_range),
        }
    }

    /// Removes unplugged ranges: whole host pages.
    pub(crate) fn leave_out(&mut self, unplugged: &[Span]) {
        for span in unplugged {
            self.remove(*span);
        }
    }

    /// The first page of a range that is in the set.
    pub(crate) fn first_in(&self, span: Span) -> Option<Span> {
        let bits = self.bits.get(span.block)?;
        let (first, pages) = self.pages_of(span);
        let page = bits.next_in(first, pages)?;
        Some(self.span(span.block, page, 1))
    }

    /// Removes and returns the first run of pages at or after an offset, wrapping around
    /// all blocks: at most `most` bytes, but at least one page.
    pub(crate) fn take(&mut self, (block, offset): (BlockId, u64), most: u64) -> Option<Span> {
        if self.is_empty() {
            return None;
        }
        let blocks = self.bits.len();
        let (block, first) = (0..=blocks).find_map(|step| {
            let at = (block + step) % blocks;
            let from = if step == 0 { offset } else { 0 };
            Some((at, self.bits[at].next(from / self.units[at])?))
        })?;
        let most = (most / self.units[block]).max(1);
        let (first, pages) = self.bits[block].runs_in(first, most).next()?;
        let span = self.span(block, first, pages);
        self.remove(span);
        Some(span)
    }

    /// The runs of pages in the set that a range touches.
    pub(crate) fn runs_in(&self, span: Span) -> impl Iterator<Item = Span> + '_ {
        self.bits.get(span.block).into_iter().flat_map(move |bits| {
            let (first, pages) = self.pages_of(span);
            let runs = bits.runs_in(first, pages);
            runs.map(move |(first, pages)| self.span(span.block, first, pages))
        })
    }

    /// The first page of a block at or after an offset that is not in the set.
    pub(crate) fn gap(&self, block: BlockId, offset: u64) -> Option<u64> {
        let unit = self.units.get(block)?;
        Some(self.bits[block].next_gap(offset / unit)? * unit)
    }

    /// Replaces the pages of a block; word `i` holds pages from `64 * i` on.
    pub(crate) fn assign(&mut self, block: BlockId, words: impl IntoIterator<Item = u64>) {
        self.bits[block].assign(words);
        self.count();
    }

    /// Removes pages that are not in `other`, which has the same page sizes.
    pub(crate) fn keep_common(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            bits.keep_common(other);
        }
        self.count();
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        let bits: usize = self.bits.iter().map(Bits::memory).sum();
        bits + self.bits.capacity() * size_of::<(Bits, u64)>()
    }

    fn change(&mut self, span: Span, by: impl FnOnce(&mut Bits, u64, u64) -> u64) -> u64 {
        if span.block >= self.bits.len() {
            return 0;
        }
        let (first, pages) = self.pages_of(span);
        let (bits, unit) = (&mut self.bits[span.block], self.units[span.block]);
        self.bytes -= bits.count() * unit;
        let changed = by(bits, first, pages);
        self.bytes += bits.count() * unit;
        changed
    }

    /// The first page of a range, and how many it touches.
    fn pages_of(&self, span: Span) -> (u64, u64) {
        let unit = self.units[span.block];
        let first = span.offset / unit;
        (first, span.end().div_ceil(unit) - first)
    }

    fn span(&self, block: BlockId, first: u64, pages: u64) -> Span {
        let unit = self.units[block];
        let (offset, len) = (first * unit, pages * unit);
        Span { block, offset, len }
    }

    fn count(&mut self) {
        let sets = self.bits.iter().zip(&self.units);
        self.bytes = sets.map(|(bits, unit)| bits.count() * unit).sum();
    }
}

#[cfg(test)]
mod tests {
    use retpath_random::Random;

    use super::*;
    use crate::source::testing::blocks;

    fn part(block: BlockId, offset: u64, len: u64) -> Span {
        Span { block, offset, len }
    }

    #[test]
    fn parts_overlap_if_they_share_a_byte() {
        let overlap = |a: Span, b: Span| {
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
        let one = |pages: usize| 8 * pages / 64 + size_of::<Bits>() + size_of::<u64>();
        let large = PageSet::all(&blocks(&[(1 << 16, 4096)])).memory();
        assert!(
            (one(1 << 16)..one(1 << 16) + 512).contains(&large),
            "{large}"
        );
        let small = PageSet::all(&blocks(&[(64, 4096); 1000])).memory();
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
            let mut dirty = PageSet::all(&blocks);
            let mut taken = Vec::new();
            let mut at = start;
            while let Some(run) = dirty.take(at, 12288) {
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
            assert_eq!(dirty.bytes(), 0);
        }
    }

    #[test]
    fn stops_at_a_gap() {
        let blocks = blocks(&[(16, 4096)]);
        let mut dirty = PageSet::all(&blocks);
        dirty.remove(part(0, 3 * 4096, 4096));
        assert_eq!(dirty.take((0, 0), 1 << 20), Some(part(0, 0, 3 * 4096)));
        assert_eq!(
            dirty.take((0, 0), 1 << 20),
            Some(part(0, 4 * 4096, 12 * 4096))
        );
        assert_eq!(dirty.take((0, 0), 1 << 20), None);
    }

    #[test]
    fn marks_pages_that_a_range_touches() {
        let blocks = blocks(&[(16, 4096)]);
        let mut dirty = PageSet::all(&blocks);
        while dirty.take((0, 0), 1 << 20).is_some() {}
        dirty.add(part(0, 4095, 2));
        assert_eq!(dirty.bytes(), 8192);
        dirty.add(part(0, 4096, 4096));
        assert_eq!(dirty.bytes(), 8192, "marked twice, counted once");
        assert_eq!(dirty.take((0, 0), 1 << 20), Some(part(0, 0, 8192)));
    }

    #[test]
    fn folds_like_a_naive_loop() {
        let mut random = Random::new(7);
        for page in [4096, 8192, 65536, 1 << 20] {
            let blocks = blocks(&[(4, page), (1, page)]);
            for share in [1, 2, 20, 300] {
                let mut dirty = PageSet::all(&blocks);
                let mut want = Vec::new();
                for block in 0..2 {
                    for tp in 0..blocks.target_pages(block) {
                        if random.below(share) > 0 {
                            dirty.remove(part(block, tp * 4096, 4096));
                        } else {
                            want.push((block, tp * 4096 / page));
                        }
                    }
                }
                want.dedup();
                dirty.fold(&blocks);
                assert_eq!(dirty.bytes(), want.len() as u64 * page);
                let mut got = Vec::new();
                while let Some(run) = dirty.take((0, 0), 1) {
                    assert_eq!(run.len, page);
                    got.push((run.block, run.offset / page));
                }
                assert_eq!(got, want);
            }
        }
    }
}

//! Received bitmaps: the pages that the destination has, and so those to send again.
//!
//! The bitmaps count target pages; the source counts host pages after the switch. A
//! host page is placed whole or not at all, so a bitmap that marks a part of one is
//! refused, and so is one that marks a page that was never sent. Mirrors
//! `ram.c:ram_dirty_bitmap_reload`, which checks neither.

use retpath_codec::bitmap::{self, Bitmap};

use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks};

use super::error::Cause;
use crate::protocol::page_set::PageSet;

/// The bitmaps that are missing.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// For each block whether its bitmap has been requested and not announced; empty
    /// before the request.
    pub(super) asked: Vec<bool>,
    /// The block whose bitmap has been announced and must follow before any message.
    pub(super) coming: Option<BlockId>,
}

impl Recovery {
    /// Records that every block's bitmap has been requested.
    pub(super) fn ask(&mut self, blocks: &Blocks) {
        *self = Self {
            asked: vec![true; blocks.len()],
            coming: None,
        };
    }

    /// Whether all bitmaps have been received.
    pub(super) fn is_complete(&self) -> bool {
        !self.asked.is_empty() && self.coming.is_none() && !self.asked.contains(&true)
    }

    /// Maximum size of the next bitmap in bytes.
    pub(super) fn limit(&self, blocks: &Blocks) -> u64 {
        self.coming
            .map_or(0, |block| bitmap::size(blocks.target_pages(block)))
    }

    /// Handles the announcement of a block's bitmap.
    pub(super) fn announce(&mut self, block: BlockId) -> Result<(), Cause> {
        match self.asked.get_mut(block) {
            Some(asked) if *asked => *asked = false,
            _ => return Err(Cause::Unasked),
        }
        self.coming = Some(block);
        Ok(())
    }

    /// Handles a bitmap: pages that it does not mark become dirty again. It may mark
    /// more pages than one of an earlier link, but never one in `unsent`.
    pub(super) fn load(
        &mut self,
        bitmap: Bitmap<'_>,
        blocks: &Blocks,
        unsent: &PageSet,
        dirty: &mut PageSet,
    ) -> Result<(), Cause> {
        let id = self.coming.take().ok_or(Cause::Order)?;
        let block = blocks.block(id).map_err(|_| Cause::Order)?;
        let checked = bitmap.check(blocks.target_pages(id));
        checked.map_err(|rule| Cause::Bitmap {
            block: block.name.clone(),
            rule,
        })?;
        let words = || received(bitmap, block, blocks.target());
        let unsent = unsent.bits(id).map(Bits::words).unwrap_or_default();
        for ((word, unsent), first) in words().zip(unsent).zip((0..).step_by(64)) {
            let place = |page| (block.name.clone(), page * block.page);
            let word = word.map_err(|page| {
                let (block, offset) = place(page);
                Cause::HalfPage { block, offset }
            })?;
            if word & unsent != 0 {
                let bit = (word & unsent).trailing_zeros();
                let (block, offset) = place(first + u64::from(bit));
                return Err(Cause::NeverSent { block, offset });
            }
        }
        dirty.assign(id, words().map(|word| !word.unwrap_or(0)));
        Ok(())
    }
}

/// The received host pages, 64 in a word; an error is the number of a host page that is
/// marked partly.
fn received(
    bitmap: Bitmap<'_>,
    block: &Block,
    target: u64,
) -> impl Iterator<Item = Result<u64, u64>> {
    let pieces = block.page / target;
    let words = (block.len / block.page).div_ceil(64);
    let (bytes, _) = bitmap.as_bytes().as_chunks::<8>();
    let word = move |at: u64| {
        let at = usize::try_from(at).ok()?;
        bytes.get(at).map(|word| u64::from_le_bytes(*word))
    };
    (0..words).map(move |at| {
        if pieces == 1 {
            return Ok(word(at).unwrap_or(0));
        }
        let mut folded = 0;
        for page in at * 64..at * 64 + 64 {
            let first = page * pieces;
            let all = if pieces < 64 {
                (1 << pieces) - 1
            } else {
                u64::MAX
            };
            let mut parts = (0..pieces.div_ceil(64))
                .map(|i| word(first / 64 + i).unwrap_or(0) >> (first % 64) & all);
            let start = parts.next().unwrap_or(0);
            if start != 0 && start != all || parts.any(|part| part != start) {
                return Err(page);
            }
            folded |= (start & 1) << (page % 64);
        }
        Ok(folded)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use retpath_codec::Rule;

    use crate::blocks::Span;
    use retpath_random::Random;

    use super::super::testing::blocks;
    use super::*;

    const LABELS: [(u64, u64); 6] = [
        (130, 4096),
        (70, 8192),
        (70, 1 << 17),
        (3, 1 << 18),
        (5, 1 << 19),
        (3, 2 << 20),
    ];

    /// Everything has been handed out.
    fn sent(blocks: &Blocks) -> PageSet {
        let mut dirty = PageSet::all(blocks);
        dirty.fold(blocks);
        while dirty.take((0, 0), u64::MAX).is_some() {}
        dirty
    }

    #[test]
    fn yields_one_word_for_64_host_pages() {
        for (label, words) in [((128, 4096), 2), ((129, 4096), 3), ((130, 8192), 3)] {
            let blocks = blocks(&[label]);
            let block = blocks.block(0).expect("the only one");
            let bitmap = Bitmap::new(&[0; 64]);
            assert_eq!(received(bitmap, block, blocks.target()).count(), words);
        }
    }

    fn load(blocks: &Blocks, dirty: &mut PageSet, bytes: &[u8]) -> Result<(), Cause> {
        let mut recovery = Recovery::default();
        recovery.ask(blocks);
        recovery.announce(0)?;
        let unsent = dirty.clone();
        recovery.load(Bitmap::new(bytes), blocks, &unsent, dirty)
    }

    fn empty(blocks: &Blocks) -> Vec<u8> {
        vec![0; bitmap::size(blocks.target_pages(0)) as usize]
    }

    fn set(bytes: &mut [u8], first: u64, count: u64) {
        for bit in first..first + count {
            bytes[bit as usize / 8] |= 1 << (bit % 8);
        }
    }

    #[test]
    fn marks_exactly_the_missing_pages_dirty() {
        let mut random = Random::new(3);
        for size in LABELS {
            let blocks = blocks(&[size]);
            let pieces = size.1 / 4096;
            for share in [1, 2, 5, 50, 1_000_000] {
                let mut bytes = empty(&blocks);
                let mut want = HashSet::new();
                for page in 0..size.0 {
                    if random.below(share) == 0 {
                        set(&mut bytes, page * pieces, pieces);
                    } else {
                        want.insert(page);
                    }
                }
                let mut dirty = sent(&blocks);
                assert_eq!(load(&blocks, &mut dirty, &bytes), Ok(()));
                let got: HashSet<u64> = (0..size.0)
                    .filter(|page| dirty.bits(0).expect("block 0").test(*page))
                    .collect();
                assert_eq!(got, want);
                assert_eq!(dirty.bytes(), want.len() as u64 * size.1);
            }
        }
    }

    #[test]
    fn refuses_a_part_of_a_host_page() {
        for size in LABELS.into_iter().filter(|size| size.1 > 4096) {
            let blocks = blocks(&[size]);
            let pieces = size.1 / 4096;
            for page in [0, 1, size.0 - 1] {
                for (first, count) in [(0, 1), (pieces - 1, 1), (1, pieces - 1), (0, pieces - 1)] {
                    let mut bytes = empty(&blocks);
                    set(&mut bytes, page * pieces + first, count);
                    let got = load(&blocks, &mut sent(&blocks), &bytes);
                    let offset = page * size.1;
                    let block = blocks.block(0).expect("block 0").name.clone();
                    assert_eq!(got, Err(Cause::HalfPage { block, offset }));
                }
            }
        }
    }

    #[test]
    fn refuses_pages_that_were_never_sent() {
        for size in LABELS {
            let blocks = blocks(&[size]);
            let pieces = size.1 / 4096;
            let mut dirty = sent(&blocks);
            let offset = (size.0 - 2) * size.1;
            dirty.add(Span {
                block: 0,
                offset,
                len: size.1,
            });
            let mut bytes = empty(&blocks);
            set(&mut bytes, 0, pieces * (size.0 - 2));
            assert_eq!(load(&blocks, &mut dirty, &bytes), Ok(()));
            set(&mut bytes, pieces * (size.0 - 2), pieces);
            let block = blocks.block(0).expect("block 0").name.clone();
            let got = load(&blocks, &mut dirty, &bytes);
            assert_eq!(got, Err(Cause::NeverSent { block, offset }));
        }
    }

    #[test]
    fn refuses_bitmaps_of_wrong_size_and_bits_past_the_end() {
        let blocks = blocks(&[(130, 4096)]);
        let block = blocks.block(0).expect("block 0").name.clone();
        for size in [0, 8, 16, 32] {
            let got = load(&blocks, &mut sent(&blocks), &vec![0; size]);
            let rule = Rule::BitmapMismatch {
                size: size as u64,
                want: 24,
            };
            assert_eq!(
                got,
                Err(Cause::Bitmap {
                    block: block.clone(),
                    rule
                })
            );
        }
        for tail in [130, 191] {
            let mut bytes = empty(&blocks);
            set(&mut bytes, tail, 1);
            let got = load(&blocks, &mut sent(&blocks), &bytes);
            let rule = Rule::BitmapTail;
            assert_eq!(
                got,
                Err(Cause::Bitmap {
                    block: block.clone(),
                    rule
                })
            );
        }
    }

    #[test]
    fn accepts_each_requested_bitmap_once() {
        let blocks = blocks(&[(1, 4096), (2, 4096)]);
        let mut dirty = sent(&blocks);
        let unsent = dirty.clone();
        let mut recovery = Recovery::default();
        assert_eq!(recovery.announce(0), Err(Cause::Unasked));
        assert!(!recovery.is_complete());
        recovery.ask(&blocks);
        assert_eq!(recovery.limit(&blocks), 0);
        assert_eq!(
            recovery.load(Bitmap::new(&[0; 8]), &blocks, &unsent, &mut dirty),
            Err(Cause::Order)
        );
        for block in [1, 0] {
            assert!(!recovery.is_complete());
            assert_eq!(recovery.announce(block), Ok(()));
            assert_eq!(recovery.limit(&blocks), 8);
            assert!(recovery.coming.is_some() && !recovery.is_complete());
            assert_eq!(
                recovery.load(Bitmap::new(&[0; 8]), &blocks, &unsent, &mut dirty),
                Ok(())
            );
            assert_eq!(recovery.announce(block), Err(Cause::Unasked));
        }
        assert!(recovery.is_complete());
        assert_eq!(recovery.announce(2), Err(Cause::Unasked));
        assert_eq!(dirty.bytes(), 3 * 4096);
    }
}

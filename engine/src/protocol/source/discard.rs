//! The discard list: pages that the destination drops because they are sent after the
//! switch.
//!
//! It is written from the folded bits of [`Dirty`], so every range consists of whole
//! host pages and the list equals the set of pages to send. It is written in parts,
//! because the list of a large guest with scattered pages exceeds the source's memory
//! bound. Mirrors `ram.c:ram_postcopy_send_discard_bitmap`.

use retpath_codec::command::{Command, Range, RangeBuf};
use retpath_codec::wire::value::DISCARD_RANGES;
use retpath_codec::{BlockName, Encode};

use crate::blocks::{BlockId, Blocks};

use super::dirty::Dirty;

/// Maximum commands written at once: less than 64 KiB.
const COMMANDS: usize = 128;

/// The position up to which the list has been written.
#[derive(Debug, Default)]
pub(super) struct Discards {
    block: BlockId,
    /// Host page.
    page: u64,
}

impl Discards {
    /// Appends the next part of the list; returns whether it was the last.
    pub(super) fn write(&mut self, dirty: &Dirty, blocks: &Blocks, out: &mut Vec<u8>) -> bool {
        for _ in 0..COMMANDS {
            let Some((block, ranges)) = self.ranges(dirty, blocks) else {
                return true;
            };
            let block = block.name.name();
            Command::PostcopyRamDiscard { block, ranges }
                .encode(out)
                .expect("a few ranges and a checked name fit a command");
        }
        false
    }

    /// The next ranges, all of one block.
    fn ranges<'a>(
        &mut self,
        dirty: &Dirty,
        blocks: &'a Blocks,
    ) -> Option<(&'a crate::blocks::Block, RangeBuf)> {
        loop {
            let block = blocks.block(self.block).ok()?;
            let bits = dirty.bits(self.block)?;
            let mut ranges = Vec::new();
            while ranges.len() < DISCARD_RANGES
                && let Some(first) = bits.next(self.page)
            {
                let end = bits.next_gap(first).unwrap_or(bits.len());
                ranges.push(Range {
                    start: first * block.page,
                    len: (end - first) * block.page,
                });
                self.page = end;
            }
            if let Ok(ranges) = RangeBuf::new(ranges) {
                return Some((block, ranges));
            }
            *self = Self {
                block: self.block + 1,
                page: 0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use retpath_codec::command::{Commands, RangeList};
    use retpath_codec::{Decoded, decode};

    use super::super::dirty::Part;
    use retpath_random::Random;

    use super::super::testing::blocks;
    use super::*;

    type Pages = HashSet<(BlockId, u64)>;

    /// Returns all target pages that the commands name, and checks their form.
    fn read(blocks: &Blocks, mut bytes: &[u8]) -> Pages {
        let mut pages = Pages::new();
        while !bytes.is_empty() {
            let Ok(Decoded::Message { message, rest, .. }) = decode::<Commands>(bytes) else {
                panic!("not a command");
            };
            bytes = rest;
            let Command::PostcopyRamDiscard { block, ranges } = message else {
                panic!("another command");
            };
            let id = blocks.find(block).expect("a known block");
            assert!(ranges.count() <= DISCARD_RANGES);
            for range in ranges.iter() {
                let page = blocks.block(id).expect("a known block").page;
                blocks
                    .check(id, range.start, range.len, page)
                    .expect("whole host pages");
                for tp in range.start / 4096..(range.start + range.len) / 4096 {
                    assert!(pages.insert((id, tp)), "discarded twice");
                }
            }
        }
        pages
    }

    /// Every target page of every host page that has a dirty one.
    fn naive(blocks: &Blocks, dirty: &Pages) -> Pages {
        let mut pages = Pages::new();
        for (id, block) in blocks.iter().enumerate() {
            let each = block.page / 4096;
            for hp in 0..block.len / block.page {
                let all = hp * each..(hp + 1) * each;
                if all.clone().any(|tp| dirty.contains(&(id, tp))) {
                    pages.extend(all.map(|tp| (id, tp)));
                }
            }
        }
        pages
    }

    #[test]
    fn agrees_with_a_naive_list() {
        let mut random = Random::new(1);
        for round in 0..200 {
            let blocks = blocks(&[(200, 4096), (3, 1 << 20), (20, 65536), (1, 4096)]);
            let mut dirty = Dirty::everything(&blocks);
            let mut model = Pages::new();
            let share = [1, 2, 3, 10, 100, 1000][round % 6];
            for id in 0..4 {
                for tp in 0..blocks.target_pages(id) {
                    if random.below(share) == 0 {
                        model.insert((id, tp));
                    } else {
                        dirty.clear(Part {
                            block: id,
                            offset: tp * 4096,
                            len: 4096,
                        });
                    }
                }
            }
            dirty.fold(&blocks);
            let mut out = Vec::new();
            assert!(
                Discards::default().write(&dirty, &blocks, &mut out),
                "fits one part"
            );
            assert_eq!(read(&blocks, &out), naive(&blocks, &model));
        }
    }

    #[test]
    fn writes_a_long_list_in_parts() {
        let blocks = blocks(&[(20_000, 4096)]);
        let mut dirty = Dirty::everything(&blocks);
        for tp in (0..20_000).step_by(2) {
            dirty.clear(Part {
                block: 0,
                offset: tp * 4096,
                len: 4096,
            });
        }
        dirty.fold(&blocks);
        let mut list = Discards::default();
        let (mut whole, mut out, mut parts) = (Vec::new(), Vec::new(), 1);
        while !list.write(&dirty, &blocks, &mut out) {
            assert!(out.len() < 64 << 10);
            whole.append(&mut out);
            parts += 1;
        }
        whole.append(&mut out);
        assert_eq!(parts, 10_000_usize.div_ceil(12 * 128));
        assert_eq!(read(&blocks, &whole).len(), 10_000);
    }
}

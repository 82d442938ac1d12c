//! The discard list: pages that the destination drops because they are sent after the
//! switch.
//!
//! It is written from the folded set of dirty pages, so every range consists of whole
//! host pages and the list equals the set of pages to send. It is written in parts,
//! because the list of a large guest with scattered pages exceeds the source's memory
//! bound. Mirrors `ram.c:ram_postcopy_send_discard_bitmap`.

use retpath_codec::command::{Command, Range, RangeBuf};
use retpath_codec::wire::value::DISCARD_RANGES;
use retpath_codec::{BlockName, Encode};

use crate::blocks::{BlockId, Blocks};

use crate::protocol::page_set::PageSet;

/// Maximum commands written at once: less than 64 KiB.
const COMMANDS: usize = 128;

/// Appends the next part of the list; returns whether it was the last. `at` is the block
/// and the host page where it continues.
pub(super) fn write(
    dirty: &PageSet,
    at: &mut (BlockId, u64),
    blocks: &Blocks,
    out: &mut Vec<u8>,
) -> bool {
    let mut commands = 0;
    while let (Ok(block), Some(bits)) = (blocks.block(at.0), dirty.bits(at.0)) {
        if commands == COMMANDS {
            return false;
        }
        let runs = bits.runs_in(at.1, bits.len()).take(DISCARD_RANGES);
        let range = |(first, pages)| Range {
            start: first * block.page,
            len: pages * block.page,
        };
        let ranges: Vec<Range> = runs.map(range).collect();
        let Some(last) = ranges.last() else {
            *at = (at.0 + 1, 0);
            continue;
        };
        at.1 = (last.start + last.len) / block.page;
        let ranges = RangeBuf::new(ranges).expect("some ranges, but few");
        let block = block.name.name();
        let command = Command::PostcopyRamDiscard { block, ranges };
        command.encode(out).expect("fits a command");
        commands += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use retpath_codec::command::{Commands, RangeList};
    use retpath_codec::{Decoded, decode};

    use crate::blocks::Span;
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
            let mut dirty = PageSet::all(&blocks);
            let mut model = Pages::new();
            let share = [1, 2, 3, 10, 100, 1000][round % 6];
            for id in 0..4 {
                for tp in 0..blocks.target_pages(id) {
                    if random.below(share) == 0 {
                        model.insert((id, tp));
                    } else {
                        dirty.remove(Span {
                            block: id,
                            offset: tp * 4096,
                            len: 4096,
                        });
                    }
                }
            }
            dirty.fold(&blocks);
            let mut out = Vec::new();
            let all = write(&dirty, &mut (0, 0), &blocks, &mut out);
            assert!(all, "fits one part");
            assert_eq!(read(&blocks, &out), naive(&blocks, &model));
        }
    }

    #[test]
    fn writes_a_long_list_in_parts() {
        let blocks = blocks(&[(20_000, 4096)]);
        let mut dirty = PageSet::all(&blocks);
        for tp in (0..20_000).step_by(2) {
            dirty.remove(Span {
                block: 0,
                offset: tp * 4096,
                len: 4096,
            });
        }
        dirty.fold(&blocks);
        let mut at = (0, 0);
        let (mut whole, mut out, mut parts) = (Vec::new(), Vec::new(), 1);
        while !write(&dirty, &mut at, &blocks, &mut out) {
            assert!(out.len() < 64 << 10);
            whole.append(&mut out);
            parts += 1;
        }
        whole.append(&mut out);
        assert_eq!(parts, 10_000_usize.div_ceil(12 * 128));
        assert_eq!(read(&blocks, &whole).len(), 10_000);
    }
}

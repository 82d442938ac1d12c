//! The main channel apart from pages: header, sections, commands, discards and the package.
//!
//! Every function appends to the main channel's bytes. None can fail: names and
//! lengths have been checked before.

use retpath_codec::command::{Command, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{Subsection, write};
use retpath_codec::wire::value::{
    DISCARD_RANGES, PING_AFTER_PACKAGE, PING_BEFORE_PACKAGE, PING_IN_PACKAGE, PING_OPENED,
    PING_PACKAGE_LOADED,
};
use retpath_codec::{BlockName, Encode, Name};

use crate::blocks::{BlockId, Blocks};

use super::config::Config;
use crate::protocol::page_set::PageSet;

/// Sent twice after the preempt channel is connected: a QEMU without the capability
/// closes the channel in the turn of its main loop that answers the first one.
pub(super) const PING_PREEMPT: u32 = 5;

/// Maximum size of a device state in bytes: a package holds 2^32 - 1 bytes, 28 of which
/// are its commands.
pub const MAX_DEVICE_STATE: u64 = 0xffff_ffff - (5 + 9 + 9 + 5);

/// Maximum commands written at once: less than 64 KiB.
const DISCARD_COMMANDS: usize = 128;

/// Appends everything up to the end of the block list.
pub(super) fn head(config: &Config, blocks: &Blocks, out: &mut Vec<u8>) {
    write::header(out);
    if config.configuration {
        write::configuration(&config.machine, out).expect("checked by Config::check");
        if config.page_bits {
            let bits = blocks.target().trailing_zeros();
            write::subsection(&Subsection::TargetPageBits(bits), out);
        }
    }
    command(Command::OpenReturnPath, out);
    ping(PING_OPENED, out);
    let sizes = PageSizes {
        summary: blocks.page_summary(),
        target: blocks.target(),
    };
    command(Command::PostcopyAdvise { sizes: Some(sizes) }, out);
    out.extend_from_slice(&config.early_state);
    write::ram_start(config.section, out);
    let total = blocks.iter().map(|block| block.len).sum();
    write::mem_size(total, out).expect("made of whole target pages");
    let ordinary = config.host_page.max(blocks.target());
    for block in blocks.iter() {
        let page = (block.page != ordinary).then_some(block.page);
        write::block(block.name.name(), block.len, page, None, out);
    }
    end_section(config, out);
}

/// Ends a section of `ram`.
pub(super) fn end_section(config: &Config, out: &mut Vec<u8>) {
    write::eos(out);
    if config.footers {
        write::footer(config.section, out);
    }
}

/// Appends the package: LISTEN, the device state and RUN, with the PINGs in and around it.
pub(super) fn package(config: &Config, device_state: &[u8], out: &mut Vec<u8>) {
    if config.outer_pings {
        ping(PING_BEFORE_PACKAGE, out);
    }
    // The size of the nested stream is filled in afterwards.
    command(Command::Packaged { size: 0 }, out);
    let start = out.len();
    command(Command::PostcopyListen, out);
    out.extend_from_slice(device_state);
    ping(PING_IN_PACKAGE, out);
    if config.ping_loaded {
        ping(PING_PACKAGE_LOADED, out);
    }
    command(Command::PostcopyRun, out);
    let size = u32::try_from(out.len() - start).expect("checked by Source::switch");
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    if config.outer_pings {
        ping(PING_AFTER_PACKAGE, out);
    }
}

/// Appends the last section of `ram` and the end of the stream.
pub(super) fn end(config: &Config, out: &mut Vec<u8>) {
    write::end(config.section, out);
    end_section(config, out);
    write::eof(out);
}

pub(super) fn ping(value: u32, out: &mut Vec<u8>) {
    command(Command::Ping { value }, out);
}

pub(super) fn command(command: Command<Name<'_>, RangeBuf>, out: &mut Vec<u8>) {
    command
        .encode(out)
        .expect("a command of checked parts can be written");
}

/// Appends the next part of the discard list, pages that the destination drops because
/// they are sent after the switch; returns whether it was the last. `at` is the block and
/// the host page where it continues.
///
/// `dirty` is in host pages, so the list equals the set of pages to send. It is written in
/// parts, because that of a large guest with scattered pages exceeds the source's memory
/// bound. Mirrors `ram.c:ram_postcopy_send_discard_bitmap`.
pub(super) fn discards(
    dirty: &PageSet,
    at: &mut (BlockId, u64),
    blocks: &Blocks,
    out: &mut Vec<u8>,
) -> bool {
    let mut commands = 0;
    while let (Ok(block), Some(bits)) = (blocks.block(at.0), dirty.bits(at.0)) {
        if commands == DISCARD_COMMANDS {
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
        command(Command::PostcopyRamDiscard { block, ranges }, out);
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

    #[test]
    fn computes_the_largest_device_state() {
        let config = Config {
            outer_pings: false,
            ping_loaded: true,
            ..Config::new("pc-i440fx-10.0")
        };
        let mut out = Vec::new();
        package(&config, &[], &mut out);
        let command = 5 + 4;
        let commands = (out.len() - command) as u64;
        assert_eq!(MAX_DEVICE_STATE + commands, u32::MAX.into());
    }

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
            let all = discards(&dirty, &mut (0, 0), &blocks, &mut out);
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
        while !discards(&dirty, &mut at, &blocks, &mut out) {
            assert!(out.len() < 64 << 10);
            whole.append(&mut out);
            parts += 1;
        }
        whole.append(&mut out);
        assert_eq!(parts, 10_000_usize.div_ceil(12 * 128));
        assert_eq!(read(&blocks, &whole).len(), 10_000);
    }
}

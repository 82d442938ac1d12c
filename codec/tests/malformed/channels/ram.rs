//! The block list and RAM records.

use retpath_codec::forward::write;

use super::{COMPRESS, CONTINUE, EOS, FLUSH, HOOK, MEM_SIZE, PAGE_FLAG, XBZRLE, ZERO};
use crate::kit::{PAGE, ROM, Stream, advise, name};

const HUGE: u64 = 2 << 20;

/// The start of the block list, with this total.
fn list(summary: u64, total: u64) -> Stream {
    let mut out = Stream::configured().command(advise(summary, PAGE)).0;
    write::ram_start(1, &mut out);
    write::mem_size(total, &mut out).expect("whole pages");
    Stream(out)
}

fn entry(block: &[u8], len: u64, page_size: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    write::block(name(block), len, page_size, None, &mut out);
    out
}

/// The block list.
pub(super) fn lists() -> Vec<(&'static str, Stream)> {
    let two = || list(PAGE, 2 * PAGE);
    let mut twice = Stream::listed();
    // Without the end of the section.
    twice.0.truncate(twice.0.len() - 13);
    vec![
        (
            "past-total",
            two().raw(entry(b"a", 3 * PAGE, None)).raw([0; 8]),
        ),
        (
            "past-total-second-block",
            two()
                .raw(entry(b"a", PAGE, None))
                .raw(entry(b"b", u64::MAX - 4095, None))
                .raw([0; 8]),
        ),
        (
            "block-twice",
            two()
                .raw(entry(b"a", PAGE, None))
                .raw(entry(b"a", PAGE, None)),
        ),
        ("zero-block", two().raw(entry(b"a", 0, None))),
        ("misaligned-block", two().raw(entry(b"a", PAGE + 1, None))),
        (
            "misaligned-block-of-huge-pages",
            list(PAGE | HUGE, 2 * HUGE).raw(entry(b"hugemem", PAGE, Some(HUGE))),
        ),
        ("empty-name-block", two().raw([0])),
        ("nul-block", two().raw([2, b'a', 0])),
        (
            "not-advised",
            list(PAGE | HUGE, HUGE).raw(entry(b"a", HUGE, Some(1 << 30))),
        ),
        (
            "block-page",
            list(PAGE | HUGE, HUGE)
                .raw(entry(b"hugemem", HUGE, None))
                .word(EOS),
        ),
        ("repeated-list", twice.word(PAGE | MEM_SIZE)),
        (
            "illegal-list-outside-start",
            Stream::listed().part(1).word(PAGE | MEM_SIZE),
        ),
    ]
}

/// RAM records.
pub(super) fn records() -> Vec<(&'static str, Stream)> {
    let before = || Stream::listed().part(1);
    let after = || Stream::switched().part(1);
    let named = |start: Stream, flag: u64| start.word(flag).raw(b"\x06pc.ram");
    let last = u64::MAX - (PAGE - 1);
    vec![
        ("flags-none", before().word(PAGE)),
        ("flags-continue-alone", before().word(CONTINUE)),
        ("flags-two-records", before().word(ZERO | PAGE_FLAG)),
        ("flags-eos-with-continue", before().word(EOS | CONTINUE)),
        ("flags-unknown-400", before().word(0x400)),
        ("flags-after-the-switch", after().word(PAGE_FLAG | 0x800)),
        ("value-offset-of-eos", before().word(PAGE | EOS)),
        ("value-offset-of-hook", before().word(PAGE | HOOK)),
        ("value-offset-of-flush", before().word(PAGE | FLUSH)),
        ("illegal-full", before().word(1)),
        ("illegal-xbzrle-after-the-switch", after().word(XBZRLE)),
        ("illegal-hook-after-the-switch", after().word(HOOK)),
        ("illegal-flush-after-the-switch", after().word(FLUSH)),
        (
            "illegal-list-after-the-switch",
            after().word(PAGE | MEM_SIZE),
        ),
        ("no-block", before().word(ZERO | CONTINUE)),
        ("unknown-block", before().zero(0, Some(b"vga.vram"))),
        ("unknown-block-prefix", before().zero(0, Some(b"pc.ra"))),
        ("empty-name-record", before().word(ZERO).raw([0])),
        ("nul-record", before().word(ZERO).raw(b"\x06pc.ra\0")),
        ("past-block", before().zero(ROM.1, Some(ROM.0))),
        (
            "past-block-after-the-switch",
            after().page(ROM.1, Some(ROM.0)),
        ),
        (
            "past-block-with-continue",
            before().zero(0, Some(ROM.0)).zero(ROM.1, None),
        ),
        ("overflow-record", before().zero(last, Some(ROM.0))),
        ("fill", named(before(), ZERO).raw([0xaa])),
        ("fill-after-the-switch", named(after(), ZERO).raw([1])),
        (
            "value-xbzrle-encoding",
            named(before(), XBZRLE).raw([2, 0, 9]),
        ),
        ("too-long-xbzrle", named(before(), XBZRLE).raw([1, 0x10, 1])),
        (
            "too-long-compressed",
            named(before(), COMPRESS).raw([0, 0, 0x10, 0x0f]),
        ),
    ]
}

//! Defects of RAM records.

use retpath_codec::Rule;
use retpath_codec::forward::{Decoder, Options};

use crate::kit::{PAGE, RAM, ROM, Stream, drain, fresh, refuse, refuse_with};

const ZERO: u64 = 0x002;
const MEM_SIZE: u64 = 0x004;
const PAGE_FLAG: u64 = 0x008;
const EOS: u64 = 0x010;
const CONTINUE: u64 = 0x020;
const XBZRLE: u64 = 0x040;
const HOOK: u64 = 0x080;
const COMPRESS: u64 = 0x100;
const FLUSH: u64 = 0x200;

/// Inside the `ram` section, before the switch.
fn precopy() -> Stream {
    Stream::listed().part(1)
}

/// The same, after the switch.
fn postcopy() -> Stream {
    Stream::switched().part(1)
}

fn word(word: u64) -> Stream {
    Stream::default().word(word)
}

#[test]
fn refuses_flags_that_do_not_identify_one_record() {
    for flags in [
        0,
        CONTINUE,
        ZERO | PAGE_FLAG,
        ZERO | EOS,
        EOS | CONTINUE,
        FLUSH | CONTINUE,
        HOOK | CONTINUE,
        MEM_SIZE | CONTINUE,
        0x400,
        0x800 | PAGE_FLAG,
        0xfff,
    ] {
        refuse(&precopy(), word(PAGE | flags), Rule::Flags { flags }, 0);
        refuse(
            &postcopy(),
            word(flags & !(MEM_SIZE | HOOK | FLUSH) | 0x400),
            Rule::Flags {
                flags: flags & !(MEM_SIZE | HOOK | FLUSH) | 0x400,
            },
            0,
        );
    }
}

#[test]
fn refuses_an_offset_where_there_is_no_page() {
    for flag in [EOS, HOOK, FLUSH] {
        let (got, want) = (PAGE | flag, flag);
        refuse(&precopy(), word(got), Rule::Value { got, want }, 0);
    }
}

#[test]
fn refuses_the_obsolete_record() {
    let state = "in a RAM section";
    refuse(&precopy(), word(1), Rule::Illegal { state }, 0);
}

#[test]
fn refuses_precopy_records_after_the_switch() {
    let state = "after POSTCOPY_LISTEN";
    for flag in [1, MEM_SIZE, XBZRLE, XBZRLE | CONTINUE, HOOK, FLUSH] {
        refuse(&postcopy(), word(flag), Rule::Illegal { state }, 0);
    }
}

#[test]
fn refuses_all_but_pages_on_the_preempt_channel() {
    let mut main = fresh();
    drain(&mut main, &Stream::switched().0, |_, _, _| {}).unwrap();
    let state = "on the preempt channel";
    let none = Stream::default();
    for flag in [1, MEM_SIZE, XBZRLE, HOOK, COMPRESS, FLUSH] {
        refuse_with(
            main.preempt(),
            &none,
            word(flag),
            Rule::Illegal { state },
            0,
        );
    }
    refuse_with(
        main.preempt(),
        &none,
        word(ZERO | CONTINUE),
        Rule::NoBlock,
        0,
    );
    refuse_with(main.preempt(), &word(EOS), [0], Rule::AfterEnd, 0);
}

#[test]
fn refuses_continue_before_a_name() {
    for flag in [ZERO, PAGE_FLAG, XBZRLE, COMPRESS] {
        refuse(&precopy(), word(flag | CONTINUE), Rule::NoBlock, 0);
    }
}

#[test]
fn refuses_unknown_block_names() {
    let named = |name: &[u8]| {
        let size = u8::try_from(name.len()).unwrap();
        word(ZERO).raw([size]).raw(name).raw([0])
    };
    refuse(&precopy(), named(b"vga.vram"), Rule::UnknownBlock, 8);
    refuse(&precopy(), named(b"pc.ra"), Rule::UnknownBlock, 8);
    refuse(&precopy(), named(b""), Rule::EmptyName, 8);
    refuse(&precopy(), named(b"pc.ram\0"), Rule::NulInName, 8);
    // Before the block list no block is known.
    let early = Stream::advised().head(retpath_codec::forward::SectionKind::Start, 1, b"ram");
    refuse(&early, named(b"pc.ram"), Rule::UnknownBlock, 8);
}

#[test]
fn refuses_pages_beyond_their_block() {
    for offset in [ROM.1, ROM.1 + PAGE, 1 << 62] {
        let rule = Rule::PastBlock {
            start: offset,
            len: ROM.1,
        };
        let record = Stream::default().zero(offset, Some(ROM.0));
        refuse(&precopy(), &record, rule, 0);
        refuse(&postcopy(), &record, rule, 0);
    }
    let (start, len) = (u64::MAX - 4095, PAGE);
    let last = Stream::default().zero(start, Some(ROM.0));
    refuse(&precopy(), last, Rule::Overflow { start, len }, 0);
    // The length of the named block counts, not that of the last one.
    let start = precopy().zero(0, Some(RAM.0)).zero(0, Some(ROM.0));
    let rule = Rule::PastBlock {
        start: ROM.1,
        len: ROM.1,
    };
    refuse(&start, Stream::default().zero(ROM.1, None), rule, 0);
}

#[test]
fn refuses_a_nonzero_fill_byte() {
    let mut record = Stream::default().zero(0, Some(RAM.0)).0;
    *record.last_mut().unwrap() = 0xaa;
    let rule = Rule::Fill { fill: 0xaa };
    refuse(&precopy(), &record, rule, 15);
    refuse(&postcopy(), &record, rule, 15);
    let options = Options::default().nonzero_fill(true);
    let bytes = precopy().raw(&record);
    let mut seen = None;
    drain(&mut Decoder::new(options), &bytes.0, |_, _, event| {
        seen = Some(event)
    })
    .unwrap();
    let mut out = Vec::new();
    seen.unwrap().encode(&listed_blocks(), &mut out).unwrap();
    assert_eq!(out, record);
}

fn listed_blocks() -> Vec<retpath_codec::forward::StreamBlock> {
    let mut decoder = fresh();
    drain(&mut decoder, &Stream::listed().0, |_, _, _| {}).unwrap();
    decoder.blocks().to_vec()
}

#[test]
fn refuses_malformed_xbzrle_records() {
    let record = |encoding: u8, size: u16| {
        word(XBZRLE)
            .raw(b"\x06pc.ram")
            .raw([encoding])
            .raw(size.to_be_bytes())
    };
    let (got, want) = (2, 1);
    refuse(&precopy(), record(2, 9), Rule::Value { got, want }, 15);
    let longest = precopy().raw(record(1, 4096).0).raw([0; 4096]);
    drain(&mut fresh(), &longest.0, |_, _, _| {}).unwrap();
    let (len, limit) = (4097, 4096);
    refuse(
        &precopy(),
        record(1, 4097),
        Rule::TooLong { len, limit },
        16,
    );
}

#[test]
fn refuses_compressed_pages_that_grew_too_much() {
    let record = |size: u32| word(COMPRESS).raw(b"\x06pc.ram").raw(size.to_be_bytes());
    let limit = 4096 + 1 + 13;
    for len in [limit + 1, usize::try_from(u32::MAX).unwrap()] {
        let rule = Rule::TooLong { len, limit };
        refuse(&precopy(), record(u32::try_from(len).unwrap()), rule, 15);
    }
}

#[test]
fn refuses_the_block_list_outside_section_start() {
    let state = "outside SECTION_START";
    refuse(
        &precopy(),
        word(PAGE | MEM_SIZE),
        Rule::Illegal { state },
        0,
    );
    let mut start = Stream::listed();
    start.0.truncate(start.0.len() - 13);
    refuse(&start, word(PAGE | MEM_SIZE), Rule::Repeated, 0);
}

//! The block list and its optional fields.

use retpath_codec::command::Command;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{
    BlockIndex, Decoder, Event, Options, ResumeState, StreamBlock, write,
};
use retpath_codec::{BlockName, NameBuf, Rule};

use crate::kit::{PAGE, Stream, advise, drain, fresh, name, refuse, refuse_with};

const HUGE: u64 = 2 << 20;

/// The start of a `ram` section with this total.
fn list(start: Stream, total: u64) -> Stream {
    let mut out = start.0;
    write::ram_start(1, &mut out);
    write::mem_size(total, &mut out).unwrap();
    Stream(out)
}

fn entry(block: &[u8], len: u64, page_size: Option<u64>) -> Stream {
    let mut out = Vec::new();
    write::block(name(block), len, page_size, None, &mut out);
    Stream(out)
}

fn advised(summary: u64) -> Stream {
    Stream::configured().command(advise(summary, PAGE))
}

fn sizes(decoder: &Decoder) -> Vec<u64> {
    decoder.blocks().iter().map(|b| b.page_size).collect()
}

fn with_page_size(block: &str, size: u64) -> Options {
    Options::default().page_sizes([(NameBuf::new(block).unwrap(), size)])
}

#[test]
fn refuses_a_block_longer_than_the_total() {
    let start = list(advised(PAGE), 3 * PAGE).raw(entry(b"a", 2 * PAGE, None));
    let (len, left) = (2 * PAGE, PAGE);
    let rule = Rule::PastTotal { len, left };
    refuse(&start, entry(b"b", len, None).raw([0; 8]), rule, 2);
    let (len, left) = (u64::MAX - 4095, PAGE);
    let rule = Rule::PastTotal { len, left };
    refuse(&start, entry(b"b", len, None).raw([0; 8]), rule, 2);
}

#[test]
fn refuses_a_block_twice() {
    let start = list(advised(PAGE), 3 * PAGE).raw(entry(b"a", PAGE, None));
    refuse(&start, entry(b"a", PAGE, None), Rule::BlockTwice, 0);
}

#[test]
fn refuses_a_block_length_that_is_not_a_positive_number_of_pages() {
    let start = list(advised(PAGE), 3 * PAGE);
    refuse(&start, entry(b"a", 0, None), Rule::Zero, 2);
    let rule = Rule::Misaligned {
        value: 4097,
        page: PAGE,
    };
    refuse(&start, entry(b"a", 4097, None), rule, 2);
    let start = list(advised(PAGE | HUGE), 3 * PAGE);
    let rule = Rule::Misaligned {
        value: PAGE,
        page: HUGE,
    };
    refuse(&start, entry(b"a", PAGE, Some(HUGE)), rule, 2);
}

#[test]
fn refuses_invalid_names() {
    let start = list(advised(PAGE), 3 * PAGE);
    refuse(&start, [0], Rule::EmptyName, 0);
    refuse(&start, [2, b'a', 0], Rule::NulInName, 0);
}

#[test]
fn refuses_more_blocks_than_the_options_allow() {
    let options = Options::default().max_blocks(1);
    let start = list(advised(PAGE), 3 * PAGE).raw(entry(b"a", PAGE, None));
    let (got, limit) = (2, 1);
    let second = entry(b"b", PAGE, None);
    refuse_with(
        Decoder::new(options),
        &start,
        second,
        Rule::Limit { got, limit },
        0,
    );
}

#[test]
fn finds_page_sizes_without_options() {
    // In the middle, twice in a row, and as the last entry before a record.
    let bytes = list(advised(PAGE | HUGE), 3 * HUGE + 2 * PAGE)
        .raw(entry(b"a", PAGE, None))
        .raw(entry(b"b", HUGE, Some(HUGE)))
        .raw(entry(b"c", HUGE, Some(HUGE)))
        .raw(entry(b"d", PAGE, None))
        .raw(entry(b"e", HUGE, Some(HUGE)))
        .eos(1);
    for options in [
        Options::default(),
        with_page_size("c", HUGE),
        with_page_size("d", PAGE),
    ] {
        let mut decoder = Decoder::new(options);
        let mut written = Vec::new();
        drain(&mut decoder, &bytes.0, |decoder, _, event| {
            event.encode(decoder.blocks(), &mut written).unwrap();
        })
        .unwrap();
        assert_eq!(sizes(&decoder), [PAGE, HUGE, HUGE, PAGE, HUGE]);
        assert_eq!(written, bytes.0);
    }
}

#[test]
fn does_not_mistake_a_length_for_a_page_size() {
    // The name of the next entry has one byte, so its length byte is 0x01.
    let bytes = list(advised(PAGE | HUGE), HUGE + PAGE)
        .raw(entry(b"a", HUGE, None))
        .raw(entry(b"b", PAGE, None))
        .eos(1);
    let mut decoder = fresh();
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    assert_eq!(sizes(&decoder), [PAGE, PAGE]);
}

#[test]
fn refuses_page_sizes_that_differ_from_advise_or_options() {
    let start = list(advised(PAGE | HUGE), HUGE);
    let size = 1 << 30;
    let rule = Rule::NotAdvised {
        size,
        summary: PAGE | HUGE,
    };
    let gigantic = entry(b"a", HUGE, Some(size)).raw([0; 8]);
    refuse(&start, gigantic, rule, 10);
    let rule = Rule::BlockPage {
        got: PAGE,
        want: HUGE,
    };
    let decoder = Decoder::new(with_page_size("a", HUGE));
    let usual = entry(b"a", HUGE, None).word(0x10);
    refuse_with(decoder, &start, usual, rule, 10);
}

#[test]
fn uses_the_host_page_size_of_advise() {
    let host = 65536;
    let bytes = list(advised(host | HUGE), host + HUGE)
        .raw(entry(b"a", host, None))
        .raw(entry(b"b", HUGE, Some(HUGE)))
        .eos(1);
    let mut decoder = fresh();
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    assert_eq!(sizes(&decoder), [host, HUGE]);
}

#[test]
fn uses_the_host_page_size_of_the_options_if_advise_has_it() {
    let bytes = list(advised(PAGE | HUGE), PAGE + HUGE)
        .raw(entry(b"a", HUGE, None))
        .raw(entry(b"b", PAGE, Some(PAGE)))
        .eos(1);
    let mut decoder = Decoder::new(Options::default().host_page(HUGE));
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    assert_eq!(sizes(&decoder), [HUGE, PAGE]);
}

#[test]
fn uses_the_page_sizes_of_the_options_in_precopy() {
    let bytes = list(Stream::configured(), HUGE + PAGE)
        .raw(entry(b"a", HUGE, None))
        .raw(entry(b"b", PAGE, None))
        .eos(1);
    let mut decoder = Decoder::new(with_page_size("a", HUGE));
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    assert_eq!(sizes(&decoder), [HUGE, PAGE]);
}

#[test]
fn round_trips_names_that_are_not_utf8() {
    let odd: Vec<u8> = (1..=255).collect();
    let bytes = list(advised(PAGE), PAGE)
        .raw(entry(&odd, PAGE, None))
        .eos(1);
    let mut decoder = fresh();
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    assert_eq!(decoder.block(&odd).map(|id| id.index()), Some(0));
    assert_eq!(decoder.block(b"a"), None);
}

#[test]
fn accepts_an_empty_block_list() {
    let bytes = list(advised(PAGE), 0).eos(1);
    let mut decoder = fresh();
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    assert!(decoder.blocks().is_empty());
}

fn capabilities(names: &[&[u8]]) -> Stream {
    let mut out = b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0".to_vec();
    out.push(u8::try_from(names.len()).unwrap());
    for name in names {
        out.push(u8::try_from(name.len()).unwrap());
        out.extend(*name);
    }
    Stream::configured().raw(out)
}

#[test]
fn reads_guest_addresses_with_ignore_shared() {
    let precopy = capabilities(&[b"x-ignore-shared"]);
    let postcopy = capabilities(&[b"x-ignore-shared"]).command(advise(PAGE, PAGE));
    for start in [precopy, postcopy] {
        let mut bytes = list(start, 2 * PAGE);
        // An address that is also a valid page size.
        write::block(name(b"a"), PAGE, None, Some(PAGE), &mut bytes.0);
        write::block(name(b"b"), PAGE, None, Some(1 << 32), &mut bytes.0);
        let bytes = bytes.eos(1);
        let mut addresses = Vec::new();
        let mut written = Vec::new();
        drain(&mut fresh(), &bytes.0, |decoder, _, event| {
            if let Event::Record(Record::Block { gpa, .. }) = event {
                addresses.push(gpa);
            }
            event.encode(decoder.blocks(), &mut written).unwrap();
        })
        .unwrap();
        assert_eq!(addresses, [Some(PAGE), Some(1 << 32)]);
        assert_eq!(written, bytes.0);
    }
}

#[test]
fn refuses_mapped_ram() {
    let mut out = capabilities(&[b"mapped-ram"]).0;
    write::ram_start(1, &mut out);
    let total = 0x1000_u64 | 4;
    refuse(&Stream(out), total.to_be_bytes(), Rule::MappedRam, 0);
    assert!(!Rule::MappedRam.is_peer_fault());
}

#[test]
fn uses_the_target_page_size_of_the_stream() {
    let bits = b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0d";
    let configured = Stream::configured().raw(bits);
    let mut decoder = fresh();
    drain(&mut decoder, &configured.0, |_, _, _| {}).unwrap();
    assert_eq!(decoder.target_page(), 8192);
    let rule = Rule::Misaligned {
        value: PAGE,
        page: 8192,
    };
    let start = list(configured, 8192);
    refuse(&start, entry(b"a", PAGE, None), rule, 2);

    let advised = Stream::configured().command(advise(65536, 16384));
    let mut decoder = fresh();
    drain(&mut decoder, &advised.0, |_, _, _| {}).unwrap();
    assert_eq!(decoder.target_page(), 16384);
    assert_eq!(decoder.page_sizes().unwrap().summary, 65536);

    let bitmaps = Stream::configured().command(Command::PostcopyAdvise { sizes: None });
    let mut decoder = fresh();
    drain(&mut decoder, &bitmaps.0, |_, _, _| {}).unwrap();
    assert_eq!((decoder.target_page(), decoder.page_sizes()), (4096, None));
}

/// The names of many blocks, in an order that is neither ascending nor descending.
fn many_names() -> Vec<Vec<u8>> {
    let number = |i: usize| i * 1_234_577 % 4096;
    (0..4096)
        .map(|i| format!("mem{}", number(i)).into_bytes())
        .collect()
}

#[test]
fn finds_each_of_many_blocks_by_its_name() {
    let names = many_names();
    let total = PAGE * u64::try_from(names.len()).unwrap();
    let mut bytes = list(Stream::configured(), total);
    for block in &names {
        bytes = bytes.raw(entry(block, PAGE, None));
    }
    for block in &names {
        bytes = bytes.zero(0, Some(block));
    }
    let mut decoder = fresh();
    let mut found = Vec::new();
    drain(&mut decoder, &bytes.0, |_, _, event| {
        if let Event::Record(Record::Zero { block, .. }) = event {
            found.push(block.index());
        }
    })
    .unwrap();
    assert!(found.into_iter().eq(0..names.len()));
    for (index, block) in names.iter().enumerate() {
        assert_eq!(decoder.block(block).map(BlockIndex::index), Some(index));
        assert_eq!(decoder.blocks()[index].name.name(), name(block));
    }
    assert_eq!(decoder.block(b"mem"), None);

    let mut blind = Decoder::blind_preempt(Options::default());
    for (index, block) in names.iter().enumerate().chain(names.iter().enumerate()) {
        let record = Stream::default().zero(0, Some(block)).0;
        drain(&mut blind, &record, |_, _, _| {}).unwrap();
        assert_eq!(blind.block(block).map(BlockIndex::index), Some(index));
    }
    assert_eq!(blind.blocks().len(), names.len());
}

#[test]
fn finds_the_first_of_two_blocks_that_a_caller_gave_the_same_name() {
    let block = |len| StreamBlock::new(NameBuf::new("ram").unwrap(), Some(len), PAGE);
    let known = ResumeState::new(PAGE, vec![block(PAGE), block(2 * PAGE)], 1, true);
    let decoder = Decoder::resume_from(Options::default(), known);
    assert_eq!(decoder.block(b"ram").map(BlockIndex::index), Some(0));
    assert_eq!(decoder.blocks().len(), 2);
}

//! Memory and work while a peer sends without end: bounded by the options, not by what
//! was sent.

use allocation_counter::measure;
use retpath_codec::Rule;
use retpath_codec::command::Command;
use retpath_codec::forward::{Decoded, Decoder, MAX_ITEM, Options, SectionKind, write};
use retpath_codec::tokio::Forward;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder as _;

use crate::device::old_discarded;
use crate::kit::{PAGE, Stream, advise, drain, fresh, name};

/// Bytes of device state that a decoder may leave with its caller: a footer and a
/// section header.
const MAX_CANDIDATE: usize = 274;

/// Device state full of bytes that resemble its end.
fn hostile_state(id: u32) -> Vec<u8> {
    let footer = Stream::default().footer(id).0;
    let long = [&footer[..], &[4, 0, 0, 1, 0, 255], &[b'~'; 255], &[0; 7]].concat();
    let pieces: [&[u8]; 6] = [
        &[0x7e; 40],
        &footer,
        // A section header with a control character at the end of its name.
        &[&footer[..], &[4, 0, 0, 1, 0, 255], &[b'~'; 254], b"\n"].concat(),
        // A command that is too long.
        &[&footer[..], &[8, 0, 10, 0, 200, 199], &[b'x'; 100]].concat(),
        // The description of another format.
        &[&footer[..], b"\0\x06\0\0\0\x09["].concat(),
        &long[..200],
    ];
    let once = [&pieces.concat()[..], &[0; 300]].concat();
    once.repeat(4)
}

/// Streams up to device state that does not end.
fn open_states() -> [(&'static str, Stream, u32); 4] {
    let full = SectionKind::Full;
    let package = |start: Stream| start.command(Command::Packaged { size: u32::MAX });
    let saved = Stream::configured().head(SectionKind::Start, 1, b"ram");
    let saved = saved.word(4).eos(1);
    let old = Stream::default().raw(b"QEVM\0\0\0\x03");
    let old = old.head(SectionKind::Start, 1, b"ram").word(4).word(0x10);
    let listened = |start| package(start).listen().head(full, 5, b"timer");
    [
        ("package", listened(Stream::discarded()), 5),
        ("package without footers", listened(old_discarded()), 5),
        ("saved stream", saved.head(full, 5, b"timer"), 5),
        (
            "saved stream without footers",
            old.head(full, 5, b"timer"),
            5,
        ),
    ]
}

#[test]
fn keeps_no_device_state() {
    for (what, start, id) in open_states() {
        let mut decoder = fresh();
        drain(&mut decoder, &start.0, |_, _, _| {}).unwrap();
        let chunk = hostile_state(id);
        let mut input = Vec::with_capacity(2 * chunk.len());
        let memory = measure(|| {
            for _ in 0..500 {
                input.extend(&chunk);
                let left = drain(&mut decoder, &input, |_, _, _| {}).unwrap().len();
                assert!(left < MAX_CANDIDATE, "{what}: leaves {left} bytes");
                input.drain(..input.len() - left);
            }
        });
        assert!(decoder.offset() > 1_000_000, "{what}");
        assert_eq!(memory.bytes_total, 0, "{what}: {memory:?}");
    }
}

#[test]
fn examines_device_state_that_arrives_in_single_bytes_with_linear_work() {
    for (what, start, id) in open_states() {
        let mut decoder = fresh();
        drain(&mut decoder, &start.0, |_, _, _| {}).unwrap();
        let state = hostile_state(id);
        let (mut at, mut have, mut offered) = (0, 0, 0);
        while at + have < state.len() {
            have += 1;
            // A call examines nothing but the bytes that it is offered.
            offered += have;
            while let Decoded::Event { size, .. } = decoder.next(&state[at..at + have]).unwrap() {
                at += size;
                have -= size;
                offered += have;
            }
            assert!(have < MAX_CANDIDATE, "{what}: keeps {have} bytes");
        }
        assert!(offered <= 2 * MAX_CANDIDATE * state.len(), "{what}");
    }
}

#[test]
fn keeps_nothing_of_records_commands_and_descriptions() {
    let records = Stream::default().zero(0, Some(b"pc.ram"));
    let records = records.zero(4096, None).page(0, Some(b"rom"));
    let sections = records.clone().eos(1).command(Command::Ping { value: 1 });
    let sections = sections.part(1).raw(&records);
    let discards = Stream::default().command(crate::kit::discard(b"rom", 0, PAGE));
    let eof = Stream::configured().eof();
    let long = write_description(u32::MAX);
    let options = Options::default().max_description(u32::MAX);
    let cases = [
        ("sections", fresh(), Stream::listed().part(1), sections),
        ("discards", fresh(), Stream::listed(), discards),
        (
            "description",
            Decoder::new(options),
            eof.raw(long),
            Stream::default().raw([b' '; 999]),
        ),
    ];
    for (what, mut decoder, start, repeated) in cases {
        drain(&mut decoder, &start.0, |_, _, _| {}).unwrap();
        let memory = measure(|| {
            for _ in 0..2_000 {
                let left = drain(&mut decoder, &repeated.0, |_, _, _| {}).unwrap();
                assert_eq!(left, b"", "{what}");
            }
        });
        assert_eq!(memory.bytes_total, 0, "{what}: {memory:?}");
    }
}

fn write_description(size: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write::description(size, &mut out);
    out
}

/// The number `i` as a name of 255 bytes.
fn long_name(i: usize) -> Vec<u8> {
    format!("{i:0255}").into_bytes()
}

/// Bytes of memory that one block may take: its name, the rest of it, and its place in
/// the index; lists grow to twice their size, next to the old list.
const BLOCK: u64 = 255 + 3 * (40 + 4);

#[test]
fn keeps_no_more_blocks_than_the_options_allow() {
    let options = Options::default();
    let (most, limit) = (
        options.max_blocks,
        u64::try_from(options.max_blocks).unwrap(),
    );
    let list = {
        let mut out = Stream::configured().command(advise(PAGE, PAGE)).0;
        write::ram_start(1, &mut out);
        write::mem_size(1 << 60, &mut out).unwrap();
        for i in 0..=most {
            write::block(name(&long_name(i)), PAGE, None, None, &mut out);
        }
        out
    };
    let named = {
        let records = (0..=most).map(|i| Stream::default().zero(0, Some(&long_name(i))).0);
        records.collect::<Vec<_>>().concat()
    };
    let cases = [
        (Decoder::new(options.clone()), list),
        (Decoder::blind_preempt(options), named),
    ];
    for (mut decoder, bytes) in cases {
        let memory = measure(|| {
            let error = drain(&mut decoder, &bytes, |_, _, _| {}).unwrap_err();
            let got = limit + 1;
            assert_eq!(error.rule, Rule::Limit { got, limit });
        });
        assert_eq!(decoder.blocks().len(), most);
        assert!(memory.bytes_max <= limit * BLOCK, "{memory:?}");
    }
}

#[test]
fn keeps_no_more_sections_than_the_options_allow() {
    /// Bytes of memory for one section.
    const SECTION: u64 = 96;
    let limit = u64::try_from(Options::default().max_sections).unwrap();
    let device = |id| Stream::default().device(id, b"0123456789abcdef", []).0;
    let all: Vec<u8> = (2..70_000).flat_map(device).collect();
    let mut decoder = fresh();
    drain(&mut decoder, &Stream::listed().0, |_, _, _| {}).unwrap();
    let memory = measure(|| {
        let error = drain(&mut decoder, &all, |_, _, _| {}).unwrap_err();
        let got = limit + 1;
        assert_eq!(error.rule, Rule::Limit { got, limit });
    });
    assert!(memory.bytes_max <= limit * SECTION, "{memory:?}");
}

/// Announced sizes without the data.
#[test]
fn allocates_nothing_for_sizes_that_are_only_announced() {
    let name_255 = [&[255][..], &[b'x'; 100]].concat();
    let start = Stream::listed().part(1);
    let cases = [
        (Stream::default(), b"QEVM\0\0\0\x03\x07\0\0\0\xff".to_vec()),
        (
            Stream::discarded(),
            Stream::default()
                .command(Command::Packaged { size: u32::MAX })
                .0,
        ),
        (
            start.clone(),
            [&0x08_u64.to_be_bytes()[..], b"\x06pc.ram"].concat(),
        ),
        (
            start.clone(),
            [&0x08_u64.to_be_bytes()[..], &name_255].concat(),
        ),
        (
            start,
            [&0x100_u64.to_be_bytes()[..], b"\x06pc.ram\0\0\x10\x0d"].concat(),
        ),
    ];
    for (start, bytes) in cases {
        let mut decoder = fresh();
        drain(&mut decoder, &start.0, |_, _, _| {}).unwrap();
        let memory = measure(|| assert!(drain(&mut decoder, &bytes, |_, _, _| {}).is_ok()));
        assert_eq!(memory.bytes_total, 0, "{bytes:x?}");
    }
}

#[test]
fn a_tokio_codec_keeps_at_most_one_item() {
    let page = Stream::default().page(0, Some(b"pc.ram")).0;
    let mut starts = open_states()
        .map(|(_, start, id)| (start, hostile_state(id)))
        .to_vec();
    starts.push((Stream::listed().part(1), page));
    for (start, repeated) in starts {
        let mut codec = Forward::new(Options::default());
        let mut input = BytesMut::new();
        let memory = measure(|| {
            let pieces = start.0.chunks(1000);
            for piece in pieces.chain((0..500).flat_map(|_| repeated.chunks(1000))) {
                input.extend_from_slice(piece);
                while codec.decode(&mut input).unwrap().is_some() {}
                assert!(input.len() < MAX_ITEM);
            }
            input = BytesMut::new();
        });
        // The buffer, its predecessor during a copy, and one event.
        let most = u64::try_from(4 * MAX_ITEM).unwrap();
        assert!(memory.bytes_max <= most, "{memory:?}");
    }
}

#[test]
fn asking_whether_an_idle_channel_may_end_copies_nothing() {
    let mut main = fresh();
    drain(&mut main, &Stream::switched().0, |_, _, _| {}).unwrap();
    let [.., (_, start, _)] = open_states();
    let mut saved = fresh();
    drain(&mut saved, &start.0, |_, _, _| {}).unwrap();
    for decoder in [main.preempt(), saved] {
        let memory = measure(|| assert_eq!(decoder.finish(&[]), Ok(())));
        assert_eq!(memory.bytes_total, 0, "{memory:?}");
    }
}

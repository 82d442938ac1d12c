//! A small complete migration, as bytes and as calls of the writers.

use retpath_codec::command::Command;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{BlockIndex, Event, SectionKind};

use crate::kit::{Stream, advise, discard, drain, events, fresh, name};

/// 16 MiB of `pc.ram`, of which three pages are sent after the switch.
pub(crate) fn by_hand() -> Vec<u8> {
    let mut bytes = hex("5145564d 00000003");
    bytes.extend(hex("07 0000000e"));
    bytes.extend(b"pc-i440fx-10.0");
    bytes.extend(hex("08 0001 0000"));
    bytes.extend(hex("08 0002 0004 00000001"));
    bytes.extend(hex("08 0003 0010 0000000000001000 0000000000001000"));
    bytes.extend(hex("01 00000001 03 72616d 00000000 00000004"));
    bytes.extend(hex("0000000001000004"));
    bytes.extend(hex("06 70632e72616d 0000000001000000"));
    bytes.extend(hex("0000000000000010  7e 00000001"));
    bytes.extend(hex(
        "08 0006 0019 00 06 70632e72616d 00 0000000000000000 0000000001000000",
    ));
    bytes.extend(hex("08 0007 0004 00000013"));
    bytes.extend(hex("08 0004 0000"));
    bytes.extend(hex("08 0002 0004 00000003"));
    bytes.extend(hex("08 0005 0000"));
    bytes.extend(hex("02 00000001"));
    bytes.extend(hex("0000000000000002 06 70632e72616d 00"));
    bytes.extend(hex("0000000000001022 00"));
    bytes.extend(hex("0000000000002028"));
    bytes.extend([0xab; 4096]);
    bytes.extend(hex("0000000000000010 7e 00000001"));
    bytes.extend(hex("03 00000001 0000000000000010 7e 00000001"));
    bytes.extend(hex("00"));
    bytes
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| u8::try_from(d).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

#[test]
fn writes_the_example_stream() {
    let package = Stream::default().listen().run();
    let mut out = Stream::configured()
        .command(Command::OpenReturnPath)
        .command(Command::Ping { value: 1 })
        .command(advise(0x1000, 0x1000));
    retpath_codec::forward::write::ram_start(1, &mut out.0);
    retpath_codec::forward::write::mem_size(0x100_0000, &mut out.0).unwrap();
    retpath_codec::forward::write::block(name(b"pc.ram"), 0x100_0000, None, None, &mut out.0);
    let out = out
        .eos(1)
        .command(discard(b"pc.ram", 0, 0x100_0000))
        .package(&package)
        .part(1)
        .zero(0, Some(b"pc.ram"))
        .zero(0x1000, None)
        .page(0x2000, None)
        .eos(1)
        .end(1)
        .eos(1)
        .eof();
    assert_eq!(out.0, by_hand());
}

#[test]
fn decodes_every_item() {
    let bytes = by_hand();
    let block = BlockIndex::new(0);
    let (start, part, end) = (SectionKind::Start, SectionKind::Part, SectionKind::End);
    let mut decoder = fresh();
    let events = events(&mut decoder, &bytes);
    let labels: Vec<&str> = events.iter().map(Event::label).collect();
    assert_eq!(
        labels,
        [
            "HEADER",
            "CONFIGURATION",
            "OPEN_RETURN_PATH",
            "PING",
            "POSTCOPY_ADVISE",
            "SECTION_START",
            "MEM_SIZE",
            "BLOCK",
            "EOS",
            "SECTION_FOOTER",
            "POSTCOPY_RAM_DISCARD",
            "PACKAGED",
            "POSTCOPY_LISTEN",
            "PING",
            "POSTCOPY_RUN",
            "PACKAGE_END",
            "SECTION_PART",
            "ZERO",
            "ZERO",
            "PAGE",
            "EOS",
            "SECTION_FOOTER",
            "SECTION_END",
            "EOS",
            "SECTION_FOOTER",
            "EOF",
        ]
    );
    let Event::Section {
        kind,
        id: 1,
        identity: Some(identity),
    } = events[5]
    else {
        panic!("{:?}", events[5]);
    };
    assert_eq!(kind, start);
    assert_eq!(
        (identity.idstr, identity.instance, identity.version),
        (&b"ram"[..], 0, 4)
    );
    let total = 0x100_0000;
    assert_eq!(events[6], Event::Record(Record::MemSize { total }));
    let entry = Record::Block {
        block,
        name: name(b"pc.ram"),
        len: total,
        page_size: None,
        gpa: None,
    };
    assert_eq!(events[7], Event::Record(entry));
    let piece = |kind| Event::Section {
        kind,
        id: 1,
        identity: None,
    };
    assert_eq!((events[16], events[22]), (piece(part), piece(end)));
    let zero = |offset, named| {
        Event::Record(Record::Zero {
            block,
            offset,
            fill: 0,
            named,
        })
    };
    assert_eq!(
        (events[17], events[18]),
        (zero(0, true), zero(0x1000, false))
    );
    let page = Record::Page {
        block,
        offset: 0x2000,
        data: &[0xab; 4096],
        named: false,
    };
    assert_eq!(events[19], Event::Record(page));
    assert!(decoder.has_ended() && decoder.is_listening() && decoder.is_running());
    assert_eq!(decoder.offset(), u64::try_from(bytes.len()).unwrap());
}

#[test]
fn encodes_to_the_same_bytes() {
    let bytes = by_hand();
    let mut written = Vec::new();
    drain(&mut fresh(), &bytes, |decoder, offset, event| {
        assert_eq!(offset, u64::try_from(written.len()).unwrap());
        event.encode(decoder.blocks(), &mut written).unwrap();
    })
    .unwrap();
    assert_eq!(written, bytes);
}

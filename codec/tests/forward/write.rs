//! The writers: errors leave the buffer unchanged.

use std::io;

use retpath_codec::command::{Command, Commands, Range, RangeBuf};
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::write::{IoBuffer, SliceBuffer};
use retpath_codec::forward::{BlockIndex, Event, Identity, SectionKind, Subsection, write};
use retpath_codec::{Decoded, Encode, Rule, decode};
use tokio_util::bytes::BytesMut;

use crate::kit::{Stream, drain, fresh, name};

fn identity(idstr: &[u8]) -> Option<Identity<'_>> {
    Some(Identity {
        idstr,
        instance: 0,
        version: 1,
    })
}

#[track_caller]
fn refused(event: Event<'_>, rule: Rule) {
    let mut out = vec![1, 2, 3];
    let error = event.encode(&[], &mut out).unwrap_err();
    let failed = event.encode_to(&[], &mut out).unwrap_err();
    assert_eq!(failed.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(event.encode_into(&[], &mut [0; 70_000]), Err(error));
    assert_eq!(error.rule, rule);
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn refuses_to_encode_events_that_no_stream_can_have() {
    refused(Event::Configuration { machine: &[] }, Rule::Zero);
    let section = |kind, identity| Event::Section {
        kind,
        id: 1,
        identity,
    };
    let long = [b'x'; 256];
    refused(section(SectionKind::Full, identity(&[])), Rule::Zero);
    refused(
        section(SectionKind::Start, identity(&long)),
        Rule::NameTooLong,
    );
    refused(section(SectionKind::Start, None), Rule::Short);
    refused(section(SectionKind::End, identity(b"ram")), Rule::Short);
    let record = |offset, named| {
        Event::Record(Record::Zero {
            block: BlockIndex::new(0),
            offset,
            fill: 0,
            named,
        })
    };
    refused(record(0, true), Rule::UnknownBlock);
    let (value, page) = (100, 1024);
    refused(record(100, false), Rule::Misaligned { value, page });
    let block = BlockIndex::new(0);
    let contents = |offset, named| {
        Event::Record(Record::Page {
            block,
            offset,
            data: &[],
            named,
        })
    };
    refused(contents(0, true), Rule::UnknownBlock);
    refused(contents(100, false), Rule::Misaligned { value, page });
    let total = Event::Record(Record::MemSize { total: 1 });
    refused(total, Rule::Misaligned { value: 1, page });
    let difference = |offset, data, named| {
        Event::Record(Record::Xbzrle {
            block,
            offset,
            data,
            named,
        })
    };
    let (len, limit) = (65536, 65535);
    refused(
        difference(0, &[0; 65536], false),
        Rule::TooLong { len, limit },
    );
    refused(difference(0, &[], true), Rule::UnknownBlock);
    refused(
        difference(100, &[], false),
        Rule::Misaligned { value, page },
    );
    let compressed = |offset, data, named| {
        Event::Record(Record::Compressed {
            block,
            offset,
            data,
            named,
        })
    };
    // The zlib stream of the largest page.
    let limit = 65536 + 16 + 4 + 13;
    let data = vec![0; limit + 1];
    let len = limit + 1;
    refused(compressed(0, &data, false), Rule::TooLong { len, limit });
    refused(compressed(0, &[], true), Rule::UnknownBlock);
    refused(
        compressed(100, &[], false),
        Rule::Misaligned { value, page },
    );
}

/// A stream with every kind of item.
pub(crate) fn everything() -> Stream {
    let mut out = Vec::new();
    write::header(&mut out);
    write::configuration(b"virt-10.0", &mut out).unwrap();
    write::subsection(&Subsection::TargetPageBits(12), &mut out);
    write::subsection(&Subsection::Uuid(*b"0123456789abcdef"), &mut out);
    out.extend(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0fx-ignore-shared");
    write::ram_start(3, &mut out);
    write::mem_size(8192, &mut out).unwrap();
    write::block(name(b"a"), 8192, None, Some(0x4000_0000), &mut out);
    Stream(out)
        .word(0x200)
        .word(0x80)
        .zero(0, Some(b"a"))
        .word(0x1060)
        .raw([1, 0, 3, 7, 7, 7])
        .word(0x40)
        .raw(b"\x01a\x01\0\0")
        .word(0x1120)
        .raw([0, 0, 0, 2, 9, 9])
        .word(0x100)
        .raw(b"\x01a\0\0\0\x01z")
        .page(0, None)
        .eos(3)
        .end(3)
        .eos(3)
        .device(4, b"cpu", b"state")
        .eof()
        .description(b"{}")
}

#[test]
fn encodes_everything_that_decodes() {
    let bytes = everything();
    let mut written = Vec::new();
    let mut labels = Vec::new();
    let mut decoder = fresh();
    let left = drain(&mut decoder, &bytes.0, |decoder, _, event| {
        event.encode(decoder.blocks(), &mut written).unwrap();
        labels.push(event.label());
    })
    .unwrap();
    assert_eq!(left, b"");
    decoder.finish(&[]).unwrap();
    assert_eq!(written, bytes.0);
    assert_eq!(
        labels,
        [
            "HEADER",
            "CONFIGURATION",
            "SUBSECTION",
            "SUBSECTION",
            "SUBSECTION",
            "SECTION_START",
            "MEM_SIZE",
            "BLOCK",
            "MULTIFD_FLUSH",
            "HOOK",
            "ZERO",
            "XBZRLE",
            "XBZRLE",
            "COMPRESS_PAGE",
            "COMPRESS_PAGE",
            "PAGE",
            "EOS",
            "SECTION_FOOTER",
            "SECTION_END",
            "EOS",
            "SECTION_FOOTER",
            "SECTION_FULL",
            "DEVICE_STATE",
            "SECTION_FOOTER",
            "EOF",
            "VMDESCRIPTION",
            "VMDESCRIPTION",
        ]
    );
}

#[test]
fn lists_capabilities_by_name() {
    let bytes = Stream::configured().raw(
        b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x02\x0fx-ignore-shared\x0amapped-ram",
    );
    let mut names = Vec::new();
    drain(&mut fresh(), &bytes.0, |_, _, event| {
        if let Event::Subsection(Subsection::Capabilities(capabilities)) = event {
            names.extend(capabilities.iter().map(<[u8]>::to_vec));
        }
    })
    .unwrap();
    assert_eq!(names, [&b"x-ignore-shared"[..], b"mapped-ram"]);
}

#[test]
fn refuses_to_encode_more_ranges_than_fit() {
    // The maximum with a short name, then with a long one.
    let ranges = vec![Range { start: 0, len: 1 }; 4095];
    let mut bytes = Vec::new();
    let discard = Command::PostcopyRamDiscard {
        block: name(b"a"),
        ranges: RangeBuf::new(ranges).unwrap(),
    };
    discard.encode(&mut bytes).unwrap();
    let decoded = decode::<Commands>(&bytes);
    let Ok(Decoded::Message {
        message: Command::PostcopyRamDiscard { ranges, .. },
        ..
    }) = decoded
    else {
        panic!("{decoded:?}");
    };
    let long = [b'a'; 255];
    let block = name(&long);
    let (len, limit) = (4095 * 16, 65535 - 3 - 255);
    refused(
        Event::Command(Command::PostcopyRamDiscard { block, ranges }),
        Rule::TooLong { len, limit },
    );
}

/// Counts calls, takes `left` bytes, then fails.
struct Full {
    calls: usize,
    left: usize,
    bytes: Vec<u8>,
}

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first items of [`everything`] and a command, into any buffer.
fn start(out: &mut impl write::Buffer) {
    write::header(out);
    write::configuration(b"virt-10.0", out).unwrap();
    write::subsection(&Subsection::TargetPageBits(12), out);
    Event::Command(Command::Ping { value: 1 })
        .encode(&[], out)
        .unwrap();
    write::ram_start(3, out);
    write::page_header(0, Some(name(b"a")), out).unwrap();
}

#[test]
fn refuses_to_write_a_page_at_an_offset_inside_a_page() {
    let mut out = vec![1, 2, 3];
    let (value, page) = (100, 1024);
    for refused in [
        write::page_header(value, None, &mut out),
        write::zero(value, None, &mut out),
    ] {
        assert_eq!(refused.unwrap_err().rule, Rule::Misaligned { value, page });
    }
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn writes_the_same_to_every_buffer() {
    let mut vec = Vec::new();
    start(&mut vec);
    let size = vec.len();

    let mut bytes = BytesMut::new();
    start(&mut bytes);
    assert_eq!(bytes, vec);

    for room in 0..=size + 1 {
        let mut slice = vec![0xee; room];
        let mut out = SliceBuffer::new(&mut slice);
        start(&mut out);
        if room < size {
            assert_eq!(out.finish(), Err(Rule::NoRoom));
            continue;
        }
        assert_eq!(out.finish(), Ok(size));
        assert_eq!(slice[..size], vec);
        assert!(slice[size..].iter().all(|byte| *byte == 0xee));
    }

    for left in 0..=size {
        let (calls, bytes) = (0, Vec::new());
        let mut file = Full { calls, left, bytes };
        let mut out = IoBuffer::new(&mut file);
        start(&mut out);
        match out.finish() {
            Ok(file) => assert_eq!((left, file.calls), (size, 6), "one call for each item"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
        }
        assert!(
            vec.starts_with(&file.bytes),
            "{left}: writes after an error"
        );
    }
}

#[test]
fn encodes_each_event_into_a_slice_of_its_size() {
    let bytes = everything();
    drain(&mut fresh(), &bytes.0, |decoder, _, event| {
        let mut whole = Vec::new();
        event.encode(decoder.blocks(), &mut whole).unwrap();
        let mut slice = vec![0; whole.len()];
        let size = event.encode_into(decoder.blocks(), &mut slice);
        assert_eq!((size, slice), (Ok(whole.len()), whole.clone()));
        let mut less = vec![0; whole.len() - 1];
        let error = event.encode_into(decoder.blocks(), &mut less).unwrap_err();
        assert_eq!((error.message, error.rule), (event.label(), Rule::NoRoom));
    })
    .unwrap();
}

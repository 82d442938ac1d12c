//! Events as JSON, and events that own their bytes.

use std::collections::BTreeSet;

use retpath_codec::command::Command;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{BlockIndex, Decoder, Event, Options, SectionKind, write};
use serde_json::Value;

use crate::kit::{PAGE, Stream, advise, discard, drain, fresh, name};

/// The events of `bytes` as JSON, one per line.
fn lines(mut decoder: Decoder, bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let left = drain(&mut decoder, bytes, |decoder, _, event| {
        let owned = event.to_buf();
        assert_eq!(owned.as_event(), event);
        assert_eq!(format!("{owned:?}"), format!("{event:?}"));
        assert_eq!(owned.clone(), owned);
        let json = serde_json::to_string(&event.view(decoder.blocks())).unwrap();
        assert_eq!(
            json,
            serde_json::to_string(&owned.as_event().view(decoder.blocks())).unwrap()
        );
        lines.push(json);
    });
    decoder.finish(left.unwrap()).unwrap();
    lines
}

/// A precopy stream with a subsection of each kind and each kind of record.
fn precopy() -> Stream {
    let mut bytes = Vec::new();
    write::header(&mut bytes);
    write::configuration(b"p\xff", &mut bytes).unwrap();
    let bytes = Stream(bytes)
        .raw(b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c")
        .raw(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0fx-ignore-shared")
        .raw(b"\x05\x12configuration/uuid\0\0\0\x01")
        .raw((0..16).collect::<Vec<u8>>())
        .head(SectionKind::Start, 1, b"ram");
    let mut bytes = bytes.0;
    write::mem_size(2 * PAGE, &mut bytes).unwrap();
    write::block(name(b"a"), PAGE, None, Some(1 << 32), &mut bytes);
    write::block(name(b"\xff"), PAGE, None, Some(0), &mut bytes);
    Stream(bytes)
        .eos(1)
        .part(1)
        .zero(0, Some(b"a"))
        .word(0x22)
        .raw([7])
        .page(0, Some(b"\xff"))
        .word(0x60)
        .raw(b"\x01\0\x03abc")
        .word(0x120)
        .raw(b"\0\0\0\x02zz")
        .word(0x200)
        .eos(1)
        .end(1)
        .eos(1)
        .device(5, b"timer", [1, 2, 3])
        .eof()
        .description(b"{}")
}

#[test]
fn shows_every_field_of_a_precopy_stream() {
    let options = Options::default().nonzero_fill(true);
    let wanted = r#"
{"message":"HEADER","version":3}
{"message":"CONFIGURATION","machine":{"hex":"70ff"}}
{"message":"SUBSECTION","name":"configuration/target-page-bits","bits":12}
{"message":"SUBSECTION","name":"configuration/capabilities","capabilities":["x-ignore-shared"]}
{"message":"SUBSECTION","name":"configuration/uuid","uuid":"000102030405060708090a0b0c0d0e0f"}
{"message":"SECTION_START","section":1,"name":"ram","instance":0,"version":4}
{"message":"MEM_SIZE","total":8192}
{"message":"BLOCK","block":"a","len":4096,"gpa":4294967296}
{"message":"BLOCK","block":{"hex":"ff"},"len":4096,"gpa":0}
{"message":"EOS"}
{"message":"SECTION_FOOTER","section":1}
{"message":"SECTION_PART","section":1}
"#;
    let lines = lines(Decoder::new(options), &precopy().0);
    assert_eq!(lines[..12].join("\n"), wanted.trim());
    let rest = r#"
{"message":"ZERO","start":0,"block":"a"}
{"message":"ZERO","start":0,"block":"a","fill":7}
{"message":"PAGE","start":0,"block":{"hex":"ff"}}
{"message":"XBZRLE","start":0,"block":{"hex":"ff"},"len":3}
{"message":"COMPRESS_PAGE","start":0,"block":{"hex":"ff"},"len":2}
{"message":"MULTIFD_FLUSH"}
{"message":"EOS"}
{"message":"SECTION_FOOTER","section":1}
{"message":"SECTION_END","section":1}
{"message":"EOS"}
{"message":"SECTION_FOOTER","section":1}
{"message":"SECTION_FULL","section":5,"name":"timer","instance":0,"version":1}
{"message":"DEVICE_STATE","section":5,"len":3}
{"message":"SECTION_FOOTER","section":5}
{"message":"EOF"}
{"message":"VMDESCRIPTION","len":2}
{"message":"VMDESCRIPTION","len":2}
"#;
    assert_eq!(lines[12..].join("\n"), rest.trim());
}

/// A postcopy stream up to the switch.
fn postcopy() -> Stream {
    let mut bytes = Stream::configured()
        .command(Command::OpenReturnPath)
        .command(advise(PAGE | 2 << 20, PAGE))
        .head(SectionKind::Start, 1, b"ram")
        .0;
    write::mem_size(2 << 20, &mut bytes).unwrap();
    write::block(name(b"a"), 2 << 20, Some(2 << 20), None, &mut bytes);
    Stream(bytes)
        .eos(1)
        .command(discard(b"a", 0, 2 << 20))
        .package(&Stream::default().listen().run())
        .eof()
}

#[test]
fn shows_every_field_of_a_postcopy_stream() {
    let wanted = r#"
{"message":"OPEN_RETURN_PATH"}
{"message":"POSTCOPY_ADVISE","sizes":{"summary":2101248,"target":4096}}
{"message":"SECTION_START","section":1,"name":"ram","instance":0,"version":4}
{"message":"MEM_SIZE","total":2097152}
{"message":"BLOCK","block":"a","len":2097152,"page_size":2097152}
{"message":"EOS"}
{"message":"SECTION_FOOTER","section":1}
{"message":"POSTCOPY_RAM_DISCARD","version":0,"block":"a","terminator":0,"ranges":[{"start":0,"len":2097152}]}
{"message":"PACKAGED","size":19}
{"message":"POSTCOPY_LISTEN"}
{"message":"PING","value":3}
{"message":"POSTCOPY_RUN"}
{"message":"PACKAGE_END"}
{"message":"EOF"}
"#;
    let lines = lines(fresh(), &postcopy().0);
    assert_eq!(lines[2..].join("\n"), wanted.trim());
}

#[test]
fn omits_the_block_of_a_record_when_it_is_unknown() {
    let record = Record::Zero {
        block: BlockIndex::new(0),
        offset: 4096,
        fill: 0,
        named: false,
    };
    assert_eq!(record.page(), Some((BlockIndex::new(0), 4096)));
    assert_eq!(Record::Eos.page(), None);
    let compressed = Record::Compressed {
        block: BlockIndex::new(1),
        offset: 0,
        data: &[],
        named: false,
    };
    assert_eq!(compressed.page(), Some((BlockIndex::new(1), 0)));
    let data: &[u8] = &[];
    for record in [
        Record::Page {
            block: BlockIndex::new(2),
            offset: 0,
            data,
            named: false,
        },
        Record::Xbzrle {
            block: BlockIndex::new(2),
            offset: 0,
            data,
            named: false,
        },
    ] {
        assert_eq!(record.page(), Some((BlockIndex::new(2), 0)));
    }
    let json = serde_json::to_string(&Event::Record(record).view(&[])).unwrap();
    assert_eq!(json, r#"{"message":"ZERO","start":4096}"#);
    let hook = serde_json::to_string(&Event::Record(Record::Hook).view(&[])).unwrap();
    assert_eq!(hook, r#"{"message":"HOOK"}"#);
    assert_eq!(
        Event::Record(Record::Hook).to_buf().as_event().label(),
        "HOOK"
    );
}

#[test]
fn propagates_every_error_of_the_format() {
    let block = Record::Block {
        block: BlockIndex::new(0),
        name: name(b"\xff"),
        len: 4096,
        page_size: None,
        gpa: None,
    };
    let event = Event::Record(block);
    let view = event.view(&[]);
    let size = serde_json::to_vec(&view).unwrap().len();
    for size in 0..size {
        let mut room = vec![0; size];
        assert!(serde_json::to_writer(&mut room[..], &view).is_err());
    }
}

#[test]
fn the_schema_document_lists_every_member() {
    let schema = include_str!("../../JSON.md");
    let mut members = BTreeSet::new();
    for line in [
        lines(
            Decoder::new(Options::default().nonzero_fill(true)),
            &precopy().0,
        ),
        lines(fresh(), &postcopy().0),
    ]
    .concat()
    {
        let Value::Object(object) = serde_json::from_str(&line).unwrap() else {
            panic!("{line} is not an object");
        };
        members.extend(object.into_iter().map(|(member, _)| member));
    }
    assert!(members.len() > 15);
    for member in members {
        assert!(schema.contains(&format!("`{member}`")), "{member}");
    }
}

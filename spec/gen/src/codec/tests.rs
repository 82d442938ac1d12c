//! The generator on rows that the tables do not have.

use super::super::text::Text;
use super::{check, names};
use retpath_spec::model::{Dialect, Field, Kind, Message, READ, Reserved, Rule, Source, Unit};

/// Sources of the codec's parsers and serializers.
const PARSE: &str = include_str!("../../../../codec/src/field/parse.rs");
const WRITE: &str = include_str!("../../../../codec/src/field/write.rs");

const KINDS: [Kind; 8] = [
    Kind::U8,
    Kind::Be32,
    Kind::Be64,
    Kind::Name,
    Kind::FlaggedBe64,
    Kind::FlaggedName,
    Kind::PageSizes,
    Kind::Ranges,
];

const START: Field = Field {
    name: "start",
    kind: Kind::Be64,
    rule: Rule::Any,
    unit: Unit::Offset,
    doc: "a start",
};

#[test]
fn names_a_parser_and_a_serializer_for_every_kind() {
    for kind in KINDS {
        let name = names::kind(kind);
        let parser = match kind {
            // A single byte always has one possible value.
            Kind::U8 => "fn u8_equals<".into(),
            Kind::FlaggedName => "fn flagged_span<".into(),
            _ => format!("fn {name}<"),
        };
        assert!(PARSE.contains(&parser), "{kind:?} is read by `{parser}`");
        let serializer = match kind {
            // cookie-factory's own.
            Kind::U8 | Kind::Be32 | Kind::Be64 => continue,
            _ => format!("fn {name}<"),
        };
        assert!(
            WRITE.contains(&serializer),
            "{kind:?} is written by `{serializer}`"
        );
    }
}

#[test]
fn names_a_type_for_every_kind() {
    let types: Vec<String> = KINDS
        .iter()
        .map(|&kind| names::rust_type(&Field { kind, ..START }))
        .collect();
    let wanted = [
        "u8",
        "u32",
        "u64",
        "N",
        "u64",
        "Option<N>",
        "Option<PageSizes>",
        "R",
    ];
    assert_eq!(types, wanted);
}

#[test]
fn checks_all_fields_of_a_message_that_have_rules() {
    const SOURCE: Source = Source {
        file: "test.c",
        function: "test",
    };
    const LEN: Field = Field {
        name: "len",
        kind: Kind::Be32,
        rule: Rule::Span,
        unit: Unit::Bytes,
        doc: "a length",
    };
    let dialect = Dialect {
        name: "test",
        title: "a test",
        rust: "Test",
        message: "Message",
        qemu: "test",
        doc: "a test's messages",
        lead: &[],
        max_payload: 512,
        reserved: Reserved {
            number: 0,
            qemu: "NONE",
            doc: "none",
        },
        messages: &[Message {
            number: 1,
            rust: "Copy",
            label: "COPY",
            qemu: "COPY",
            doc: "from one place to another",
            when: "never",
            fields: &[
                START,
                LEN,
                Field {
                    name: "to",
                    ..START
                },
                Field {
                    name: "room",
                    ..LEN
                },
            ],
            trailer: None,
            since: "never",
            gate: &[],
            values: &[],
            writer: SOURCE,
            reader: SOURCE,
            seen: READ,
            refuse: &[],
        }],
    };
    let mut text = Text::default();
    check::check(&mut text, &dialect);
    let arm = "Message::Copy { start, len, to, room } => \
               validate::span(\"len\", *start, (*len).into())\
               .and_then(|()| validate::span(\"room\", *to, (*room).into())),";
    let text = text.finish();
    assert!(text.contains(arm), "{text}");
}

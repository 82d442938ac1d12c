//! What the renderer writes for rows that the tables do not have.

use std::string::String;
use std::vec::Vec;

use super::super::text::Text;
use super::{check, names};
use retpath_spec::model::{Dialect, Field, Kind, Message, Reserved, Rule, Source, Unit};

/// The parsers and the serializers that there are.
const PRIM: [&str; 2] = [
    include_str!("../../../../codec/src/field/parse.rs"),
    include_str!("../../../../codec/src/field/write.rs"),
];

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
fn names_a_parser_or_a_serializer_for_every_kind() {
    for kind in KINDS {
        let name = names::prim(kind);
        let heads = [std::format!("fn {name}<"), std::format!("fn put_{name}<")];
        let there = |head: &String| PRIM.iter().any(|code| code.contains(head.as_str()));
        assert!(heads.iter().any(there), "{kind:?} is read by `{name}`");
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
            gate: None,
            writer: SOURCE,
            reader: SOURCE,
            refuse: &[],
        }],
    };
    let mut text = Text::default();
    check::check(&mut text, &dialect);
    let arm = "Message::Copy { start, len, to, room } => \
               fit::span(\"len\", *start, (*len).into())\
               .and_then(|()| fit::span(\"room\", *to, (*room).into())),";
    let text = text.finish();
    assert!(text.contains(arm), "{text}");
}

//! Every law refuses a row that breaks it, and takes the next best one.

mod fields;
mod streams;

use std::panic::{UnwindSafe, catch_unwind};
use std::string::String;

use super::*;
use crate::model::{Legal, Reserved, Source, Unit};
use crate::table::DIALECTS;

const SOURCE: Source = Source {
    file: "savevm.c",
    function: "qemu_loadvm_state",
};

const START: Field = Field {
    name: "start",
    kind: Kind::Be64,
    rule: Rule::Any,
    unit: Unit::Offset,
    doc: "first byte",
};

const LEN: Field = Field {
    name: "len",
    kind: Kind::Be32,
    rule: Rule::Span,
    unit: Unit::Bytes,
    doc: "number of bytes",
};

const BLOCK: Field = Field {
    name: "block",
    kind: Kind::Name,
    rule: Rule::Any,
    unit: Unit::Plain,
    doc: "RAM block",
};

const MESSAGE: Message = Message {
    number: 1,
    rust: "One",
    label: "ONE",
    qemu: "MIG_ONE",
    doc: "the first",
    when: "at once",
    fields: &[],
    trailer: None,
    since: "2.5",
    gate: None,
    writer: SOURCE,
    reader: SOURCE,
    refuse: &[],
};

const SECOND: Message = Message {
    number: 2,
    rust: "Two",
    label: "TWO",
    qemu: "MIG_TWO",
    ..MESSAGE
};

const DIALECT: Dialect = Dialect {
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
        qemu: "MIG_NONE",
        doc: "none",
    },
    messages: &[],
};

const RECORD: Record = Record {
    flag: 8,
    rust: "PAGE",
    label: "PAGE",
    qemu: "RAM_SAVE_FLAG_PAGE",
    doc: "a page",
    body: Body::Page,
    in_block: true,
    refuse: &[],
    legal: Legal {
        precopy: true,
        postcopy: false,
        preempt: false,
    },
    since: "0.10",
};

const SECTION: Section = Section {
    number: 1,
    label: "SECTION_START",
    qemu: "QEMU_VM_SECTION_START",
    doc: "the first piece",
    parts: &[],
    footer: true,
    refuse: &[],
};

const PART: Part = Part {
    name: "id",
    form: Form::Be32,
    doc: "number",
};

/// Demands that a law refuses, in these words.
#[track_caller]
fn refused(words: &str, law: impl FnOnce() + UnwindSafe) {
    let refusal = catch_unwind(law).expect_err(words);
    let said = refusal.downcast_ref::<&str>().copied().map(String::from);
    let said = said.or_else(|| refusal.downcast_ref::<String>().cloned());
    assert_eq!(said.as_deref(), Some(words));
}

fn messages(messages: [Message; 2]) -> impl FnOnce() + UnwindSafe {
    move || {
        let messages = std::boxed::Box::leak(std::boxed::Box::new(messages));
        dialect(&Dialect {
            messages,
            ..DIALECT
        });
    }
}

#[test]
fn hold_for_the_tables() {
    DIALECTS.iter().for_each(|table| dialect(table));
    records(ram::RECORDS);
    sections(stream::SECTIONS);
    messages([MESSAGE, SECOND])();
}

#[test]
fn every_row_has_words() {
    let words = "a row without words";
    refused(words, || dialect(&Dialect { doc: "", ..DIALECT }));
    refused(words, messages([MESSAGE, Message { doc: "", ..SECOND }]));
    refused(words, messages([MESSAGE, Message { when: "", ..SECOND }]));
    refused(words, || fields(&[Field { doc: "", ..START }], 512));
    refused(words, || fields(&[Field { name: "", ..START }], 512));
    refused(words, || records(&[Record { doc: "", ..RECORD }]));
    refused(words, || sections(&[Section { doc: "", ..SECTION }]));
    refused(words, || parts(&[Part { doc: "", ..PART }]));
}

#[test]
fn numbers_and_names_are_unique() {
    let order = "message numbers are not in order, or one is there twice";
    refused(
        order,
        messages([
            MESSAGE,
            Message {
                number: 1,
                ..SECOND
            },
        ]),
    );
    refused(order, messages([SECOND, MESSAGE]));
    let reserved = "a message has the reserved number";
    refused(
        reserved,
        messages([
            Message {
                number: 0,
                ..MESSAGE
            },
            SECOND,
        ]),
    );
    let rust = "a Rust name is there twice";
    refused(
        rust,
        messages([
            MESSAGE,
            Message {
                rust: "One",
                ..SECOND
            },
        ]),
    );
    let label = "a label is there twice";
    refused(
        label,
        messages([
            MESSAGE,
            Message {
                label: "ONE",
                ..SECOND
            },
        ]),
    );
    let qemu = "a QEMU identifier is there twice";
    refused(
        qemu,
        messages([
            MESSAGE,
            Message {
                qemu: "MIG_ONE",
                ..SECOND
            },
        ]),
    );
    let field = "a field name is there twice";
    refused(field, || {
        fields(
            &[
                START,
                Field {
                    name: "start",
                    ..LEN
                },
            ],
            512,
        )
    });
}

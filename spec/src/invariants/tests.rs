//! Each invariant rejects a row that violates it and accepts the nearest valid one.

mod fields;
mod streams;

use std::panic::{UnwindSafe, catch_unwind};
use std::string::String;

use super::*;
use crate::model::{Constant, Legal, READ, Reserved, Source, Unit};
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
    gate: &[],
    values: &[],
    writer: SOURCE,
    reader: SOURCE,
    seen: READ,
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
    seen: READ,
};

const SECTION: Section = Section {
    number: 1,
    label: "SECTION_START",
    qemu: "QEMU_VM_SECTION_START",
    doc: "the first part",
    parts: &[],
    footer: true,
    seen: READ,
    refuse: &[],
};

const PART: Part = Part {
    name: "id",
    form: Form::Be32,
    doc: "number",
};

/// Requires that `check` fails with this message.
#[track_caller]
fn refused(message: &str, check: impl FnOnce() + UnwindSafe) {
    let panic = catch_unwind(check).expect_err(message);
    let text = panic.downcast_ref::<&str>().copied().map(String::from);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    assert_eq!(text.as_deref(), Some(message));
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
fn accepts_the_tables() {
    DIALECTS.iter().for_each(|table| dialect(table));
    records(ram::RECORDS);
    sections(stream::SECTIONS);
    messages([MESSAGE, SECOND])();
}

#[test]
fn requires_a_description_of_every_row() {
    let words = "an empty name or description";
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
fn requires_unique_numbers_and_names() {
    let order = "message numbers are not strictly ascending";
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
    let rust = "a Rust name appears twice";
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
    let label = "a label appears twice";
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
    let qemu = "a QEMU identifier appears twice";
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
    let field = "a field name appears twice";
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

#[test]
fn requires_evidence_for_statements_about_qemu() {
    let words = "a statement about QEMU without evidence";
    refused(
        words,
        messages([
            MESSAGE,
            Message {
                seen: &[],
                ..SECOND
            },
        ]),
    );
    refused(words, || {
        records(&[Record {
            seen: &[],
            ..RECORD
        }])
    });
    refused(words, || {
        sections(&[Section {
            seen: &[],
            ..SECTION
        }])
    });
    const LAX: Refusal = Refusal::lax("A defect.", "QEMU ignores it.");
    refusals(&[LAX, Refusal::strict("A defect.")]);
    refused(words, || refusals(&[LAX.seen(&[])]));
    const ROW: Behavior = Behavior {
        releases: "",
        what: "The source stops.",
        seen: READ,
    };
    behaviors(&[ROW]);
    refused(words, || behaviors(&[Behavior { seen: &[], ..ROW }]));
    let words = "an empty name or description";
    refused(words, || behaviors(&[Behavior { what: "", ..ROW }]));
    refused(words, || refusals(&[Refusal::strict("")]));
    refused(words, || refusals(&[Refusal::lax("A defect.", "")]));
}

#[test]
fn requires_known_and_unique_capabilities() {
    gates(&["postcopy-ram", "dirty-bitmaps"]);
    let words = "a capability that the table does not have";
    refused(words, || gates(&["postcopy-ram", "postcopy"]));
    const ROW: Capability = Capability {
        name: "one",
        label: "ONE",
        doc: "the first",
        since: "2.5",
    };
    capabilities(&[ROW, Capability { name: "two", ..ROW }]);
    refused("a capability appears twice", || capabilities(&[ROW, ROW]));
}

#[test]
fn requires_a_32_bit_field_for_named_values() {
    const NUMBER: Field = Field {
        rule: Rule::Any,
        ..LEN
    };
    const VALUE: Constant = Constant {
        name: "ONE",
        value: Literal::U32(1),
        doc: "the first",
        since: "",
    };
    const BYTE: Constant = Constant {
        value: Literal::U8(1),
        ..VALUE
    };
    let with = |fields: &'static [Field], named: &'static [Constant]| {
        move || {
            values(&Message {
                fields,
                values: named,
                ..MESSAGE
            });
        }
    };
    with(&[NUMBER], &[VALUE])();
    with(&[], &[])();
    let words = "a named value without exactly one field of 32 bits";
    refused(words, with(&[], &[VALUE]));
    refused(words, with(&[START], &[VALUE]));
    refused(words, with(&[NUMBER, BLOCK], &[VALUE]));
    refused(words, with(&[NUMBER], &[BYTE]));
}

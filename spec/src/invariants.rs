//! Invariants of the tables, checked at compile time.
//!
//! Each check is a `const` function that panics with a message, so a crate with
//! an invalid row does not compile.

use crate::model::{
    Behavior, Body, Capability, Dialect, Evidence, Field, Form, Kind, Literal, Message, Part,
    Record, Refusal, Rule, Section, Trailer,
};
use crate::table::{behavior, capability, command, ram, return_path, stream};

#[cfg(test)]
mod tests;

const _: () = dialect(&return_path::QEMU);
const _: () = dialect(&return_path::V7);
const _: () = dialect(&command::COMMAND);
const _: () = records(ram::RECORDS);
const _: () = sections(stream::SECTIONS);
const _: () = capabilities(capability::CAPABILITIES);
const _: () = behaviors(behavior::SOURCE);
const _: () = behaviors(behavior::RETURN_PATH_ERRORS);
const _: () = behaviors(behavior::DESTINATION);
const _: () = behaviors(behavior::CHANNELS);
const _: () = behaviors(behavior::CHANGES);
const _: () = behaviors(behavior::ABSENT);
/// A return-path payload must fit QEMU's buffer of 512 bytes.
const _: () = assert!(return_path::QEMU.max_payload == 512 && return_path::V7.max_payload == 512);

const fn dialect(dialect: &Dialect) {
    documented(dialect.doc);
    let mut i = 0;
    while i < dialect.messages.len() {
        let message = &dialect.messages[i];
        documented(message.doc);
        documented(message.when);
        assert!(
            message.number != dialect.reserved.number,
            "a message has the reserved number"
        );
        fields(message.fields, dialect.max_payload);
        trailer(message);
        values(message);
        gates(message.gate);
        established(message.seen);
        refusals(message.refuse);
        if i > 0 {
            // Ascending, hence unique.
            assert!(
                dialect.messages[i - 1].number < message.number,
                "message numbers are not strictly ascending"
            );
        }
        let mut other = 0;
        while other < i {
            let before = &dialect.messages[other];
            assert!(
                !same(before.rust, message.rust),
                "a Rust name appears twice"
            );
            assert!(!same(before.label, message.label), "a label appears twice");
            assert!(
                !same(before.qemu, message.qemu),
                "a QEMU identifier appears twice"
            );
            other += 1;
        }
        i += 1;
    }
}

const fn fields(fields: &[Field], max_payload: usize) {
    let mut longest = 0;
    let mut i = 0;
    while i < fields.len() {
        let field = &fields[i];
        documented(field.doc);
        documented(field.name);
        longest += field.kind.max_size(max_payload.saturating_sub(longest));
        if field.kind.is_variable() && !matches!(field.kind, Kind::Name) {
            // Hence there is at most one.
            assert!(
                i + 1 == fields.len(),
                "a field of variable length is not the last one"
            );
        }
        match field.rule {
            Rule::Span => {
                assert!(
                    i > 0 && matches!(fields[i - 1].kind, Kind::Be64),
                    "a length without a start before it"
                );
                assert!(
                    matches!(field.kind, Kind::Be32 | Kind::FlaggedBe64),
                    "a length of a kind that the codec cannot parse"
                );
            }
            Rule::Equals(value) => assert!(
                matches!(field.kind, Kind::U8) && value <= 0xff
                    || matches!(field.kind, Kind::Be32) && value <= 0xffff_ffff,
                "a fixed value that its field cannot hold"
            ),
            Rule::Any => assert!(
                !matches!(field.kind, Kind::U8 | Kind::FlaggedBe64),
                "a kind that the codec parses only with a rule"
            ),
        }
        if matches!(field.kind, Kind::FlaggedBe64) {
            assert!(
                i + 1 < fields.len() && matches!(fields[i + 1].kind, Kind::FlaggedName),
                "a flag without a name behind it"
            );
        }
        if matches!(field.kind, Kind::FlaggedName) {
            assert!(
                i > 0 && matches!(fields[i - 1].kind, Kind::FlaggedBe64),
                "a flagged name without a flag before it"
            );
        }
        let mut other = 0;
        while other < i {
            assert!(
                !same(fields[other].name, field.name),
                "a field name appears twice"
            );
            other += 1;
        }
        i += 1;
    }
    assert!(
        longest <= max_payload,
        "the longest payload exceeds the dialect's limit"
    );
}

const fn trailer(message: &Message) {
    let fields = message.fields;
    match message.trailer {
        None | Some(Trailer::End) => {}
        Some(Trailer::Bitmap) => assert!(
            fields.len() == 1 && matches!(fields[0].kind, Kind::Name),
            "a bitmap without exactly one block name"
        ),
        Some(Trailer::Package) => assert!(
            fields.len() == 1 && matches!(fields[0].kind, Kind::Be32),
            "a package without exactly one size"
        ),
    }
}

const fn values(message: &Message) {
    let mut i = 0;
    while i < message.values.len() {
        documented(message.values[i].doc);
        assert!(
            message.fields.len() == 1
                && matches!(message.fields[0].kind, Kind::Be32)
                && matches!(message.values[i].value, Literal::U32(_)),
            "a named value without exactly one field of 32 bits"
        );
        i += 1;
    }
}

const fn gates(gates: &[&str]) {
    let mut i = 0;
    while i < gates.len() {
        let mut known = false;
        let mut row = 0;
        while row < capability::CAPABILITIES.len() {
            known |= same(capability::CAPABILITIES[row].name, gates[i]);
            row += 1;
        }
        assert!(known, "a capability that the table does not have");
        i += 1;
    }
}

const fn capabilities(rows: &[Capability]) {
    let mut i = 0;
    while i < rows.len() {
        documented(rows[i].doc);
        documented(rows[i].since);
        let mut other = 0;
        while other < i {
            assert!(
                !same(rows[other].name, rows[i].name),
                "a capability appears twice"
            );
            other += 1;
        }
        i += 1;
    }
}

const fn behaviors(rows: &[Behavior]) {
    let mut i = 0;
    while i < rows.len() {
        documented(rows[i].what);
        established(rows[i].seen);
        i += 1;
    }
}

const fn refusals(refusals: &[Refusal]) {
    let mut i = 0;
    while i < refusals.len() {
        documented(refusals[i].what);
        if let Some(laxer) = refusals[i].laxer {
            documented(laxer);
            established(refusals[i].seen);
        }
        i += 1;
    }
}

const fn established(seen: &[Evidence]) {
    assert!(!seen.is_empty(), "a statement about QEMU without evidence");
}

const fn records(records: &[Record]) {
    let mut i = 0;
    while i < records.len() {
        let record = &records[i];
        documented(record.doc);
        established(record.seen);
        refusals(record.refuse);
        assert!(record.flag.is_power_of_two(), "a RAM flag is not one bit");
        assert!(
            record.flag < ram::MIN_TARGET_PAGE,
            "a RAM flag overlaps the offset"
        );
        let legal = record.legal.precopy || record.legal.postcopy || record.legal.preempt;
        assert!(
            legal != matches!(record.body, Body::Refused),
            "a RAM record must be either refused or allowed somewhere"
        );
        if i > 0 {
            assert!(
                records[i - 1].flag < record.flag,
                "RAM flags are not strictly ascending"
            );
        }
        i += 1;
    }
}

const fn sections(sections: &[Section]) {
    let mut i = 0;
    while i < sections.len() {
        let section = &sections[i];
        documented(section.doc);
        parts(section.parts);
        established(section.seen);
        refusals(section.refuse);
        assert!(
            i == 0 || sections[i - 1].number < section.number,
            "section numbers are not strictly ascending"
        );
        i += 1;
    }
}

const fn parts(parts: &[Part]) {
    let mut i = 0;
    while i < parts.len() {
        documented(parts[i].doc);
        assert!(
            i + 1 == parts.len() || !matches!(parts[i].form, Form::Open | Form::Counted),
            "a part without a length is not the last one"
        );
        i += 1;
    }
}

const fn documented(text: &str) {
    assert!(!text.is_empty(), "an empty name or description");
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

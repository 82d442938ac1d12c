//! Laws of the tables, checked while they compile.
//!
//! Each law is a `const` function that panics with the law's name; a bad row
//! therefore does not build.

use crate::model::{
    Body, Dialect, Field, Form, Kind, Message, Part, Record, Rule, Section, Trailer,
};
use crate::table::{command, ram, return_path, stream};

#[cfg(test)]
mod tests;

const _: () = dialect(&return_path::QEMU);
const _: () = dialect(&return_path::V7);
const _: () = dialect(&command::COMMAND);
const _: () = records(ram::RECORDS);
const _: () = sections(stream::SECTIONS);
/// A return-path payload fits QEMU's 512-byte buffer.
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
        if i > 0 {
            // In order, hence unique.
            assert!(
                dialect.messages[i - 1].number < message.number,
                "message numbers are not in order, or one is there twice"
            );
        }
        let mut other = 0;
        while other < i {
            let before = &dialect.messages[other];
            assert!(
                !same(before.rust, message.rust),
                "a Rust name is there twice"
            );
            assert!(!same(before.label, message.label), "a label is there twice");
            assert!(
                !same(before.qemu, message.qemu),
                "a QEMU identifier is there twice"
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
                "a field of open length is not the last one"
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
                    "a kind of length that the codec has no parser for"
                );
            }
            Rule::Equals(value) => assert!(
                matches!(field.kind, Kind::U8) && value <= 0xff
                    || matches!(field.kind, Kind::Be32) && value <= 0xffff_ffff,
                "a fixed value that its field cannot hold"
            ),
            Rule::Any => assert!(
                !matches!(field.kind, Kind::U8 | Kind::FlaggedBe64),
                "a kind that the codec reads only with a rule"
            ),
        }
        if matches!(field.kind, Kind::FlaggedBe64) {
            assert!(
                i + 1 < fields.len() && matches!(fields[i + 1].kind, Kind::FlaggedName),
                "a flag without a name for it"
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
                "a field name is there twice"
            );
            other += 1;
        }
        i += 1;
    }
    assert!(
        longest <= max_payload,
        "the longest payload passes the dialect's limit"
    );
}

const fn trailer(message: &Message) {
    let fields = message.fields;
    match message.trailer {
        None | Some(Trailer::End) => {}
        Some(Trailer::Bitmap) => assert!(
            fields.len() == 1 && matches!(fields[0].kind, Kind::Name),
            "a bitmap belongs to exactly one named block"
        ),
        Some(Trailer::Package) => assert!(
            fields.len() == 1 && matches!(fields[0].kind, Kind::Be32),
            "a package's size is its command's only field"
        ),
    }
}

const fn records(records: &[Record]) {
    let mut i = 0;
    while i < records.len() {
        let record = &records[i];
        documented(record.doc);
        assert!(record.flag.is_power_of_two(), "a RAM flag is not one bit");
        assert!(
            record.flag < ram::MIN_TARGET_PAGE,
            "a RAM flag reaches into the offset"
        );
        let legal = record.legal.precopy || record.legal.postcopy || record.legal.preempt;
        assert!(
            legal != matches!(record.body, Body::Refused),
            "a RAM record is legal nowhere, or refused and yet legal"
        );
        if i > 0 {
            assert!(
                records[i - 1].flag < record.flag,
                "RAM flags are not in order, or one is there twice"
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
        assert!(
            i == 0 || sections[i - 1].number < section.number,
            "section numbers are not in order, or one is there twice"
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
            "a part of open length is not the last one"
        );
        i += 1;
    }
}

const fn documented(text: &str) {
    assert!(!text.is_empty(), "a row without words");
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

//! Invariants of RAM records and sections.

use super::*;

const NOWHERE: Legal = Legal {
    precopy: false,
    postcopy: false,
    preempt: false,
};

#[test]
fn requires_single_flags_that_are_allowed_somewhere() {
    records(&[
        RECORD,
        Record {
            flag: 512,
            ..RECORD
        },
    ]);
    let words = "a RAM flag is not one bit";
    refused(words, || records(&[Record { flag: 0, ..RECORD }]));
    refused(words, || records(&[Record { flag: 3, ..RECORD }]));
    let words = "a RAM flag overlaps the offset";
    refused(words, || {
        records(&[Record {
            flag: 1024,
            ..RECORD
        }])
    });
    let words = "RAM flags are not strictly ascending";
    refused(words, || records(&[RECORD, RECORD]));
    let words = "a RAM record must be either refused or allowed somewhere";
    refused(words, || {
        records(&[Record {
            legal: NOWHERE,
            ..RECORD
        }])
    });
    refused(words, || {
        records(&[Record {
            body: Body::Refused,
            ..RECORD
        }])
    });
    let (legal, body) = (NOWHERE, Body::Refused);
    records(&[Record {
        legal,
        body,
        ..RECORD
    }]);
    for legal in [
        Legal {
            postcopy: true,
            ..NOWHERE
        },
        Legal {
            preempt: true,
            ..NOWHERE
        },
    ] {
        records(&[Record { legal, ..RECORD }]);
        refused(words, move || {
            records(&[Record {
                legal,
                body,
                ..RECORD
            }])
        });
    }
}

#[test]
fn requires_ascending_sections_with_open_parts_last() {
    sections(&[
        SECTION,
        Section {
            number: 2,
            ..SECTION
        },
    ]);
    let words = "section numbers are not strictly ascending";
    refused(words, || sections(&[SECTION, SECTION]));
    let words = "a part without a length is not the last one";
    for form in [Form::Open, Form::Counted] {
        let open = || Part { form, ..PART };
        parts(&[PART, open()]);
        refused(words, move || parts(&[open(), PART]));
    }
}

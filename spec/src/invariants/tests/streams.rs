//! Laws of RAM records and of sections.

use super::*;

const NOWHERE: Legal = Legal {
    precopy: false,
    postcopy: false,
    preempt: false,
};

#[test]
fn records_are_single_flags_that_are_legal_somewhere() {
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
    let words = "a RAM flag reaches into the offset";
    refused(words, || {
        records(&[Record {
            flag: 1024,
            ..RECORD
        }])
    });
    let words = "RAM flags are not in order, or one is there twice";
    refused(words, || records(&[RECORD, RECORD]));
    let words = "a RAM record is legal nowhere, or refused and yet legal";
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
fn sections_are_in_order_and_only_their_end_is_open() {
    sections(&[
        SECTION,
        Section {
            number: 2,
            ..SECTION
        },
    ]);
    let words = "section numbers are not in order, or one is there twice";
    refused(words, || sections(&[SECTION, SECTION]));
    let words = "a part of open length is not the last one";
    for form in [Form::Open, Form::Counted] {
        let open = || Part { form, ..PART };
        parts(&[PART, open()]);
        refused(words, move || parts(&[open(), PART]));
    }
}

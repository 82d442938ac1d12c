//! Invariants of payloads: which field may follow which.

use super::*;

const FLAGGED: Field = Field {
    kind: Kind::FlaggedBe64,
    ..LEN
};

const FLAGGED_NAME: Field = Field {
    kind: Kind::FlaggedName,
    ..BLOCK
};

const RANGES: Field = Field {
    name: "ranges",
    kind: Kind::Ranges,
    ..BLOCK
};

#[test]
fn requires_payloads_that_fit_and_end_with_variable_fields() {
    fields(&[START, LEN, BLOCK], 268);
    let long = "the longest payload exceeds the dialect's limit";
    refused(long, || fields(&[START, LEN, BLOCK], 267));
    fields(&[BLOCK, RANGES], 65535);
    let open = "a field of variable length is not the last one";
    refused(open, || fields(&[RANGES, BLOCK], 65535));
    let flag = Field {
        name: "other",
        ..FLAGGED
    };
    let more = Field {
        name: "more",
        ..FLAGGED_NAME
    };
    let pair = [START, FLAGGED, FLAGGED_NAME];
    fields(&pair, 272);
    refused(open, || fields(&[START, FLAGGED, FLAGGED_NAME, START], 512));
    refused(open, move || {
        fields(&[START, FLAGGED, FLAGGED_NAME, START, flag, more], 1024);
    });
}

#[test]
fn requires_a_start_before_each_length() {
    let start = "a length without a start before it";
    refused(start, || fields(&[LEN], 512));
    refused(start, || fields(&[BLOCK, LEN], 512));
    let kind = "a length of a kind that the codec cannot parse";
    refused(kind, || {
        fields(
            &[
                START,
                Field {
                    kind: Kind::Be64,
                    ..LEN
                },
            ],
            512,
        )
    });
}

#[test]
fn requires_fixed_values_that_fit() {
    let fixed = |kind, value| {
        let rule = Rule::Equals(value);
        move || {
            fields(
                &[Field {
                    kind,
                    rule,
                    ..START
                }],
                512,
            )
        }
    };
    fixed(Kind::U8, 0xff)();
    fixed(Kind::Be32, 0xffff_ffff)();
    let words = "a fixed value that its field cannot hold";
    refused(words, fixed(Kind::U8, 0x100));
    refused(words, fixed(Kind::Be32, 0x1_0000_0000));
    refused(words, fixed(Kind::Be64, 1));
    let words = "a kind that the codec parses only with a rule";
    refused(words, || {
        fields(
            &[Field {
                kind: Kind::U8,
                ..START
            }],
            512,
        )
    });
    let rule = Rule::Any;
    refused(words, move || {
        fields(&[START, Field { rule, ..FLAGGED }, FLAGGED_NAME], 512)
    });
}

#[test]
fn requires_a_name_behind_each_flag() {
    let words = "a flag without a name behind it";
    refused(words, || fields(&[START, FLAGGED], 512));
    refused(words, || fields(&[START, FLAGGED, BLOCK], 512));
    let words = "a flagged name without a flag before it";
    refused(words, || fields(&[FLAGGED_NAME], 512));
    refused(words, || fields(&[START, FLAGGED_NAME], 512));
}

#[test]
fn requires_the_fields_of_each_trailer() {
    let with = |fields: &'static [Field], kind| {
        move || {
            let trailer = Some(kind);
            super::trailer(&Message {
                fields,
                trailer,
                ..MESSAGE
            });
        }
    };
    const SIZE: Field = Field {
        rule: Rule::Any,
        ..LEN
    };
    with(&[BLOCK], Trailer::Bitmap)();
    with(&[SIZE], Trailer::Package)();
    with(&[], Trailer::End)();
    let words = "a bitmap without exactly one block name";
    refused(words, with(&[], Trailer::Bitmap));
    refused(words, with(&[SIZE], Trailer::Bitmap));
    refused(words, with(&[BLOCK, SIZE], Trailer::Bitmap));
    let words = "a package without exactly one size";
    refused(words, with(&[], Trailer::Package));
    refused(words, with(&[BLOCK], Trailer::Package));
    refused(words, with(&[SIZE, START], Trailer::Package));
}

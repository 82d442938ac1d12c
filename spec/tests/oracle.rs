//! The oracle reads back what it writes, for the tables and for other rows, and
//! tells valid values from invalid ones.

use retpath_spec::model::{Dialect, Field, Kind, Message, READ, Reserved, Rule, Source, Unit};
use retpath_spec::oracle::{self, Outcome, Refused, Value};
use retpath_spec::sample::{Size, row, sample, samples};
use retpath_spec::table::DIALECTS;
use retpath_spec::table::command::COMMAND;
use retpath_spec::table::return_path::{QEMU, V7};

const SOURCE: Source = Source {
    file: "test.c",
    function: "test",
};

const fn field(name: &'static str, kind: Kind, rule: Rule) -> Field {
    Field {
        name,
        kind,
        rule,
        unit: Unit::Plain,
        doc: "a test's field",
    }
}

/// Messages with a name before other kinds of fields, so that the position of
/// those fields varies.
const ODD: Dialect = Dialect {
    name: "odd",
    title: "a test",
    rust: "Odd",
    message: "Message",
    qemu: "test",
    doc: "messages that no QEMU sends",
    lead: b"!",
    max_payload: 600,
    reserved: Reserved {
        number: 0,
        qemu: "NONE",
        doc: "none",
    },
    messages: &[
        Message {
            number: 1,
            rust: "Number",
            label: "NUMBER",
            qemu: "NUMBER",
            doc: "numbers behind a name",
            when: "never",
            fields: &[
                field("name", Kind::Name, Rule::Any),
                field("small", Kind::Be32, Rule::Any),
                field("large", Kind::Be64, Rule::Any),
                field("one", Kind::U8, Rule::Equals(1)),
            ],
            trailer: None,
            since: "never",
            gate: &[],
            values: &[],
            writer: SOURCE,
            reader: SOURCE,
            seen: READ,
            refuse: &[],
        },
        Message {
            number: 2,
            rust: "Flag",
            label: "FLAG",
            qemu: "FLAG",
            doc: "a flag behind a name",
            when: "never",
            fields: &[
                field("name", Kind::Name, Rule::Any),
                field("start", Kind::Be64, Rule::Any),
                field("len", Kind::FlaggedBe64, Rule::Span),
                field("other", Kind::FlaggedName, Rule::Any),
            ],
            trailer: None,
            since: "never",
            gate: &[],
            values: &[],
            writer: SOURCE,
            reader: SOURCE,
            seen: READ,
            refuse: &[],
        },
    ],
};

fn name(bytes: &[u8]) -> Value {
    Value::Name(bytes.to_vec())
}

/// The error for a frame without the last `by` bytes of its payload, with a
/// length that matches.
fn cut(dialect: &Dialect, frame: &[u8], by: usize) -> Refused {
    let mut frame = frame[..frame.len() - by].to_vec();
    let header = oracle::header_size(dialect);
    let len = u16::try_from(frame.len() - header).unwrap().to_be_bytes();
    frame[header - 2..header].copy_from_slice(&len);
    oracle::read(dialect, &frame).expect_err("lacks bytes")
}

#[test]
fn reports_the_first_field_that_exceeds_the_payload() {
    let long = [b'n'; 40];
    let numbers = [
        name(&long),
        Value::Number(1),
        Value::Number(2),
        Value::Number(1),
    ];
    let frame = oracle::write(&ODD, &ODD.messages[0], &numbers);
    let start = 5 + 41;
    for (by, field, offset) in [
        (1, "one", start + 12),
        (2, "large", start + 4),
        (9, "large", start + 4),
        (10, "small", start),
        (13, "small", start),
        (14, "name", 5),
        (38, "name", 5),
    ] {
        let refused = cut(&ODD, &frame, by);
        let found = (refused.rule, refused.field, refused.offset);
        assert_eq!(found, ("short", Some(field), offset), "{by} bytes");
    }
    assert_eq!(cut(&ODD, &frame, 40).rule, "length");

    let flagged = [name(&long), Value::Number(0), Value::Number(2), name(b"x")];
    let frame = oracle::write(&ODD, &ODD.messages[1], &flagged);
    for (by, field, offset) in [
        (1, "other", start + 16),
        (2, "other", start + 16),
        (3, "len", start + 8),
        (11, "start", start),
        (19, "name", 5),
    ] {
        let refused = cut(&ODD, &frame, by);
        let found = (refused.rule, refused.field, refused.offset);
        assert_eq!(found, ("short", Some(field), offset), "{by} bytes");
    }
}

#[test]
fn reads_back_the_samples_of_every_table() {
    for dialect in DIALECTS.iter().copied().chain([&ODD]) {
        for message in dialect.messages {
            for sample in samples(message) {
                assert!(
                    oracle::is_valid(message, &sample.values),
                    "{}",
                    message.label
                );
                let frame = oracle::write(dialect, message, &sample.values);
                let Ok(Outcome::Message(parsed)) = oracle::read(dialect, &frame) else {
                    panic!("{frame:x?}");
                };
                assert_eq!(parsed.values, sample.values);
            }
        }
    }
}

/// Asserts whether these values are valid.
#[track_caller]
fn validity(dialect: &'static Dialect, label: &str, values: &[Value], valid: bool) {
    assert_eq!(
        oracle::is_valid(row(dialect, label), values),
        valid,
        "{values:?}"
    );
}

#[test]
fn tells_valid_values_from_invalid_ones() {
    let request =
        |start, len, block: &[u8]| [Value::Number(start), Value::Number(len), name(block)];
    for (values, good) in [
        (request(0, 1, b"a"), true),
        (request(u64::MAX - 1, 1, &[0xff; 255]), true),
        (request(0, 0, b"a"), false),
        (request(u64::MAX, 1, b"a"), false),
        (request(0, 1, b""), false),
        (request(0, 1, &[b'a'; 256]), false),
        (request(0, 1, b"a\0"), false),
    ] {
        validity(&QEMU, "REQ_PAGES_ID", &values, good);
    }
    validity(&QEMU, "REQ_PAGES_ID", &request(0, 1, b"a")[..2], false);
    validity(&QEMU, "RESUME_ACK", &[Value::Number(1)], true);
    validity(&QEMU, "RESUME_ACK", &[Value::Number(2)], false);
    let draft = |len| [Value::Number(0), Value::Number(len), Value::NoName];
    validity(&V7, "REQ_PAGES", &draft(4096), true);
    validity(&V7, "REQ_PAGES", &draft(4097), false);
    validity(&V7, "REQ_PAGES", &draft(0), false);
    // A length without a start before it is not checked.
    let nameless = [Value::NoName, Value::Number(0), Value::NoName];
    validity(&V7, "REQ_PAGES", &nameless, true);
}

#[test]
fn reads_back_valid_values_only() {
    let starts = [0, 1, 4096, u64::MAX - 4096, u64::MAX - 1, u64::MAX];
    let lengths = [0, 1, 2, 4096, 4097, u64::from(u32::MAX)];
    let names: [&[u8]; 4] = [b"", b"a", b"\0", &[0xff; 255]];
    for (dialect, label) in [(&QEMU, "REQ_PAGES_ID"), (&V7, "REQ_PAGES")] {
        let message = row(dialect, label);
        for start in starts {
            for len in lengths {
                for block in names {
                    let values = [Value::Number(start), Value::Number(len), name(block)];
                    let frame = oracle::write(dialect, message, &values);
                    let read = oracle::read(dialect, &frame);
                    let same = matches!(&read, Ok(Outcome::Message(it)) if it.values == values);
                    assert_eq!(
                        oracle::is_valid(message, &values),
                        same,
                        "{values:?}: {read:?}"
                    );
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "is no Be32")]
fn panics_when_asked_to_write_a_name_as_a_number() {
    oracle::write(&QEMU, row(&QEMU, "PONG"), &[name(b"a")]);
}

#[test]
#[should_panic(expected = "one value for each field")]
fn panics_when_a_value_is_missing() {
    oracle::write(&QEMU, row(&QEMU, "PONG"), &[]);
}

#[test]
fn samples_do_not_overflow_a_start() {
    let most = |message: &Message| sample(message, Size::Maximal).values;
    assert_eq!(most(&ODD.messages[0])[2], Value::Number(u64::MAX));
    let start = Value::Number(u64::MAX - (u64::MAX / 2 - 1));
    assert_eq!(most(&ODD.messages[1])[1], start);
    let request = most(row(&QEMU, "REQ_PAGES"));
    assert_eq!(request[0], Value::Number(u64::MAX - u64::from(u32::MAX)));
    assert!(most(row(&COMMAND, "POSTCOPY_RUN")).is_empty());
}

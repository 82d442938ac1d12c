//! The walker reads what it writes, in these tables and in others, and knows
//! which values are sound.

use retpath_spec::model::{Dialect, Field, Kind, Message, Reserved, Rule, Source, Unit};
use retpath_spec::oracle::{self, Refused, Step, Value};
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

/// A name in front of every other kind of field: it decides how many bytes are
/// left for them.
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
            gate: None,
            writer: SOURCE,
            reader: SOURCE,
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
            gate: None,
            writer: SOURCE,
            reader: SOURCE,
            refuse: &[],
        },
    ],
};

fn name(bytes: &[u8]) -> Value {
    Value::Name(bytes.to_vec())
}

/// The refusal of a frame whose payload lacks its last bytes, and whose length
/// says so.
fn cut(dialect: &Dialect, frame: &[u8], by: usize) -> Refused {
    let mut frame = frame[..frame.len() - by].to_vec();
    let header = oracle::header_size(dialect);
    let len = u16::try_from(frame.len() - header).unwrap().to_be_bytes();
    frame[header - 2..header].copy_from_slice(&len);
    oracle::read(dialect, &frame).expect_err("lacks bytes")
}

#[test]
fn a_field_is_short_behind_one_that_took_its_bytes() {
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
fn samples_of_any_table_are_sound_and_read_back() {
    for dialect in DIALECTS.iter().copied().chain([&ODD]) {
        for message in dialect.messages {
            for sample in samples(message) {
                assert!(oracle::sound(message, &sample.values), "{}", message.label);
                let frame = oracle::write(dialect, message, &sample.values);
                let Ok(Step::Message(walked)) = oracle::read(dialect, &frame) else {
                    panic!("{frame:x?}");
                };
                assert_eq!(walked.values, sample.values);
            }
        }
    }
}

/// Demands that these values are sound, or that they are not.
#[track_caller]
fn sound(dialect: &'static Dialect, label: &str, values: &[Value], sound: bool) {
    assert_eq!(
        oracle::sound(row(dialect, label), values),
        sound,
        "{values:?}"
    );
}

#[test]
fn tells_sound_values_from_others() {
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
        sound(&QEMU, "REQ_PAGES_ID", &values, good);
    }
    sound(&QEMU, "REQ_PAGES_ID", &request(0, 1, b"a")[..2], false);
    sound(&QEMU, "RESUME_ACK", &[Value::Number(1)], true);
    sound(&QEMU, "RESUME_ACK", &[Value::Number(2)], false);
    let draft = |len| [Value::Number(0), Value::Number(len), Value::NoName];
    sound(&V7, "REQ_PAGES", &draft(4096), true);
    sound(&V7, "REQ_PAGES", &draft(4097), false);
    sound(&V7, "REQ_PAGES", &draft(0), false);
    // A length that has no start in front of it goes with anything.
    let nameless = [Value::NoName, Value::Number(0), Value::NoName];
    sound(&V7, "REQ_PAGES", &nameless, true);
}

#[test]
fn reads_back_what_is_sound_and_never_what_is_not() {
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
                    let same = matches!(&read, Ok(Step::Message(it)) if it.values == values);
                    assert_eq!(
                        oracle::sound(message, &values),
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
fn writes_no_name_for_a_number() {
    oracle::write(&QEMU, row(&QEMU, "PONG"), &[name(b"a")]);
}

#[test]
#[should_panic(expected = "one value for each field")]
fn writes_no_message_without_all_its_values() {
    oracle::write(&QEMU, row(&QEMU, "PONG"), &[]);
}

#[test]
fn samples_leave_room_behind_a_start() {
    let most = |message: &Message| sample(message, Size::Maximal).values;
    assert_eq!(most(&ODD.messages[0])[2], Value::Number(u64::MAX));
    let start = Value::Number(u64::MAX - (u64::MAX / 2 - 1));
    assert_eq!(most(&ODD.messages[1])[1], start);
    let request = most(row(&QEMU, "REQ_PAGES"));
    assert_eq!(request[0], Value::Number(u64::MAX - u64::from(u32::MAX)));
    assert!(most(row(&COMMAND, "POSTCOPY_RUN")).is_empty());
}

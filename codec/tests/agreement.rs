//! Codec and oracle agree on a million random and mutated frames of all dialects.

use std::collections::BTreeMap;

use retpath_codec::command::Commands;
use retpath_codec::mutate::Defect;
use retpath_codec::{Decoded, Dialect, Qemu, V7, check, decode};
use retpath_random::Random;
use retpath_spec::model::{self, Field, Kind, Rule};
use retpath_spec::oracle::{self, Value};
use retpath_spec::table::DIALECTS;

/// A tenth of all frames.
const FRAMES: u32 = 100_000;

/// A value for the field, usually a valid one.
fn value(field: &Field, random: &mut Random) -> Value {
    match field.kind {
        Kind::U8 => Value::Number(number(field, 8, random)),
        Kind::Be32 => Value::Number(number(field, 32, random)),
        Kind::Be64 => Value::Number(number(field, 64, random)),
        Kind::FlaggedBe64 => Value::Number(number(field, 64, random) & !1),
        Kind::FlaggedName if random.index(2) == 0 => Value::NoName,
        Kind::Name | Kind::FlaggedName => {
            let most = [6, 6, 20, 255][random.index(4)];
            let len = random.index(most) + usize::from(random.index(20) > 0);
            Value::Name((0..len).map(|_| random.byte().max(1)).collect())
        }
        Kind::PageSizes if random.index(2) == 0 => Value::PageSizes(None),
        Kind::PageSizes => Value::PageSizes(Some((random.any(), random.any()))),
        Kind::Ranges => {
            let count = 1 + random.index(12);
            let ends = |random: &mut Random| (edge(64, random), edge(64, random));
            Value::Ranges((0..count).map(|_| ends(random)).collect())
        }
    }
}

fn number(field: &Field, bits: u32, random: &mut Random) -> u64 {
    match field.rule {
        Rule::Equals(value) => value,
        Rule::Any | Rule::Span => edge(bits, random),
    }
}

/// An integer of that many bits: small, a boundary value, or arbitrary.
fn edge(bits: u32, random: &mut Random) -> u64 {
    match random.index(40) {
        0 => 0,
        1 => u64::MAX >> (64 - bits),
        2..10 => random.any() >> (64 - bits),
        _ => random.any() >> (64 - bits.min(20)),
    }
}

/// A frame of a message of the table, with up to two defects.
fn nearly_valid<D: Dialect>(table: &model::Dialect, random: &mut Random) -> Vec<u8> {
    let row = &table.messages[random.index(table.messages.len())];
    let values: Vec<Value> = row
        .fields
        .iter()
        .map(|field| value(field, random))
        .collect();
    let mut frame = oracle::write(table, row, &values);
    for _ in 0..random.index(3) {
        let [high, low] = [random.byte(), random.byte()];
        // Half of the positions are near the start, where the fields are.
        let high = if random.index(2) == 0 { 0 } else { high };
        let at = u16::from_be_bytes([high, low]);
        Defect::new(random.byte(), at, random.byte()).apply::<D>(&mut frame);
    }
    let behind = [0, 0, 5][random.index(3)];
    frame.extend(random.bytes(behind));
    frame
}

/// Random bytes after a header that is usually valid.
fn random_frame(table: &model::Dialect, random: &mut Random) -> Vec<u8> {
    let mut frame = Vec::from(table.lead);
    let number = if random.index(16) == 0 {
        random.byte()
    } else {
        random.byte() % 14
    };
    let len = [4, 13, 16, 20, 30, 300, 600][random.index(7)];
    let len = random.index(len + 1);
    let [high, low] = u16::try_from(len).expect("below 600").to_be_bytes();
    frame.extend([0, number, high, low]);
    let there = if random.index(8) == 0 {
        random.index(len + 1)
    } else {
        len
    };
    frame.extend(random.bytes(there));
    frame
}

/// Compares codec and oracle on frames of `make`, and counts the results.
fn agree<D: Dialect>(
    seed: u64,
    frames: u32,
    make: impl Fn(&model::Dialect, &mut Random) -> Vec<u8>,
) -> BTreeMap<&'static str, u32> {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    let table = table.expect("the dialect has a table");
    let mut random = Random::new(seed);
    let mut verdicts = BTreeMap::new();
    for _ in 0..frames {
        let frame = make(table, &mut random);
        check::oracle::<D>(&frame);
        let verdict = match decode::<D>(&frame) {
            Ok(Decoded::Need(_)) => "need",
            Ok(Decoded::Message { .. }) => "message",
            Err(error) => error.rule.name(),
        };
        *verdicts.entry(verdict).or_default() += 1;
    }
    verdicts
}

/// Asserts that every result was frequent, so that the comparison covers it.
fn seen(verdicts: &BTreeMap<&str, u32>, wanted: &[&str]) {
    for name in wanted {
        let times = verdicts.get(name).copied().unwrap_or(0);
        assert!(times >= 100, "{name} {times} times, in {verdicts:?}");
    }
}

const COMMON: [&str; 9] = [
    "need",
    "message",
    "reserved",
    "unknown",
    "length",
    "short",
    "leftover",
    "empty-name",
    "nul",
];

#[test]
fn agrees_on_mutated_frames_of_qemu_1() {
    let verdicts = agree::<Qemu>(1, 2 * FRAMES, nearly_valid::<Qemu>);
    seen(&verdicts, &COMMON);
    seen(&verdicts, &["too-long", "value", "zero", "overflow"]);
}

#[test]
fn agrees_on_mutated_frames_of_qemu_2() {
    let verdicts = agree::<Qemu>(2, 2 * FRAMES, nearly_valid::<Qemu>);
    seen(&verdicts, &COMMON);
}

#[test]
fn agrees_on_mutated_frames_of_the_draft() {
    let verdicts = agree::<V7>(3, 2 * FRAMES, nearly_valid::<V7>);
    seen(&verdicts, &COMMON);
    seen(&verdicts, &["too-long", "zero", "overflow"]);
}

#[test]
fn agrees_on_mutated_commands() {
    let verdicts = agree::<Commands>(4, 2 * FRAMES, nearly_valid::<Commands>);
    seen(&verdicts, &COMMON);
    seen(&verdicts, &["lead", "value", "zero", "overflow"]);
}

#[test]
fn agrees_on_random_frames_of_qemu() {
    seen(&agree::<Qemu>(5, FRAMES, random_frame), &COMMON[..7]);
}

#[test]
fn agrees_on_random_frames_of_the_draft() {
    let verdicts = agree::<V7>(6, FRAMES / 2, random_frame);
    seen(
        &verdicts,
        &[
            "need", "message", "reserved", "unknown", "length", "leftover",
        ],
    );
}

#[test]
fn agrees_on_random_commands() {
    let verdicts = agree::<Commands>(7, FRAMES / 2, random_frame);
    seen(
        &verdicts,
        &["need", "message", "reserved", "unknown", "length", "value"],
    );
}

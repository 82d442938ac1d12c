//! Exhaustive comparisons with the oracle: every header, every length of every
//! message, every small change of every sample.

mod samples;

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::command::Commands;
use retpath_codec::{Decoded, Dialect, Qemu, Rule, V7, check, decode};
use retpath_spec::model;
use retpath_spec::oracle;
use retpath_spec::table::DIALECTS;

use samples::Samples;

fn table<D: Dialect>() -> &'static model::Dialect {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    table.expect("the dialect has a table")
}

/// A header of dialect `D`.
fn header<D: Dialect>(number: u16, len: u16) -> Vec<u8> {
    let mut bytes = table::<D>().lead.to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}

/// Returns the legal payload lengths of this message number.
fn bounds<D: Dialect>(number: u16) -> Option<(usize, usize)> {
    let table = table::<D>();
    let row = table.messages.iter().find(|row| row.number == number)?;
    Some(oracle::payload_bounds(table, row))
}

/// Decodes all 2^32 headers and compares the results with the tables.
fn every_header<D: Dialect>() {
    let (lead, limit) = (table::<D>().lead.len(), table::<D>().max_payload);
    let mut bytes = header::<D>(0, 0);
    let (mut taken, mut wanted) = (0_u64, 0_u64);
    for number in 0..=u16::MAX {
        bytes[lead..lead + 2].copy_from_slice(&number.to_be_bytes());
        let bounds = bounds::<D>(number);
        if let Some((min, max)) = bounds {
            wanted += u64::try_from(max.min(limit) - min + 1).expect("16 bits");
        }
        for len in 0..=u16::MAX {
            bytes[lead + 2..].copy_from_slice(&len.to_be_bytes());
            let len = usize::from(len);
            let right = match (decode::<D>(&bytes), bounds) {
                (Ok(found), Some((min, max))) => {
                    taken += 1;
                    let whole = match found {
                        Decoded::Need(need) => need,
                        Decoded::Message { rest, .. } => rest.len(),
                    };
                    (min..=max).contains(&len) && whole == len
                }
                (Err(error), Some((min, max))) => match error.rule {
                    Rule::TooLong { len: it, .. } => it == len && len > limit,
                    Rule::Length { len: it, .. } => {
                        it == len && len <= limit && !(min..=max).contains(&len)
                    }
                    // Without a payload.
                    _ => len == 0 && min == 0,
                },
                (Err(error), None) => match error.rule {
                    Rule::Reserved => number == 0,
                    Rule::Unknown { number: it } => number != 0 && it == number,
                    _ => false,
                },
                (Ok(_), None) => false,
            };
            assert!(right, "{}: {bytes:02x?}", D::NAME);
        }
    }
    assert_eq!(taken, wanted);
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_header_of_the_merged_dialect() {
    every_header::<Qemu>();
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_header_of_the_draft() {
    every_header::<V7>();
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_header_of_a_command() {
    every_header::<Commands>();
}

/// Every length of every message, with a payload of that length and without.
fn every_length<D: Samples>() {
    let samples = D::samples();
    for row in table::<D>().messages {
        let at = table::<D>().lead.len();
        let first = samples
            .iter()
            .find(|sample| sample.bytes[at..at + 2] == row.number.to_be_bytes());
        let payload = &first.expect("every message has a sample").bytes[at + 4..];
        for len in 0..=u16::MAX {
            let mut bytes = header::<D>(row.number, len);
            let header = bytes.len();
            check::oracle::<D>(&bytes);
            // The sample, truncated or followed by zeros; too long payloads are
            // truncated.
            bytes.extend(payload);
            let (_, most) = oracle::payload_bounds(table::<D>(), row);
            bytes.resize(header + usize::from(len).min(most + 1), 0);
            check::oracle::<D>(&bytes);
        }
    }
}

#[test]
fn agrees_on_every_length_of_every_merged_message() {
    every_length::<Qemu>();
}

#[test]
fn agrees_on_every_length_of_every_draft_message() {
    every_length::<V7>();
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_length_of_every_command() {
    every_length::<Commands>();
}

/// Calls a function with `bytes` with each byte changed to every value, and with each
/// byte removed. Returns the number of calls.
fn edits(bytes: &[u8], mut check: impl FnMut(&[u8])) -> usize {
    let mut edited = bytes.to_vec();
    for at in 0..bytes.len() {
        for value in 0..=u8::MAX {
            edited[at] = value;
            check(&edited);
        }
        edited.remove(at);
        check(&edited);
        edited.insert(at, bytes[at]);
    }
    bytes.len() * 257
}

/// Calls a function with `bytes` with every value inserted at every position. Returns
/// the number of calls.
fn insertions(bytes: &[u8], mut check: impl FnMut(&[u8])) -> usize {
    for at in 0..=bytes.len() {
        let mut edited = bytes.to_vec();
        edited.insert(at, 0);
        for value in 0..=u8::MAX {
            edited[at] = value;
            check(&edited);
        }
    }
    (bytes.len() + 1) * 256
}

fn judge<D: Dialect>(bytes: &[u8]) {
    check::oracle::<D>(bytes);
    check::canonical::<D>(bytes);
}

fn every_edit<D: Samples>() -> usize {
    let samples = D::samples().into_iter();
    samples.map(|sample| edits(&sample.bytes, judge::<D>)).sum()
}

fn every_insertion<D: Samples>() -> usize {
    let samples = D::samples().into_iter();
    samples
        .map(|sample| insertions(&sample.bytes, judge::<D>))
        .sum()
}

#[test]
fn agrees_on_every_edited_byte_of_the_merged_dialect() {
    assert!(every_edit::<Qemu>() > 100_000);
}

#[test]
fn agrees_on_every_edited_byte_of_the_draft() {
    assert!(every_edit::<V7>() > 90_000);
}

#[test]
fn agrees_on_every_edited_byte_of_a_command() {
    assert!(every_edit::<Commands>() > 100_000);
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_byte_of_a_merged_message() {
    assert!(every_insertion::<Qemu>() > 100_000);
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_byte_of_a_draft_message() {
    assert!(every_insertion::<V7>() > 90_000);
}

#[test]
#[ignore = "minutes in a debug build; run by .ci/run with --release"]
fn agrees_on_every_byte_of_a_command() {
    assert!(every_insertion::<Commands>() > 100_000);
}

#[test]
fn agrees_on_every_edited_byte_of_a_bitmap() {
    let mut trailer = Vec::new();
    let bitmap = Bitmap::new(&[0xff, 1, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0]);
    bitmap::encode(bitmap, &mut trailer).expect("whole words");
    let judge = |bytes: &[u8]| check::trailer(bytes, 64);
    assert!(edits(&trailer, judge) + insertions(&trailer, judge) > 10_000);
}

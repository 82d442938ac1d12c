//! The codec compared with the oracle of the tables.

use alloc::format;
use alloc::vec::Vec;

use retpath_spec::model;
use retpath_spec::oracle::{self, Outcome, Parsed, Refused};
use retpath_spec::table::DIALECTS;

use crate::error::{DecodeError, Rule};
use crate::frame::{Decoded, Dialect, Value, decode};
use crate::num::wide;
use crate::ranges::RangeList;

/// Checks that codec and oracle agree: on the missing bytes, on message and values,
/// or on offset, field and rule of the error.
pub fn oracle<D: Dialect>(bytes: &[u8]) {
    let table = table::<D>();
    match (decode::<D>(bytes), oracle::read(table, bytes)) {
        (Ok(Decoded::Need(ours)), Ok(Outcome::Need(theirs))) if ours == theirs => {}
        (Ok(Decoded::Message { message, rest, .. }), Ok(Outcome::Message(parsed)))
            if bytes.len() - rest.len() == parsed.size =>
        {
            same_message::<D>(table, &message, &parsed);
        }
        (Err(ours), Err(theirs)) if same_refusal(&ours, &theirs) => {
            details(table, bytes, &ours);
        }
        (ours, theirs) => panic!(
            "{}: the codec says {ours:?}, the oracle {theirs:?}, of {bytes:02x?}",
            D::NAME
        ),
    }
}

fn same_message<D: Dialect>(table: &model::Dialect, message: &D::Message<'_>, parsed: &Parsed) {
    let row = table
        .messages
        .iter()
        .find(|row| row.number == parsed.number);
    let row = row.expect("the oracle knows only what is in the table");
    assert_eq!(D::label(message), row.label);
    let mut ours = Vec::with_capacity(row.fields.len());
    let mut names = row.fields.iter();
    D::fields(message, &mut |name, value| {
        assert_eq!(
            names.next().map(|field| field.name),
            Some(name),
            "{message:?}"
        );
        ours.push(match value {
            Value::Number(n) | Value::Offset(n) | Value::Bytes(n) => oracle::Value::Number(n),
            Value::Name(Some(name)) => oracle::Value::Name(name.as_bytes().into()),
            Value::Name(None) => oracle::Value::NoName,
            Value::PageSizes(sizes) => {
                oracle::Value::PageSizes(sizes.map(|sizes| (sizes.summary, sizes.target)))
            }
            Value::Text(_) | Value::Hex(_) | Value::Capabilities(_) => {
                panic!("{name}: a field of an event in a message")
            }
            Value::Ranges(ranges) => oracle::Value::Ranges(
                ranges
                    .iter()
                    .map(|range| (range.start, range.len))
                    .collect(),
            ),
        });
    });
    assert_eq!(ours, parsed.values, "{message:?}");
}

fn same_refusal(ours: &DecodeError, theirs: &Refused) -> bool {
    usize::try_from(ours.offset) == Ok(theirs.offset)
        && ours.message == theirs.message
        && ours.field == theirs.field
        && ours.rule.name() == theirs.rule
        && ours.is_peer_fault()
}

/// Checks that the numbers in an error are those of the table and the frame.
fn details(table: &model::Dialect, bytes: &[u8], error: &DecodeError) {
    let at = table.lead.len();
    let field = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let row = table
        .messages
        .iter()
        .find(|row| Some(row.label) == error.message);
    match (error.rule, row) {
        (Rule::Unknown { number }, _) => assert_eq!(usize::from(number), field(at)),
        (Rule::TooLong { len, limit }, Some(_)) => {
            assert_eq!((len, limit), (field(at + 2), table.max_payload));
        }
        (Rule::Length { len, min, max }, Some(row)) => {
            assert_eq!(len, field(at + 2));
            assert_eq!((min, max), oracle::payload_bounds(table, row));
        }
        (Rule::Leftover { count }, Some(_)) => {
            assert_eq!(wide(at + 4 + field(at + 2) - count), error.offset);
        }
        _ => {}
    }
    assert!(format!("{error}").ends_with(&format!("[{}]", error.rule.name())));
}

/// Returns the table of dialect `D`.
fn table<D: Dialect>() -> &'static model::Dialect {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    table.expect("every dialect is made from a table")
}

//! Properties of a single frame: valid values, mutated frames, and arbitrary
//! bytes.

use proptest::arbitrary::Arbitrary;
use proptest::collection::vec;
use proptest::prelude::*;
use retpath_codec::command::Commands;
use retpath_codec::proptest::mutated;
use retpath_codec::{Decoded, Dialect, Encode, Qemu, V7, check, decode};
use retpath_proptests::config;
use retpath_proptests::rows::values;
use retpath_spec::model;
use retpath_spec::oracle::{self, Outcome};
use retpath_spec::table::DIALECTS;

fn table<D: Dialect>() -> &'static model::Dialect {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    table.expect("every dialect has a table")
}

/// Generates rows of a dialect with field values.
fn filled<D: Dialect>() -> impl Strategy<Value = (&'static model::Message, Vec<oracle::Value>)> {
    let rows = table::<D>().messages.iter();
    let filled = rows.map(|row| values(row).prop_map(move |values| (row, values)));
    proptest::strategy::Union::new(filled)
}

/// Generates frames: encoded by the codec and possibly mutated, encoded by the
/// oracle, a number and length followed by any bytes, or any bytes.
fn frames<D>() -> impl Strategy<Value = Vec<u8>>
where
    D: Dialect<Owned: Arbitrary>,
{
    let lead = table::<D>().lead;
    let written = filled::<D>().prop_map(|(row, values)| oracle::write(table::<D>(), row, &values));
    let rough = (0..14_u16, 0..600_u16, vec(any::<u8>(), 0..600));
    let rough = rough.prop_map(move |(number, len, payload)| {
        let header = [number.to_be_bytes(), len.to_be_bytes()].concat();
        [lead, &header, &payload].concat()
    });
    prop_oneof![
        2 => mutated::<D>().prop_map(|(frame, _)| frame),
        1 => written,
        1 => rough,
        1 => vec(any::<u8>(), 0..40),
    ]
}

/// Checks that a value survives a round trip, also when followed by `more` bytes.
fn round_trips<D: Dialect>(message: &D::Owned, more: &[u8]) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("valid message");
    bytes.extend(more);
    let Ok(Decoded::Message {
        message: decoded,
        rest,
        ..
    }) = decode::<D>(&bytes)
    else {
        panic!("{message:?} is encoded as {bytes:02x?}, which does not decode");
    };
    assert_eq!((&D::into_owned(decoded), rest), (message, more));
}

/// Checks that the codec decodes what the oracle encodes, with the oracle's
/// values, and encodes it to the same bytes.
fn agrees_on_encoded_rows<D: Dialect>(row: &'static model::Message, values: &[oracle::Value]) {
    let frame = oracle::write(table::<D>(), row, values);
    let Ok(Outcome::Message(parsed)) = oracle::read(table::<D>(), &frame) else {
        panic!("the oracle refuses {}: {frame:02x?}", row.label);
    };
    assert_eq!(
        (parsed.number, parsed.values.as_slice()),
        (row.number, values)
    );
    let Ok(Decoded::Message {
        message, rest: [], ..
    }) = decode::<D>(&frame)
    else {
        panic!("{} is refused: {frame:02x?}", row.label);
    };
    assert_eq!(D::label(&message), row.label);
    check::oracle::<D>(&frame);
    check::canonical::<D>(&frame);
}

macro_rules! of_a_dialect {
    ($($name:ident: $dialect:ty;)*) => {$(mod $name {
        use super::*;

        proptest! {
            #![proptest_config(config("proptest-regressions/frames.txt"))]

            #[test]
            fn encodes_and_decodes_every_value(
                message in any::<<$dialect as Dialect>::Owned>(),
                more in vec(any::<u8>(), 0..20),
            ) {
                round_trips::<$dialect>(&message, &more);
                check::value::<$dialect>(&message);
            }

            #[test]
            fn decodes_what_the_oracle_encodes((row, values) in filled::<$dialect>()) {
                agrees_on_encoded_rows::<$dialect>(row, &values);
            }

            #[test]
            fn encodes_what_it_decodes(frame in frames::<$dialect>()) {
                check::canonical::<$dialect>(&frame);
                check::borrows::<$dialect>(&frame);
            }

            #[test]
            fn asks_for_more_bytes_before_its_verdict(frame in frames::<$dialect>()) {
                check::prefixes::<$dialect>(&frame);
            }

            #[test]
            fn agrees_with_the_oracle(frame in frames::<$dialect>()) {
                check::oracle::<$dialect>(&frame);
            }
        }
    })*};
}

of_a_dialect! {
    qemu: Qemu;
    v7: V7;
    commands: Commands;
}

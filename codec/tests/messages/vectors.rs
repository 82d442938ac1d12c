//! Properties of each sample of the hand-written list.

use retpath_codec::command::Commands;
use retpath_codec::{Decoded, Dialect, Encode, Qemu, Rule, Trailer, V7, check, decode};
use retpath_spec::model;
use retpath_spec::table::DIALECTS;

use crate::samples::{Samples, hex};

/// One test per dialect for each property of all samples.
macro_rules! for_all_samples {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn qemu() {
                super::$name::<Qemu>();
            }

            #[test]
            fn v7() {
                super::$name::<V7>();
            }

            #[test]
            fn command() {
                super::$name::<Commands>();
            }
        }
    )*};
}

for_all_samples! {
    decodes_to_its_value
    encodes_to_its_bytes
    asks_for_the_rest_of_every_prefix
    refuses_every_smaller_length
    refuses_what_a_longer_length_leaves_over
    asks_for_what_a_longer_length_promises
    prints_the_same_borrowed_and_owned
    refuses_every_smaller_room
    has_every_message_of_the_table
    has_the_label_and_the_trailer_of_the_table
    holds_all_properties
    agrees_with_the_oracle_in_every_dialect
}

fn decodes_to_its_value<D: Samples>() {
    for sample in D::samples() {
        let behind = b"what follows";
        let bytes = [&sample.bytes[..], behind].concat();
        let Ok(Decoded::Message { message, rest, .. }) = decode::<D>(&bytes) else {
            panic!("{:?} is not decoded", sample.value);
        };
        assert_eq!(rest, behind);
        assert_eq!(D::into_owned(message), sample.value);
    }
}

fn encodes_to_its_bytes<D: Samples>() {
    for sample in D::samples() {
        let mut out = Vec::new();
        sample.value.encode(&mut out).expect("a sample is valid");
        assert_eq!(out, sample.bytes, "{:?}", sample.value);
        let mut room = [0; 600];
        let size = sample.value.encode_into(&mut room).expect("there is room");
        assert_eq!(room[..size], sample.bytes, "{:?}", sample.value);
    }
}

fn refuses_every_smaller_room<D: Samples>() {
    for sample in D::samples() {
        for size in 0..sample.bytes.len() {
            let mut room = vec![0; size];
            let error = sample.value.encode_into(&mut room).expect_err("too small");
            assert_eq!(error.rule, Rule::NoRoom, "{:?} in {size}", sample.value);
        }
    }
}

fn has_the_label_and_the_trailer_of_the_table<D: Samples>() {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    let table = table.expect("the dialect has a table");
    for sample in D::samples() {
        let at = table.lead.len();
        let row = table
            .messages
            .iter()
            .find(|row| sample.bytes[at..at + 2] == row.number.to_be_bytes());
        let row = row.expect("a sample is of a row");
        let Ok(Decoded::Message { message, .. }) = decode::<D>(&sample.bytes) else {
            panic!("{:?} is not decoded", sample.value);
        };
        assert_eq!(D::label(&message), row.label);
        let trailer = match row.trailer {
            None => Trailer::None,
            Some(model::Trailer::Bitmap) => Trailer::Bitmap,
            Some(model::Trailer::End) => Trailer::End,
            Some(model::Trailer::Package) => {
                let size = sample
                    .bytes
                    .last_chunk()
                    .expect("the size is the last field");
                Trailer::Package(u32::from_be_bytes(*size))
            }
        };
        assert_eq!(D::trailer(&message), trailer, "{message:?}");
    }
}

#[test]
fn numbers_are_those_on_the_wire() {
    let number = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    for sample in Qemu::samples() {
        assert_eq!(sample.value.number(), number(&sample.bytes));
    }
    for sample in V7::samples() {
        assert_eq!(sample.value.number(), number(&sample.bytes));
    }
    for sample in Commands::samples() {
        assert_eq!(sample.value.number(), number(&sample.bytes[1..]));
    }
}

fn asks_for_the_rest_of_every_prefix<D: Samples>() {
    for sample in D::samples() {
        let whole = sample.bytes.len();
        for size in 0..whole {
            let missing = if size < D::HEADER { D::HEADER } else { whole } - size;
            let found = decode::<D>(&sample.bytes[..size]);
            assert_eq!(found, Ok(Decoded::Need(missing)), "{:?}", sample.value);
        }
    }
}

/// A frame with `len` in its length field.
fn with_length<D: Dialect>(frame: &[u8], len: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let len = u16::try_from(len).expect("a sample is far from the limit");
    frame[D::HEADER - 2..D::HEADER].copy_from_slice(&len.to_be_bytes());
    frame
}

fn refuses_every_smaller_length<D: Samples>() {
    for sample in D::samples() {
        let len = sample.bytes.len() - D::HEADER;
        for less in 0..len {
            let frame = with_length::<D>(&sample.bytes, less);
            for bytes in [&frame[..], &frame[..D::HEADER + less]] {
                match decode::<D>(bytes) {
                    Err(error) => assert!(error.is_peer_fault()),
                    Ok(Decoded::Need(need)) => panic!("waits for {need} more of {less}"),
                    // Without page sizes or with fewer ranges it is valid.
                    Ok(Decoded::Message { message, .. }) => {
                        let shorter = match D::label(&message) {
                            "POSTCOPY_ADVISE" => less == 0,
                            "POSTCOPY_RAM_DISCARD" => (len - less) % 16 == 0,
                            _ => false,
                        };
                        assert!(shorter, "{:?} in {less} bytes", sample.value);
                    }
                }
            }
        }
    }
}

fn refuses_what_a_longer_length_leaves_over<D: Samples>() {
    for sample in D::samples() {
        let len = sample.bytes.len() - D::HEADER;
        for more in 1..16 {
            let mut frame = with_length::<D>(&sample.bytes, len + more);
            frame.resize(frame.len() + more, 0);
            let error = decode::<D>(&frame).expect_err("bytes are left over");
            assert!(
                ["length", "leftover", "short"].contains(&error.rule.name()),
                "{:?}: {error}",
                sample.value
            );
        }
    }
}

fn asks_for_what_a_longer_length_promises<D: Samples>() {
    for sample in D::samples() {
        let len = sample.bytes.len() - D::HEADER;
        for more in 1..16 {
            match decode::<D>(&with_length::<D>(&sample.bytes, len + more)) {
                Ok(Decoded::Need(need)) => assert_eq!(need, more),
                Ok(Decoded::Message { message, .. }) => panic!("takes {message:?}"),
                Err(error) => assert_eq!(error.rule.name(), "length"),
            }
        }
    }
}

fn prints_the_same_borrowed_and_owned<D: Samples>() {
    for sample in D::samples() {
        let Ok(Decoded::Message { message, .. }) = decode::<D>(&sample.bytes) else {
            panic!("{:?} is not decoded", sample.value);
        };
        let text = format!("{message:?}");
        assert_eq!(text, format!("{:?}", sample.value));
        assert!(text.chars().all(|c| !c.is_control()), "{text}");
        assert!(!D::label(&message).is_empty());
    }
}

fn has_every_message_of_the_table<D: Samples>() {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    let samples = D::samples();
    for row in table.expect("the dialect has a table").messages {
        let number = row.number.to_be_bytes();
        assert!(
            samples
                .iter()
                .any(|s| s.bytes[D::HEADER - 4..].starts_with(&number)),
            "codec/tests/samples has no {} of {}",
            row.label,
            D::NAME
        );
    }
}

fn holds_all_properties<D: Samples>() {
    for sample in D::samples() {
        check::frame::<D>(&sample.bytes);
        check::value::<D>(&sample.value);
    }
}

fn agrees_with_the_oracle_in_every_dialect<D: Samples>() {
    for sample in D::samples() {
        check::frame::<Qemu>(&sample.bytes);
        check::frame::<V7>(&sample.bytes);
        check::frame::<Commands>(&sample.bytes);
    }
}

#[test]
fn decodes_the_same_bytes_differently_in_each_dialect() {
    // A request of the merged dialect that is also one of the draft.
    let bytes = hex("0003 0011  0000000000001000 00001000 04 'abcd'");
    assert!(matches!(
        decode::<Qemu>(&bytes),
        Ok(Decoded::Message { .. })
    ));
    let bytes = hex("0003 0010  0000000000001000 00001000 03 'abd'");
    assert!(matches!(
        decode::<Qemu>(&bytes),
        Ok(Decoded::Message { .. })
    ));
    let Ok(Decoded::Message { message, .. }) = decode::<V7>(&bytes) else {
        panic!("the draft does not take it");
    };
    let expected = retpath_codec::v7::Message::ReqPages {
        start: 0x1000,
        len: 0x1000_0361_6264,
        block: None,
    };
    assert_eq!(message, expected);
}

#[test]
fn returns_labels_and_numbers() {
    for sample in Qemu::samples() {
        let number = u16::from_be_bytes([sample.bytes[0], sample.bytes[1]]);
        assert_eq!(sample.value.number(), number);
        let row = retpath_spec::table::return_path::QEMU
            .messages
            .iter()
            .find(|r| r.number == number);
        assert_eq!(row.map(|row| row.label), Some(sample.value.label()));
    }
}

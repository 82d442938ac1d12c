//! Each property fails for a codec that violates it.

use std::panic::catch_unwind;
use std::vec::Vec;

use super::frame::{Verdict, countdown};
use super::*;
use crate::error::{DecodeError, Rule};
use crate::frame::sealed::Sealed;
use crate::frame::{Decoded, Dialect, Trailer, Value};
use crate::generated::qemu::{Message, Qemu};
use crate::name::{Name, NameBuf};

/// The merged dialect with one deviation.
#[derive(Debug)]
struct Faulty<const FAULT: u8>;

const NONE: u8 = 0;
/// Asks for one byte too many after the header.
const NEEDS_MORE: u8 = 1;
/// Asks for 0 bytes on empty input.
const NEEDS_NOTHING: u8 = 2;
/// Adds 1 to the value of a PONG.
const MISREADS: u8 = 3;
/// Returns the last byte of the message as part of the rest.
const LEAVES_A_BYTE: u8 = 4;
/// Reports the offset after the defect.
const REFUSES_ELSEWHERE: u8 = 5;
/// Reports another rule.
const REFUSES_OTHERWISE: u8 = 6;
/// Refuses a PONG that is followed by 0xff.
const LOOKS_BEHIND: u8 = 7;
/// Renames a field.
const RENAMES: u8 = 8;
/// Adds 1 to the value of a PONG in `into_owned`.
const OWNS_OTHERS: u8 = 9;
/// Returns names that are not in the input.
const COPIES: u8 = 10;
/// Reports another unknown number.
const MISNUMBERS: u8 = 11;
/// Refuses every message that it has encoded.
const TAKES_NOTHING: u8 = 12;
/// Shows a field as text, which no message has.
const SHOWS_TEXT: u8 = 13;

impl<const FAULT: u8> Sealed for Faulty<FAULT> {}

impl<const FAULT: u8> Dialect for Faulty<FAULT> {
    type Message<'a> = Message<Name<'a>>;
    type Owned = Message<NameBuf>;
    const NAME: &'static str = Qemu::NAME;
    const HEADER: usize = Qemu::HEADER;
    const MAX_PAYLOAD: usize = Qemu::MAX_PAYLOAD;

    fn frame(input: &[u8]) -> Result<Decoded<'_, Self::Message<'_>>, DecodeError> {
        let refused = DecodeError::new(0, None, None, Rule::Reserved);
        let mut decoded = Qemu::frame(input);
        match &mut decoded {
            Ok(Decoded::Need(need)) if FAULT == NEEDS_MORE && input.len() > 4 => *need += 1,
            Ok(Decoded::Need(need)) if FAULT == NEEDS_NOTHING && input.is_empty() => *need = 0,
            Ok(Decoded::Message { message, rest, .. }) => match message {
                _ if FAULT == LEAVES_A_BYTE => *rest = &input[input.len() - rest.len() - 1..],
                _ if FAULT == TAKES_NOTHING => return Err(refused),
                Message::Pong { value } if FAULT == MISREADS => *value += 1,
                Message::Pong { .. } if FAULT == LOOKS_BEHIND && rest.starts_with(&[0xff]) => {
                    return Err(refused);
                }
                Message::RecvBitmap { block } if FAULT == COPIES => {
                    *block = Name::new(b"ram").expect("a name");
                }
                _ => {}
            },
            Err(error) if FAULT == REFUSES_ELSEWHERE => error.offset += 1,
            Err(error) if FAULT == REFUSES_OTHERWISE => error.rule = Rule::Short,
            Err(error) if FAULT == MISNUMBERS => error.rule = Rule::Unknown { number: 7 },
            _ => {}
        }
        decoded
    }

    fn trailer(message: &Self::Message<'_>) -> Trailer {
        Qemu::trailer(message)
    }

    fn label(message: &Self::Message<'_>) -> &'static str {
        Qemu::label(message)
    }

    fn fields(message: &Self::Message<'_>, show: &mut dyn FnMut(&'static str, Value<'_>)) {
        Qemu::fields(message, &mut |name, value| match FAULT {
            RENAMES => show("other", value),
            SHOWS_TEXT => show(name, Value::Text(b"")),
            _ => show(name, value),
        });
    }

    fn into_owned(message: Self::Message<'_>) -> Self::Owned {
        match message {
            Message::Pong { value } if FAULT == OWNS_OTHERS => Message::Pong { value: value + 1 },
            message => message.into_owned(),
        }
    }
}

const PONG: [u8; 8] = [0, 2, 0, 4, 0, 0, 0, 9];
const SHUT: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];
const BITMAP: [u8; 8] = [0, 5, 0, 4, 3, b'r', b'a', b'm'];
const UNKNOWN: [u8; 4] = [0, 9, 0, 0];

fn notices(property: fn(&[u8]), bytes: &[u8]) -> bool {
    catch_unwind(|| property(bytes)).is_err()
}

#[test]
fn accepts_a_correct_codec() {
    for bytes in [&PONG[..], &SHUT, &BITMAP, &UNKNOWN, &PONG[..3], &[]] {
        frame::<Faulty<NONE>>(bytes);
        split::<Faulty<NONE>>(bytes, 64, [1, 2]);
        stream::<Faulty<NONE>>(bytes, 64, [1, 2]);
    }
    value::<Faulty<NONE>>(&Message::Pong { value: 9 });
}

#[test]
fn oracle_detects_every_deviation() {
    assert!(notices(oracle::<Faulty<NEEDS_MORE>>, &PONG[..5]));
    assert!(notices(oracle::<Faulty<NEEDS_NOTHING>>, &[]));
    assert!(notices(oracle::<Faulty<MISREADS>>, &PONG));
    assert!(notices(oracle::<Faulty<LEAVES_A_BYTE>>, &PONG));
    assert!(notices(oracle::<Faulty<REFUSES_ELSEWHERE>>, &UNKNOWN));
    assert!(notices(oracle::<Faulty<REFUSES_OTHERWISE>>, &UNKNOWN));
    assert!(notices(oracle::<Faulty<MISNUMBERS>>, &UNKNOWN));
    assert!(notices(oracle::<Faulty<RENAMES>>, &PONG));
    assert!(notices(oracle::<Faulty<SHOWS_TEXT>>, &PONG));
    assert!(notices(oracle::<Faulty<TAKES_NOTHING>>, &PONG));
}

#[test]
fn canonical_and_value_detect_deviations() {
    assert!(notices(canonical::<Faulty<MISREADS>>, &PONG));
    assert!(notices(canonical::<Faulty<LEAVES_A_BYTE>>, &PONG));
    assert!(notices(canonical::<Faulty<OWNS_OTHERS>>, &PONG));
    let pong = Message::Pong { value: 9 };
    assert!(catch_unwind(|| value::<Faulty<OWNS_OTHERS>>(&pong)).is_err());
    let pong = Message::Pong { value: 9 };
    assert!(catch_unwind(|| value::<Faulty<TAKES_NOTHING>>(&pong)).is_err());
}

#[test]
fn prefixes_and_borrows_detect_deviations() {
    assert!(notices(prefixes::<Faulty<NEEDS_NOTHING>>, &PONG));
    assert!(notices(prefixes::<Faulty<NEEDS_MORE>>, &PONG));
    assert!(notices(prefixes::<Faulty<LOOKS_BEHIND>>, &PONG));
    assert!(notices(borrows::<Faulty<COPIES>>, &BITMAP));
}

#[test]
fn split_detects_a_dependence_on_the_split() {
    // In one piece, the byte after the frame is visible.
    let path = [&PONG[..], &[0xff; 4]].concat();
    let apart: fn(&[u8]) = |bytes| split::<Faulty<LOOKS_BEHIND>>(bytes, 64, [PONG.len()]);
    assert!(notices(apart, &path));
    let whole: fn(&[u8]) = |bytes| stream::<Faulty<MISREADS>>(bytes, 64, []);
    assert!(notices(whole, &PONG));
}

/// Asserts that these results for 0, 1, 2… bytes are rejected.
fn refused(verdicts: &[Verdict<u8>]) {
    let bytes = std::vec![0; verdicts.len() - 1];
    let counted = || {
        countdown(&bytes, |bytes| {
            let last = &verdicts[verdicts.len() - 1];
            verdicts.get(bytes.len()).unwrap_or(last).clone()
        });
    };
    assert!(catch_unwind(counted).is_err(), "{verdicts:?}");
}

#[test]
fn countdown_accepts_decreasing_needs_and_a_final_result() {
    use Verdict::{Message, Need, Refused};
    let error = |offset, rule| Refused(DecodeError::new(offset, None, None, rule));
    refused(&[Need(0)]);
    refused(&[Message(0, 1)]);
    refused(&[error(0, Rule::Zero)]);
    refused(&[Need(2), Need(2)]);
    refused(&[Need(2), Message(1, 1)]);
    refused(&[Need(1), Need(0)]);
    refused(&[Need(1), Message(2, 1)]);
    refused(&[Need(1), error(1, Rule::Zero)]);
    refused(&[Need(1), Message(1, 1), Message(1, 2)]);
    refused(&[Need(1), Message(1, 1), Need(1)]);
    refused(&[Need(1), error(0, Rule::Zero), error(0, Rule::Odd)]);
    // These are correct.
    let valid: [Vec<Verdict<u8>>; 3] = [
        std::vec![Need(2), Need(1), Message(2, 1), Message(2, 1)],
        std::vec![Need(1), Need(1), error(0, Rule::Zero)],
        std::vec![Need(1), error(1, Rule::Short)],
    ];
    for verdicts in valid {
        let bytes = std::vec![0; verdicts.len() - 1];
        countdown(&bytes, |bytes| {
            let last = &verdicts[verdicts.len() - 1];
            verdicts.get(bytes.len()).unwrap_or(last).clone()
        });
    }
}

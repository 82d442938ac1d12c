//! Properties of one frame.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;
use std::io::ErrorKind;

use super::oracle;
use crate::encode::Encode;
use crate::error::{DecodeError, Rule};
use crate::frame::{Decoded, Dialect, Value, decode};
use crate::num::wide;

/// Checks all properties of bytes that may start with a frame of dialect `D`.
pub fn frame<D: Dialect>(bytes: &[u8]) {
    oracle::<D>(bytes);
    canonical::<D>(bytes);
    prefixes::<D>(bytes);
    borrows::<D>(bytes);
}

/// Checks that a decoded message encodes to its bytes, borrowed and owned, to every
/// kind of output, and does not depend on the bytes after it.
pub fn canonical<D: Dialect>(bytes: &[u8]) {
    let Ok(Decoded::Message { message, rest, .. }) = decode::<D>(bytes) else {
        return;
    };
    let frame = &bytes[..bytes.len() - rest.len()];
    assert!(frame.len() <= D::HEADER + D::MAX_PAYLOAD);
    assert_eq!(
        decode::<D>(frame),
        Ok(Decoded::Message {
            message,
            trailer: D::trailer(&message),
            rest: &[],
        })
    );
    encodes_as(&message, frame);
    encodes_as(&D::into_owned(message), frame);
}

fn encodes_as(message: &(impl Encode + Debug), frame: &[u8]) {
    let mut out = vec![0xaa];
    assert_eq!(message.encode(&mut out), Ok(()), "{message:?}");
    assert_eq!((out[0], &out[1..]), (0xaa, frame), "{message:?}");

    let mut written = Vec::new();
    assert!(message.encode_to(&mut written).is_ok(), "{message:?}");
    assert_eq!(written, frame, "{message:?}");

    let mut room = vec![0xaa; frame.len() + 1];
    assert_eq!(
        message.encode_into(&mut room),
        Ok(frame.len()),
        "{message:?}"
    );
    assert_eq!(
        (&room[..frame.len()], room[frame.len()]),
        (frame, 0xaa),
        "{message:?}"
    );
    for size in [0, frame.len() - 1] {
        let refused = message.encode_into(&mut room[..size]);
        assert_eq!(
            refused.map_err(|error| error.rule),
            Err(Rule::NoRoom),
            "{message:?}"
        );
    }
}

/// Checks that a message decodes from its encoding, or that encoding fails and
/// writes nothing.
pub fn value<D: Dialect>(message: &D::Owned) {
    let mut bytes = Vec::new();
    if let Err(error) = message.encode(&mut bytes) {
        assert!(bytes.is_empty(), "{message:?}: {error}");
        let into = message.encode_into(&mut [0; 1 << 17]);
        assert_eq!(into, Err(error), "{message:?}");
        let kind = message.encode_to(&mut bytes).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::InvalidInput), "{message:?}");
        assert!(bytes.is_empty(), "{message:?}");
        return;
    }
    let Ok(Decoded::Message {
        message: decoded,
        rest: [],
        ..
    }) = decode::<D>(&bytes)
    else {
        panic!("{message:?} is encoded as {bytes:02x?}, which is no frame");
    };
    assert_eq!(&D::into_owned(decoded), message);
    frame::<D>(&bytes);
}

/// Checks that every prefix asks for more, counting down to the byte that decides,
/// and that the result does not depend on later bytes.
pub fn prefixes<D: Dialect>(bytes: &[u8]) {
    let longest = bytes.len().min(D::HEADER + D::MAX_PAYLOAD);
    countdown(&bytes[..longest], |bytes| match decode::<D>(bytes) {
        Ok(Decoded::Need(need)) => Verdict::Need(need),
        Ok(Decoded::Message { message, rest, .. }) => {
            Verdict::Message(bytes.len() - rest.len(), D::into_owned(message))
        }
        Err(error) => Verdict::Refused(error),
    });
}

/// The result of decoding some bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict<M> {
    Need(usize),
    Message(usize, M),
    Refused(DecodeError),
}

/// Checks [`prefixes`] for any decoder.
pub(super) fn countdown<M: Clone + Debug + PartialEq>(
    bytes: &[u8],
    verdict: impl Fn(&[u8]) -> Verdict<M>,
) {
    let mut last = verdict(&[]);
    assert!(
        matches!(last, Verdict::Need(1..)),
        "{last:?} of no byte at all"
    );
    for size in 1..=bytes.len() {
        let now = verdict(&bytes[..size]);
        match (&last, &now) {
            (Verdict::Need(1), Verdict::Need(now)) => assert_ne!(*now, 0, "of {bytes:02x?}"),
            (Verdict::Need(1), Verdict::Message(whole, _)) => assert_eq!(*whole, size),
            (Verdict::Need(1), Verdict::Refused(error)) => {
                assert!(
                    error.offset < wide(size) || error.rule == Rule::Short,
                    "{error}"
                );
            }
            (Verdict::Need(before), Verdict::Need(now)) => assert_eq!(before - 1, *now),
            (before, now) => assert_eq!(before, now, "of {bytes:02x?}"),
        }
        last = now;
    }
    if !matches!(last, Verdict::Need(_)) {
        for more in [[0; 16], [0xff; 16]] {
            let longer = [bytes, &more].concat();
            assert_eq!(verdict(&longer), last, "of {longer:02x?}");
        }
    }
}

/// Checks that names borrow from the input.
pub fn borrows<D: Dialect>(bytes: &[u8]) {
    let Ok(Decoded::Message { message, rest, .. }) = decode::<D>(bytes) else {
        return;
    };
    let frame = bytes[..bytes.len() - rest.len()].as_ptr_range();
    D::fields(&message, &mut |_, value| {
        if let Value::Name(Some(name)) = value {
            let name = name.as_bytes().as_ptr_range();
            assert!(frame.start <= name.start && name.end <= frame.end);
        }
    });
}

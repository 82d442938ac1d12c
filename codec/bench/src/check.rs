//! Checks before the measurement that all contenders parse the same values, refuse
//! the same bytes, ask for more at the same prefixes, and write the same frames. A
//! contender that checks less would be faster for the wrong reason.

use retpath_codec::{Decoded, Message, NameBuf};
use retpath_random::Random;

use crate::contender::{Parse, View, Write, WriteSlice};
use crate::hand::Hand;
use crate::mix::{Mix, message};
use crate::ours::Ours;

/// Frames with one defect each.
const MALFORMED: &[&[u8]] = &[
    b"\0\0\0\0",
    b"\0\x08\0\0",
    b"\xff\xff\0\0",
    b"\x01\x04\0\x0c\0\0\0\0\0\0\x10\0\0\0\x10\0",
    b"\0\x01\0\x03\0\0\0",
    b"\0\x01\0\x05\0\0\0\0\0",
    b"\0\x02\0\x03\0\0\0",
    b"\0\x02\0\x05\0\0\0\0\0",
    b"\0\x03\0\x0d\0\0\0\0\0\0\x10\0\0\0\x10\0\0",
    b"\0\x03\0\x0e\0\0\0\0\0\0\x10\0\0\0\x10\0\x02m",
    b"\0\x03\0\x0f\0\0\0\0\0\0\x10\0\0\0\x10\0\x01mm",
    b"\0\x03\0\x0e\0\0\0\0\0\0\x10\0\0\0\0\0\x01m",
    b"\0\x03\0\x0e\xff\xff\xff\xff\xff\xff\xf0\0\0\0\x10\0\x01m",
    b"\0\x03\0\x10\0\0\0\0\0\0\x10\0\0\0\x10\0\x03m\0m",
    b"\0\x04\0\x0b\0\0\0\0\0\0\x10\0\0\0\x10",
    b"\0\x04\0\x0d\0\0\0\0\0\0\x10\0\0\0\x10\0\0",
    b"\0\x04\0\x0c\0\0\0\0\0\0\x10\0\0\0\0\0",
    b"\0\x04\0\x0c\xff\xff\xff\xff\xff\xff\xf0\0\0\0\x10\0",
    b"\0\x05\0\x00",
    b"\0\x05\0\x01\0",
    b"\0\x05\0\x02\x02m",
    b"\0\x05\0\x03\x01mm",
    b"\0\x05\0\x0a\x09mem0\0mem0",
    b"\0\x06\0\x04\0\0\0\0",
    b"\0\x06\0\x04\0\0\0\x02",
    b"\0\x06\0\x04\x01\0\0\x01",
    b"\0\x06\0\x03\0\0\x01",
    b"\0\x07\0\x01\0",
    b"\0\x01\x02\x01",
];

/// The result of parsing some bytes.
#[derive(Debug, PartialEq)]
enum Verdict {
    Message(Message<NameBuf>, usize),
    Need,
    Refused,
}

fn verdict<P: Parse>(input: &[u8]) -> Verdict {
    match P::parse(input) {
        Ok(Decoded::Message { message, rest, .. }) => {
            Verdict::Message(message.view().into_owned(), rest.len())
        }
        Ok(Decoded::Need(_)) => Verdict::Need,
        Err(_) => Verdict::Refused,
    }
}

/// The message at the start of a valid stream, and what follows it.
fn one<P: Parse>(input: &[u8]) -> (P::Message<'_>, &[u8]) {
    match P::parse(input) {
        Ok(Decoded::Message { message, rest, .. }) => (message, rest),
        Ok(Decoded::Need(_)) => panic!("{} waits for more of a whole frame", P::NAME),
        Err(error) => panic!("{} refuses a valid frame: {error:?}", P::NAME),
    }
}

/// Compares all contenders.
pub(crate) fn all(mixes: &[Mix]) {
    parser::<Ours>(mixes);
    writer::<Hand>(mixes);
    writer::<Ours>(mixes);
    slice_writer::<Hand>(mixes);
    slice_writer::<Ours>(mixes);
    #[cfg(feature = "rivals")]
    {
        use crate::rivals::{binrw::Binrw, deku::Deku, winnow::Winnow, zero::Zero};
        parser::<Zero>(mixes);
        parser::<Winnow>(mixes);
        parser::<Binrw>(mixes);
        parser::<Deku>(mixes);
        writer::<Zero>(mixes);
        writer::<Binrw>(mixes);
        writer::<Deku>(mixes);
    }
    println!("All contenders read, refuse and write the same.");
}

/// Compares a parser with the hand-written one.
fn parser<P: Parse>(mixes: &[Mix]) {
    for mix in mixes {
        let mut rest = &mix.frames[..];
        while !rest.is_empty() {
            let (wanted, left) = one::<Hand>(rest);
            let (found, ours) = one::<P>(rest);
            assert_eq!(found.view(), wanted.view(), "{}", P::NAME);
            assert_eq!(ours.len(), left.len(), "{}", P::NAME);
            let frame = &rest[..rest.len() - left.len()];
            rest = left;
            if rest.len() % 16 == 0 {
                prefixes::<P>(frame);
            }
        }
    }
    for frame in MALFORMED {
        let found = verdict::<P>(frame);
        assert_eq!(found, Verdict::Refused, "{}: {frame:x?}", P::NAME);
        assert_eq!(verdict::<Hand>(frame), Verdict::Refused, "{frame:x?}");
    }
    near_misses::<P>();
}

/// Every prefix of a frame asks for more.
fn prefixes<P: Parse>(frame: &[u8]) {
    for end in 0..frame.len() {
        let found = verdict::<P>(&frame[..end]);
        assert_eq!(found, Verdict::Need, "{}: {end} of {frame:x?}", P::NAME);
    }
}

/// Valid frames with up to two bytes changed, followed by enough bytes that no
/// parser asks for more.
fn near_misses<P: Parse>() {
    let mut random = Random::new(1);
    let mut refused = 0;
    for round in 0..200_000 {
        let mut input = Vec::with_capacity(1024);
        let valid = message(1 + round % 7, &mut random);
        Ours::encode(&valid, &mut input).expect("every message made is valid");
        for _ in 0..random.index(3) {
            let at = random.index(input.len());
            input[at] = [0, 1, 12, 255, random.byte()][random.index(5)];
        }
        input.resize(1024, random.byte());
        let found = verdict::<P>(&input);
        assert_eq!(found, verdict::<Hand>(&input), "{}: {input:x?}", P::NAME);
        refused += usize::from(found == Verdict::Refused);
    }
    assert!((40_000..160_000).contains(&refused), "{refused} refused");
}

/// Compares a writer with the frames that were parsed.
fn writer<W: Write>(mixes: &[Mix]) {
    for mix in mixes {
        let mut out = Vec::new();
        let mut rest = &mix.frames[..];
        while !rest.is_empty() {
            let (message, left) = one::<W>(rest);
            W::encode(&message, &mut out).expect("mixes are valid");
            rest = left;
        }
        assert!(out == mix.frames, "{}", W::NAME);
    }
    for (start, len) in [(0, 0), (u64::MAX, 4096), (u64::MAX - 4095, 4096)] {
        let mut out = Vec::new();
        let refused = W::encode(&W::request(start, len), &mut out);
        assert!(refused.is_err(), "{}: {start}, {len}", W::NAME);
        assert_eq!(out, [], "{}: {start}, {len}", W::NAME);
    }
}

/// Compares a writer to slices with its twin.
fn slice_writer<W: WriteSlice>(mixes: &[Mix]) {
    for mix in mixes {
        let mut rest = &mix.frames[..];
        while !rest.is_empty() {
            let (message, left) = one::<W>(rest);
            let frame = &rest[..rest.len() - left.len()];
            let mut out = [0; 512];
            let size = W::encode_into(&message, &mut out).expect("mixes are valid");
            assert_eq!(&out[..size], frame, "{}", W::NAME);
            let small = W::encode_into(&message, &mut out[..frame.len() - 1]);
            assert!(small.is_err(), "{}", W::NAME);
            rest = left;
        }
    }
}

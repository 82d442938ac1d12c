//! The measured work: each contender parses one stream, or writes one list of
//! messages.

use std::hint::black_box;

use retpath_codec::Decoded;

use crate::contender::{Parse, Write, WriteSlice};
use crate::hand::Hand;
use crate::measure::Lane;
use crate::mix::Mix;
use crate::ours::Ours;
#[cfg(feature = "rivals")]
use crate::rivals::{binrw::Binrw, deku::Deku, winnow::Winnow, zero::Zero};

/// What is done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Parse,
    WriteVec,
    WriteSlice,
}

impl What {
    pub(crate) fn name(self) -> &'static str {
        match self {
            What::Parse => "parse",
            What::WriteVec => "write to `Vec`",
            What::WriteSlice => "write to slice",
        }
    }
}

/// One operation on one stream by all contenders that support it; hand-written
/// code is first.
pub(crate) struct Race<'a> {
    pub(crate) what: What,
    pub(crate) mix: &'static str,
    pub(crate) lanes: Vec<Lane<'a>>,
}

pub(crate) fn races(mix: &Mix) -> [Race<'_>; 3] {
    let race = |what, lanes| Race {
        what,
        mix: mix.name,
        lanes,
    };
    #[cfg_attr(not(feature = "rivals"), expect(unused_mut))]
    let mut parsers = vec![parse::<Hand>(mix), parse::<Ours>(mix)];
    #[cfg_attr(not(feature = "rivals"), expect(unused_mut))]
    let mut writers = vec![write::<Hand>(mix), write::<Ours>(mix)];
    #[cfg(feature = "rivals")]
    {
        parsers.extend([
            parse::<Zero>(mix),
            parse::<Winnow>(mix),
            parse::<Binrw>(mix),
            parse::<Deku>(mix),
        ]);
        writers.extend([write::<Zero>(mix), write::<Binrw>(mix), write::<Deku>(mix)]);
    }
    [
        race(What::Parse, parsers),
        race(What::WriteVec, writers),
        race(
            What::WriteSlice,
            vec![write_slice::<Hand>(mix), write_slice::<Ours>(mix)],
        ),
    ]
}

fn parse<P: Parse + 'static>(mix: &Mix) -> Lane<'_> {
    Lane {
        name: P::NAME,
        run: Box::new(|| {
            read_all::<P>(black_box(&mix.frames));
        }),
    }
}

fn write<W: Write + 'static>(mix: &Mix) -> Lane<'_> {
    let messages = messages::<W>(&mix.frames);
    let mut out = Vec::with_capacity(mix.frames.len());
    Lane {
        name: W::NAME,
        run: Box::new(move || {
            out.clear();
            write_all::<W>(black_box(&messages), &mut out);
            black_box(&out);
        }),
    }
}

fn write_slice<W: WriteSlice + 'static>(mix: &Mix) -> Lane<'_> {
    let messages = messages::<W>(&mix.frames);
    let mut out = vec![0; mix.frames.len()];
    Lane {
        name: W::NAME,
        run: Box::new(move || {
            write_all_into::<W>(black_box(&messages), black_box(&mut out));
        }),
    }
}

/// Parses a stream; every message is forced into memory, as for a caller that uses
/// all of its fields.
#[inline(never)]
fn read_all<P: Parse>(mut input: &[u8]) {
    while !input.is_empty() {
        let parsed = P::parse(input);
        black_box(&parsed);
        let Ok(Decoded::Message { rest, .. }) = parsed else {
            panic!("{} refuses a frame", P::NAME);
        };
        input = rest;
    }
}

fn messages<P: Parse>(mut input: &[u8]) -> Vec<P::Message<'_>> {
    let mut messages = Vec::new();
    while !input.is_empty() {
        let Ok(Decoded::Message { message, rest, .. }) = P::parse(input) else {
            panic!("{} refuses a frame", P::NAME);
        };
        messages.push(message);
        input = rest;
    }
    messages
}

#[inline(never)]
fn write_all<W: Write>(messages: &[W::Message<'_>], out: &mut Vec<u8>) {
    for message in messages {
        if W::encode(message, out).is_err() {
            panic!("{} refuses a message", W::NAME);
        }
    }
}

#[inline(never)]
fn write_all_into<W: WriteSlice>(messages: &[W::Message<'_>], mut out: &mut [u8]) {
    for message in messages {
        let Ok(size) = W::encode_into(message, out) else {
            panic!("{} refuses a message", W::NAME);
        };
        out = &mut out[size..];
    }
}

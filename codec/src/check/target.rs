//! The fuzz targets' bodies: any bytes in, a panic if a property fails.
//!
//! A target of `fuzz/` is one line that calls the function of its name here,
//! and `tests/replay.rs` calls it with every file of `corpus/`.

use crate::generated::section::MAGIC;
use alloc::vec::Vec;

use arbitrary::{Result, Unstructured};

use super::{
    forward as forward_channel, frame, split as split_path, split_forward, stream, trailer, value,
    walker as agree,
};
use crate::arbitrary::{NearValid, number};
use crate::bitmap::{self, Bitmap};
use crate::command::{Command, Commands};
use crate::frame::Dialect;
use crate::generated::qemu::{Message, Qemu};
use crate::generated::v7::{self, V7};
use crate::name::NameBuf;
use crate::ranges::RangeBuf;

/// Longest bitmap, in bytes: of a block of 16 GiB.
const LIMIT: u64 = 512 << 10;

/// The bytes are a return path, of either dialect.
pub fn return_path(bytes: &[u8]) {
    stream::<Qemu>(bytes, LIMIT, []);
    stream::<V7>(bytes, LIMIT, []);
}

/// The bytes are values: messages that are valid, or break a rule, or are
/// nearly valid frames already.
pub fn round_trip(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    // Bytes that are too few for a value are none.
    while !u.is_empty() && one(&mut u).is_ok() {}
}

fn one(u: &mut Unstructured<'_>) -> Result<()> {
    match number(u, 0..=7) {
        0 => u.arbitrary().map(|message| value::<Qemu>(&message)),
        1 => u.arbitrary().map(|message| value::<V7>(&message)),
        2 => u.arbitrary().map(|message| value::<Commands>(&message)),
        3 => u.arbitrary().map(nearly::<Qemu>),
        4 => u.arbitrary().map(nearly::<V7>),
        5 => u.arbitrary().map(nearly::<Commands>),
        6 => u.arbitrary().map(unchecked),
        _ => u.arbitrary().map(|bytes: Vec<u8>| {
            let mut out = Vec::new();
            match bitmap::encode(Bitmap::new(&bytes), &mut out) {
                Ok(()) => trailer(&out, LIMIT),
                Err(_) => assert!(out.is_empty()),
            }
        }),
    }
}

fn nearly<D: Dialect>(near: NearValid<D>) {
    frame::<D>(&near.frame);
}

/// Values whose fields may have no business in a message.
fn unchecked((start, len, block, ranges, long, other): Fields) {
    value::<Qemu>(&Message::ReqPages { start, len });
    value::<Commands>(&Command::PostcopyRamDiscard {
        block: block.clone(),
        ranges,
    });
    value::<Qemu>(&Message::ReqPagesId { start, len, block });
    value::<V7>(&v7::Message::ReqPages {
        start,
        len: long,
        block: other,
    });
}

type Fields = (u64, u32, NameBuf, RangeBuf, u64, Option<NameBuf>);

/// The bytes are a channel, of either direction, and at their end the sizes of
/// the pieces in which it arrives: the last byte says how many sizes there are,
/// and each of the bytes in front of it is one.
pub fn split(bytes: &[u8]) {
    let (bytes, sizes) = pieces(bytes);
    // Over and over, so that few sizes cut a long stream.
    let sizes = sizes.iter().cycle().map(|size| usize::from(*size));
    let sizes = sizes.take(bytes.len());
    if !bytes.starts_with(&MAGIC.to_be_bytes()) {
        split_path::<Qemu>(bytes, LIMIT, sizes.clone());
        split_path::<V7>(bytes, LIMIT, sizes.clone());
    }
    split_forward(bytes, sizes);
}

/// What is in front of the sizes, and the sizes.
fn pieces(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = bytes.split_last() else {
        return (bytes, &[]);
    };
    rest.split_at(rest.len().saturating_sub(count.into()))
}

/// The bytes are a frame of any dialect: codec and walker say the same.
pub fn walker(bytes: &[u8]) {
    agree::<Qemu>(bytes);
    agree::<V7>(bytes);
    agree::<Commands>(bytes);
    frame::<Commands>(bytes);
}

/// The bytes are a channel of the forward stream.
pub fn forward(bytes: &[u8]) {
    forward_channel(bytes);
}

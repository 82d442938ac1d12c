//! The bodies of the fuzz targets.
//!
//! A target in `fuzz/` calls the function of its name; `tests/replay.rs` calls it
//! with the files in `corpus/`.
//!
//! ```
//! use retpath_codec::check::target;
//!
//! target::return_path(&[0, 2, 0, 4, 0, 0, 0, 1, 0xff]);
//! ```

use crate::generated::section::MAGIC;
use alloc::vec::Vec;

use arbitrary::{Result, Unstructured};

use super::{
    forward as forward_channel, frame, oracle as agree, split as split_path, split_forward, stream,
    trailer, value,
};
use crate::arbitrary::{Mutated, number};
use crate::bitmap::{self, Bitmap};
use crate::command::{Command, Commands};
use crate::frame::Dialect;
use crate::generated::qemu::{Message, Qemu};
use crate::generated::v7::{self, V7};
use crate::name::NameBuf;
use crate::ranges::RangeBuf;

/// Maximum size of bitmaps, in bytes: of a block of 16 GiB.
const LIMIT: u64 = 512 << 10;

/// Treats the bytes as a return path of each dialect.
pub fn return_path(bytes: &[u8]) {
    stream::<Qemu>(bytes, LIMIT, []);
    stream::<V7>(bytes, LIMIT, []);
}

/// Treats the bytes as input for `Arbitrary`: valid messages, messages that break a
/// rule, and mutated frames.
pub fn round_trip(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    while !u.is_empty() && one(&mut u).is_ok() {}
}

fn one(u: &mut Unstructured<'_>) -> Result<()> {
    match number(u, 0..=8) {
        0 => u.arbitrary().map(|message| value::<Qemu>(&message)),
        1 => u.arbitrary().map(|message| value::<V7>(&message)),
        2 => u.arbitrary().map(|message| value::<Commands>(&message)),
        3 => u.arbitrary().map(nearly::<Qemu>),
        4 => u.arbitrary().map(nearly::<V7>),
        5 => u.arbitrary().map(nearly::<Commands>),
        6 => u.arbitrary().map(unchecked),
        7 => u.arbitrary().map(|words: Vec<[u8; 8]>| {
            let mut out = Vec::new();
            let encoded = bitmap::encode(Bitmap::new(words.as_flattened()), &mut out);
            assert_eq!(encoded.is_ok(), !words.is_empty());
            trailer(&out, LIMIT);
        }),
        _ => u.arbitrary().map(|bytes: Vec<u8>| {
            let mut out = Vec::new();
            let encoded = bitmap::encode(Bitmap::new(&bytes), &mut out);
            assert_eq!(encoded.is_ok(), !out.is_empty());
        }),
    }
}

fn nearly<D: Dialect>(near: Mutated<D>) {
    frame::<D>(&near.frame);
}

/// Checks messages with arbitrary field values.
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

/// Treats the bytes as a channel of either direction, followed by the sizes of the
/// pieces in which it arrives and, in the last byte, their number.
pub fn split(bytes: &[u8]) {
    let (bytes, sizes) = pieces(bytes);
    // Repeated, so that few sizes cut a long stream.
    let sizes = sizes.iter().cycle().map(|size| usize::from(*size));
    let sizes = sizes.take(bytes.len());
    if !bytes.starts_with(&MAGIC.to_be_bytes()) {
        split_path::<Qemu>(bytes, LIMIT, sizes.clone());
        split_path::<V7>(bytes, LIMIT, sizes.clone());
    }
    split_forward(bytes, sizes);
}

/// Splits the input into channel and sizes.
fn pieces(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = bytes.split_last() else {
        return (bytes, &[]);
    };
    rest.split_at(rest.len().saturating_sub(count.into()))
}

/// Treats the bytes as a frame of each dialect and compares codec and oracle.
pub fn oracle(bytes: &[u8]) {
    agree::<Qemu>(bytes);
    agree::<V7>(bytes);
    agree::<Commands>(bytes);
    frame::<Commands>(bytes);
}

/// Treats the bytes as a channel of the forward stream.
pub fn forward(bytes: &[u8]) {
    forward_channel(bytes);
}

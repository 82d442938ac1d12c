//! The fuzz targets' bodies: any bytes in, a panic if a property fails.
//!
//! A target of `fuzz/` is one line that calls the function of its name here,
//! and `tests/replay.rs` calls it with every file of `corpus/`.

use alloc::vec::Vec;

use arbitrary::{Arbitrary, Result, Unstructured};

use super::{
    forward as forward_channel, frame, split as split_path, split_forward, stream, trailer, value,
    walker as agree,
};
use crate::arbitrary::NearValid;
use crate::bitmap::{self, Bitmap};
use crate::command::{Command, Commands};
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
    // Bytes that are too few for a value are none.
    let _ = values(&mut Unstructured::new(bytes));
}

fn values(u: &mut Unstructured<'_>) -> Result<()> {
    while !u.is_empty() {
        match u.int_in_range(0..=7)? {
            0 => value::<Qemu>(&u.arbitrary()?),
            1 => value::<V7>(&u.arbitrary()?),
            2 => value::<Commands>(&u.arbitrary()?),
            3 => frame::<Qemu>(&u.arbitrary::<NearValid<Qemu>>()?.frame),
            4 => frame::<V7>(&u.arbitrary::<NearValid<V7>>()?.frame),
            5 => frame::<Commands>(&u.arbitrary::<NearValid<Commands>>()?.frame),
            6 => unchecked(u)?,
            _ => {
                let bytes: Vec<u8> = u.arbitrary()?;
                let mut out = Vec::new();
                match bitmap::encode(Bitmap::new(&bytes), &mut out) {
                    Ok(()) => trailer(&out, LIMIT),
                    Err(_) => assert!(out.is_empty()),
                }
            }
        }
    }
    Ok(())
}

/// Values whose fields may have no business in a message.
fn unchecked(u: &mut Unstructured<'_>) -> Result<()> {
    let (start, len, block) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary::<NameBuf>()?);
    value::<Qemu>(&Message::ReqPages { start, len });
    value::<Qemu>(&Message::ReqPagesId {
        start,
        len,
        block: block.clone(),
    });
    let ranges = u.arbitrary::<RangeBuf>()?;
    value::<Commands>(&Command::PostcopyRamDiscard {
        block: block.clone(),
        ranges,
    });
    let len = u.arbitrary()?;
    let block = Option::arbitrary(u)?;
    value::<V7>(&v7::Message::ReqPages { start, len, block });
    Ok(())
}

/// The bytes are a channel, of either direction, and at their end the sizes of
/// the pieces in which it arrives: the last byte says how many sizes there are,
/// and each of the bytes in front of it is one.
pub fn split(bytes: &[u8]) {
    let (bytes, sizes) = pieces(bytes);
    // Over and over, so that few sizes cut a long stream.
    let sizes = sizes.iter().cycle().map(|size| usize::from(*size));
    let sizes = sizes.take(bytes.len());
    if !bytes.starts_with(b"QEVM") {
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

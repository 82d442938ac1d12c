//! Mutates valid frames, for tests of parsers.
//!
//! Numbers in a [`Defect`] are reduced modulo what makes sense for the frame,
//! so arbitrary numbers are fine. A mutated frame is not necessarily malformed:
//! some defects turn one valid frame into another. Nothing here panics.
//!
//! ```
//! use retpath_codec::mutate::{self, Defect};
//! use retpath_codec::{Message, Qemu, decode};
//!
//! let pong = Message::pong(1).into_owned();
//! let frame = mutate::encode::<Qemu>(&pong, Defect::Number(9))?;
//! assert_eq!(frame, [0, 9, 0, 4, 0, 0, 0, 1]);
//! assert!(decode::<Qemu>(&frame).is_err());
//! # Ok::<(), retpath_codec::EncodeError>(())
//! ```

use alloc::vec::Vec;

use crate::encode::Encode;
use crate::error::EncodeError;
use crate::frame::{Decoded, Dialect, Value, decode};

/// One change to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Adds this to the length field; the payload is unchanged.
    Length(u16),
    /// Sets the message number.
    Number(u16),
    /// Flips this bit of the frame.
    Bit(u16),
    /// Sets the byte at this offset.
    Byte(u16, u8),
    /// Clears 1, 2, 4 or 8 bytes at this offset; the second number selects how
    /// many.
    Clear(u16, u8),
    /// Sets all bits of 1, 2, 4 or 8 bytes at this offset.
    Set(u16, u8),
    /// Truncates the frame at this offset.
    Cut(u16),
    /// Removes this many bytes from the end of the payload and adjusts the
    /// length field.
    Short(u16),
    /// Appends 1 to 16 bytes to the payload and adjusts the length field.
    Leftover(u8),
    /// Adds this to the length byte of the block name.
    NameLength(u8),
    /// Sets this byte of the block name to NUL.
    NameNul(u8),
}

impl Defect {
    /// Number of kinds of defects.
    pub const KINDS: u8 = 11;

    /// Makes a defect from arbitrary numbers.
    pub const fn new(kind: u8, at: u16, value: u8) -> Self {
        match kind % Self::KINDS {
            0 => Self::Length(at),
            1 => Self::Number(at),
            2 => Self::Bit(at),
            3 => Self::Byte(at, value),
            4 => Self::Clear(at, value),
            5 => Self::Set(at, value),
            6 => Self::Cut(at),
            7 => Self::Short(at),
            8 => Self::Leftover(value),
            9 => Self::NameLength(value),
            _ => Self::NameNul(value),
        }
    }

    /// Applies the defect to a valid frame of dialect `D`.
    pub fn apply<D: Dialect>(self, frame: &mut Vec<u8>) {
        match self {
            Self::Length(more) => add_length::<D>(frame, more),
            Self::Number(number) => set16(frame, D::HEADER - 4, number),
            Self::Bit(bit) => set(frame, usize::from(bit / 8), |byte| byte ^ 1 << (bit % 8)),
            Self::Byte(at, value) => set(frame, usize::from(at), |_| value),
            Self::Clear(at, size) => fill(frame, at, size, 0),
            Self::Set(at, size) => fill(frame, at, size, 0xff),
            Self::Cut(at) => frame.truncate(usize::from(at) % frame.len().max(1)),
            Self::Short(by) => {
                let payload = frame.len().saturating_sub(D::HEADER);
                let by = by % u16::try_from(payload).unwrap_or(u16::MAX).max(1);
                frame.truncate(frame.len() - usize::from(by));
                add_length::<D>(frame, by.wrapping_neg());
            }
            Self::Leftover(count) => {
                let count = count % 16 + 1;
                frame.resize(frame.len() + usize::from(count), count);
                add_length::<D>(frame, count.into());
            }
            Self::NameLength(more) => {
                if let Some((at, _)) = name::<D>(frame) {
                    set(frame, at, |byte| byte.wrapping_add(more));
                }
            }
            Self::NameNul(at) => {
                if let Some((start, len)) = name::<D>(frame) {
                    set(frame, start + 1 + usize::from(at) % len, |_| 0);
                }
            }
        }
    }
}

/// Encodes `message` and applies a defect to the frame.
///
/// # Errors
///
/// Fails when the message cannot be encoded.
pub fn encode<D: Dialect>(message: &D::Owned, defect: Defect) -> Result<Vec<u8>, EncodeError> {
    let mut frame = Vec::new();
    message.encode(&mut frame)?;
    defect.apply::<D>(&mut frame);
    Ok(frame)
}

/// Finds the block name: offset of its length byte, and its length.
fn name<D: Dialect>(frame: &[u8]) -> Option<(usize, usize)> {
    let Ok(Decoded::Message { message, .. }) = decode::<D>(frame) else {
        return None;
    };
    let mut found = None;
    D::fields(&message, &mut |_, value| {
        if let Value::Name(Some(name)) = value {
            let name = name.as_bytes();
            let at = frame.windows(name.len() + 1).rposition(|window| {
                window
                    .split_first()
                    .is_some_and(|(len, bytes)| usize::from(*len) == name.len() && bytes == name)
            });
            found = at.map(|at| (at, name.len()));
        }
    });
    found
}

fn add_length<D: Dialect>(frame: &mut [u8], more: u16) {
    let at = D::HEADER - 2;
    if let Some(&[high, low]) = frame.get(at..at + 2) {
        let len = u16::from_be_bytes([high, low]);
        set16(frame, at, len.wrapping_add(more));
    }
}

fn set16(frame: &mut [u8], at: usize, value: u16) {
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

fn set(frame: &mut [u8], at: usize, value: impl FnOnce(u8) -> u8) {
    let at = at % frame.len().max(1);
    if let Some(byte) = frame.get_mut(at) {
        *byte = value(*byte);
    }
}

fn fill(frame: &mut [u8], at: u16, size: u8, value: u8) {
    let at = usize::from(at) % frame.len().max(1);
    frame
        .iter_mut()
        .skip(at)
        .take(1 << (size % 4))
        .for_each(|byte| *byte = value);
}

//! A hand-written codec of the return path: slices split into arrays of known size,
//! one `match`, one array for all fields of fixed size.
//!
//! The baseline of the benchmark. It produces the [`Message`] of `retpath-codec` with
//! its [`Name`], so that both check names in the same way.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

use retpath_codec::{Decoded, Dialect, Message, Name, Qemu};

/// The offset and rule of a defect.
#[derive(Clone, Copy, Debug)]
pub struct Bad {
    /// Bytes from the start of the frame.
    pub offset: usize,
    /// The broken rule.
    pub rule: &'static str,
}

/// Makes an error.
///
/// # Errors
///
/// Always.
#[cold]
#[inline(never)]
pub fn bad<T>(offset: usize, rule: &'static str) -> Result<T, Bad> {
    Err(Bad { offset, rule })
}

/// Splits off a complete payload.
pub type Cut<'a, T> = Result<Option<(T, &'a [u8])>, Bad>;

/// Returns whether a request for `len` bytes from `start` is valid.
#[inline(always)]
pub fn span(start: u64, len: u32) -> bool {
    len != 0 && start.checked_add(u64::from(len)).is_some()
}

/// Returns the length of a name, at most 255: its lowest byte.
#[inline(always)]
pub fn size(name: Name<'_>) -> u8 {
    name.as_bytes().len().to_le_bytes()[0]
}

/// Parses one message from the start of `input`.
///
/// # Errors
///
/// The first rule that the bytes break.
#[inline]
pub fn decode(input: &[u8]) -> Result<Decoded<'_, Message<Name<'_>>>, Bad> {
    let Some((&[n0, n1, l0, l1], body)) = input.split_first_chunk() else {
        return Ok(Decoded::Need(4 - input.len()));
    };
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let need = Ok(Decoded::Need(len.saturating_sub(body.len())));
    let (message, rest) = match u16::from_be_bytes([n0, n1]) {
        1 => {
            let Some((value, rest)) = exactly(len, body)? else {
                return need;
            };
            let value = u32::from_be_bytes(*value);
            (Message::Shut { value }, rest)
        }
        2 => {
            let Some((value, rest)) = exactly(len, body)? else {
                return need;
            };
            let value = u32::from_be_bytes(*value);
            (Message::Pong { value }, rest)
        }
        3 => {
            let Some((payload, rest)) = within(14, 268, len, body)? else {
                return need;
            };
            let Some((pages, name)) = payload.split_first_chunk() else {
                return bad(4, "short");
            };
            let (start, len) = request(pages)?;
            let block = block(16, name)?;
            (Message::ReqPagesId { start, len, block }, rest)
        }
        4 => {
            let Some((pages, rest)) = exactly(len, body)? else {
                return need;
            };
            let (start, len) = request(pages)?;
            (Message::ReqPages { start, len }, rest)
        }
        5 => {
            let Some((payload, rest)) = within(2, 256, len, body)? else {
                return need;
            };
            let block = block(4, payload)?;
            (Message::RecvBitmap { block }, rest)
        }
        6 => {
            let Some((value, rest)) = exactly(len, body)? else {
                return need;
            };
            if u32::from_be_bytes(*value) != 1 {
                return bad(4, "value");
            }
            (Message::ResumeAck, rest)
        }
        7 => {
            let Some((_, rest)) = exactly::<0>(len, body)? else {
                return need;
            };
            (Message::SwitchoverAck, rest)
        }
        _ => return bad(0, "number"),
    };
    Ok(Decoded::Message {
        trailer: Qemu::trailer(&message),
        message,
        rest,
    })
}

/// Splits off a payload that must have `N` bytes.
#[inline(always)]
fn exactly<const N: usize>(len: usize, body: &[u8]) -> Cut<'_, &[u8; N]> {
    if len != N {
        return bad(2, "length");
    }
    Ok(body.split_first_chunk())
}

/// Splits off a payload that must have `min` to `max` bytes.
#[inline(always)]
fn within(min: usize, max: usize, len: usize, body: &[u8]) -> Cut<'_, &[u8]> {
    if len < min || len > max {
        return bad(2, "length");
    }
    Ok(body.split_at_checked(len))
}

#[inline(always)]
fn request(bytes: &[u8; 12]) -> Result<(u64, u32), Bad> {
    let &[s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3] = bytes;
    let start = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let len = u32::from_be_bytes([l0, l1, l2, l3]);
    if !span(start, len) {
        return bad(12, "span");
    }
    Ok((start, len))
}

/// Parses a length and a name that fills the rest of the payload.
#[inline(always)]
fn block(offset: usize, bytes: &[u8]) -> Result<Name<'_>, Bad> {
    let &[size, ref name @ ..] = bytes else {
        return bad(offset, "short");
    };
    if usize::from(size) != name.len() {
        return bad(offset, "name length");
    }
    match Name::new(name) {
        Ok(name) => Ok(name),
        Err(_) => bad(offset, "name"),
    }
}

/// The target of a message: a vector, or a slice that may be too small.
trait Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Bad>;
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sink for &mut [u8] {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        let Some((to, rest)) = core::mem::take(self).split_at_mut_checked(bytes.len()) else {
            return bad(0, "no room");
        };
        to.copy_from_slice(bytes);
        *self = rest;
        Ok(())
    }
}

#[inline(always)]
fn write(message: &Message<Name<'_>>, out: &mut impl Sink) -> Result<(), Bad> {
    match *message {
        Message::Shut { value } => out.put(&number(1, value)),
        Message::Pong { value } => out.put(&number(2, value)),
        Message::ReqPagesId { start, len, block } => {
            let [s0, s1, s2, s3, s4, s5, s6, s7] = start.to_be_bytes();
            let [l0, l1, l2, l3] = len.to_be_bytes();
            let [p0, p1] = (13 + u16::from(size(block))).to_be_bytes();
            if !span(start, len) {
                return bad(12, "span");
            }
            let n = size(block);
            out.put(&[
                0, 3, p0, p1, s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3, n,
            ])?;
            out.put(block.as_bytes())
        }
        Message::ReqPages { start, len } => {
            let [s0, s1, s2, s3, s4, s5, s6, s7] = start.to_be_bytes();
            let [l0, l1, l2, l3] = len.to_be_bytes();
            if !span(start, len) {
                return bad(12, "span");
            }
            out.put(&[0, 4, 0, 12, s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3])
        }
        Message::RecvBitmap { block } => {
            let [p0, p1] = (1 + u16::from(size(block))).to_be_bytes();
            out.put(&[0, 5, p0, p1, size(block)])?;
            out.put(block.as_bytes())
        }
        Message::ResumeAck => out.put(&number(6, 1)),
        Message::SwitchoverAck => out.put(&[0, 7, 0, 0]),
        // Not in the mixes of the benchmark.
        #[allow(unreachable_patterns, reason = "as long as the mixes have all of them")]
        _ => bad(0, "not measured"),
    }
}

#[inline(always)]
fn number(kind: u8, value: u32) -> [u8; 8] {
    let [v0, v1, v2, v3] = value.to_be_bytes();
    [0, kind, 0, 4, v0, v1, v2, v3]
}

/// Appends a message to `out`.
///
/// # Errors
///
/// A value that a receiver would refuse; `out` is unchanged.
#[inline]
pub fn encode(message: &Message<Name<'_>>, out: &mut Vec<u8>) -> Result<(), Bad> {
    write(message, out)
}

/// Writes a message to the start of `out` and returns its size.
///
/// # Errors
///
/// As [`encode`], or when `out` is too small.
#[inline]
pub fn encode_into(message: &Message<Name<'_>>, mut out: &mut [u8]) -> Result<usize, Bad> {
    let room = out.len();
    write(message, &mut out)?;
    Ok(room - out.len())
}

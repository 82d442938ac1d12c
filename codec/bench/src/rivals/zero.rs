//! zerocopy: payloads as structs that lie over the bytes.

use retpath_codec::{Decoded, Message, Name};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::contender::{Parse, Parsed, Write};
use crate::rivals::decoded;
use retpath_codec_hand::{Bad, Cut, bad, size, span};

pub(crate) struct Zero;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    number: U16,
    len: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Number {
    value: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Pages {
    start: U64,
    len: U32,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Block {
    size: u8,
    name: [u8],
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NamedPages {
    pages: Pages,
    block: Block,
}

/// A header and the fixed part of a payload, for writing.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Frame<T> {
    header: Header,
    payload: T,
}

/// [`NamedPages`] without the name's bytes.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Named {
    pages: Pages,
    size: u8,
}

impl Parse for Zero {
    const NAME: &'static str = "zerocopy";
    type Message<'a> = Message<Name<'a>>;
    type Error = Bad;

    #[inline(never)]
    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let Ok((header, body)) = Header::ref_from_prefix(input) else {
            return Ok(Decoded::Need(4 - input.len()));
        };
        let len = usize::from(header.len.get());
        let need = Ok(Decoded::Need(len.saturating_sub(body.len())));
        let (message, rest) = match header.number.get() {
            1 => {
                let Some((number, rest)) = fixed::<Number>(len, body)? else {
                    return need;
                };
                let value = number.value.get();
                (Message::Shut { value }, rest)
            }
            2 => {
                let Some((number, rest)) = fixed::<Number>(len, body)? else {
                    return need;
                };
                let value = number.value.get();
                (Message::Pong { value }, rest)
            }
            3 => {
                let Some((payload, rest)) = varying(14, 268, len, body)? else {
                    return need;
                };
                let named = over::<NamedPages>(payload)?;
                let (start, len) = named.pages.check()?;
                let block = named.block.check()?;
                (Message::ReqPagesId { start, len, block }, rest)
            }
            4 => {
                let Some((pages, rest)) = fixed::<Pages>(len, body)? else {
                    return need;
                };
                let (start, len) = pages.check()?;
                (Message::ReqPages { start, len }, rest)
            }
            5 => {
                let Some((payload, rest)) = varying(2, 256, len, body)? else {
                    return need;
                };
                let block = over::<Block>(payload)?.check()?;
                (Message::RecvBitmap { block }, rest)
            }
            6 => {
                let Some((number, rest)) = fixed::<Number>(len, body)? else {
                    return need;
                };
                if number.value.get() != 1 {
                    return bad(4, "value");
                }
                (Message::ResumeAck, rest)
            }
            7 => {
                let Some((_, rest)) = fixed::<()>(len, body)? else {
                    return need;
                };
                (Message::SwitchoverAck, rest)
            }
            _ => return bad(0, "number"),
        };
        Ok(decoded(message, rest))
    }
}

impl Pages {
    #[inline(always)]
    fn check(&self) -> Result<(u64, u32), Bad> {
        let (start, len) = (self.start.get(), self.len.get());
        if !span(start, len) {
            return bad(12, "span");
        }
        Ok((start, len))
    }
}

impl Block {
    #[inline(always)]
    fn check(&self) -> Result<Name<'_>, Bad> {
        if usize::from(self.size) != self.name.len() {
            return bad(0, "name length");
        }
        match Name::new(&self.name) {
            Ok(name) => Ok(name),
            Err(_) => bad(0, "name"),
        }
    }
}

/// Splits off a payload that must have the size of a struct.
#[inline(always)]
fn fixed<T>(len: usize, body: &[u8]) -> Cut<'_, &T>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    if len != size_of::<T>() {
        return bad(2, "length");
    }
    Ok(T::ref_from_prefix(body).ok())
}

/// Splits off a payload that must have `min` to `max` bytes.
#[inline(always)]
fn varying(min: usize, max: usize, len: usize, body: &[u8]) -> Cut<'_, &[u8]> {
    if len < min || len > max {
        return bad(2, "length");
    }
    Ok(body.split_at_checked(len))
}

#[inline(always)]
fn over<T>(payload: &[u8]) -> Result<&T, Bad>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned + ?Sized,
{
    match T::ref_from_bytes(payload) {
        Ok(value) => Ok(value),
        Err(_) => bad(4, "short"),
    }
}

impl Write for Zero {
    type Refusal = Bad;

    fn request(start: u64, len: u32) -> Self::Message<'static> {
        Message::ReqPages { start, len }
    }

    #[inline(never)]
    fn encode(message: &Message<Name<'_>>, out: &mut Vec<u8>) -> Result<(), Bad> {
        match *message {
            Message::Shut { value } => put(out, 1, 0, Number::new(value)),
            Message::Pong { value } => put(out, 2, 0, Number::new(value)),
            Message::ReqPagesId { start, len, block } => {
                let n = size(block);
                let pages = Pages::new(start, len)?;
                put(out, 3, n, Named { pages, size: n });
                out.extend_from_slice(block.as_bytes());
            }
            Message::ReqPages { start, len } => put(out, 4, 0, Pages::new(start, len)?),
            Message::RecvBitmap { block } => {
                put(out, 5, size(block), size(block));
                out.extend_from_slice(block.as_bytes());
            }
            Message::ResumeAck => put(out, 6, 0, Number::new(1)),
            Message::SwitchoverAck => put(out, 7, 0, ()),
            #[allow(
                unreachable_patterns,
                reason = "as long as the mixes have all messages"
            )]
            _ => return bad(0, "not measured"),
        }
        Ok(())
    }
}

/// The fixed part of a frame; `more` bytes of payload follow it.
#[inline(always)]
fn put<T: IntoBytes + Immutable + Unaligned>(out: &mut Vec<u8>, number: u16, more: u8, payload: T) {
    let len = u16::try_from(size_of::<T>()).expect("small structs") + u16::from(more);
    let header = Header {
        number: number.into(),
        len: len.into(),
    };
    out.extend_from_slice(Frame { header, payload }.as_bytes());
}

impl Number {
    fn new(value: u32) -> Self {
        Self {
            value: value.into(),
        }
    }
}

impl Pages {
    #[inline(always)]
    fn new(start: u64, len: u32) -> Result<Self, Bad> {
        if !span(start, len) {
            return bad(12, "span");
        }
        Ok(Self {
            start: start.into(),
            len: len.into(),
        })
    }
}

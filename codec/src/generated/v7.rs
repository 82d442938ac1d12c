// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! The draft of June 2015 (postcopy series, version 7, patch 30 of 42). No
//! released QEMU speaks it. Its bytes do not distinguish it from the merged
//! dialect: select it out of band.
//!
//! ```
//! use retpath_codec::v7::{Message, V7};
//! use retpath_codec::{Decoded, decode};
//!
//! let frame = b"\0\x03\0\x10\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\x10\0";
//! let Decoded::Message { message, .. } = decode::<V7>(frame)? else {
//!     panic!("the message is complete");
//! };
//! assert_eq!(message, Message::ReqPages { start: 0x2000, len: 4096, block: None });
//! # Ok::<(), retpath_codec::DecodeError>(())
//! ```

#[cfg(feature = "encode")]
use std::io::Write;
#[cfg(feature = "encode")]
use std::vec::Vec;
#[cfg(feature = "encode")]
use cookie_factory::SerializeFn;
#[cfg(feature = "encode")]
use cookie_factory::bytes::{be_u16, be_u32};
use nom::Parser;
#[cfg(feature = "encode")]
use crate::encode::{Encode, into_slice, invalid};
use crate::error::{DecodeError, EncodeError};
use crate::field::parse;
use crate::field::combinator::FieldError;
use crate::field::input::Bytes;
#[cfg(feature = "encode")]
use crate::field::write;
#[cfg(feature = "encode")]
use crate::field::output::{Refused, Sink, Written, fixed, tuple};
use crate::validate;
use crate::frame::{Decoded, Dialect, Trailer, Value, header};
use crate::frame::sealed::Sealed;
use crate::name::{BlockName, Name};
#[cfg(feature = "alloc")]
use crate::name::NameBuf;

/// Selects the draft dialect of the return path in [`decode`](crate::decode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V7 {}

/// The draft of June 2015 (postcopy series, version 7, patch 30 of 42). No
/// released QEMU speaks it. Its bytes do not distinguish it from the merged
/// dialect: select it out of band.
///
/// `N` is [`Name`] in a message that borrows from its input and `NameBuf` in
/// one that owns its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<N> {
    /// The destination will send nothing more: 0 after success, any other value
    /// after an error.
    ///
    /// `MIG_RP_MSG_SHUT`, number 1.
    Shut {
        /// Outcome.
        value: u32,
    },
    /// Answers the PING command with the same value.
    ///
    /// `MIG_RP_MSG_PONG`, number 2.
    Pong {
        /// Value of the PING.
        value: u32,
    },
    /// Requests pages of the named RAM block or, without a name, of the block
    /// that the last request named.
    ///
    /// `MIG_RP_MSG_REQ_PAGES`, number 3.
    ReqPages {
        /// First byte of the requested range, a multiple of the block's host
        /// page size.
        start: u64,
        /// Length of the requested range; even, because bit 0 is a flag: a name
        /// follows.
        len: u64,
        /// Name of the RAM block, present if bit 0 of `len` is set.
        block: Option<N>,
    },
}

impl Sealed for V7 {}

impl Dialect for V7 {
    type Message<'a> = Message<Name<'a>>;
    #[cfg(feature = "alloc")]
    type Owned = Message<NameBuf>;
    const NAME: &'static str = "v7";
    const HEADER: usize = 4;
    const MAX_PAYLOAD: usize = 512;

    #[inline]
    fn frame(input: &[u8]) -> Result<Decoded<'_, Self::Message<'_>>, DecodeError> {
        let frame = match header(&[], input)? {
            Ok(frame) => frame,
            Err(missing) => return Ok(Decoded::Need(missing)),
        };
        match frame.number() {
            0 => frame.reserved(),
            1 => frame.message::<_, 4, 4, 512>("SHUT", parse_shut, Self::trailer),
            2 => frame.message::<_, 4, 4, 512>("PONG", parse_pong, Self::trailer),
            3 => frame.message::<_, 16, 272, 512>("REQ_PAGES", parse_req_pages, Self::trailer),
            _ => frame.unknown(),
        }
    }

    #[inline(always)]
    fn trailer(message: &Self::Message<'_>) -> Trailer {
        match message {
            Message::Shut { .. } => Trailer::End,
            _ => Trailer::None,
        }
    }

    fn label(message: &Self::Message<'_>) -> &'static str {
        message.label()
    }

    fn fields(message: &Self::Message<'_>, show: &mut dyn FnMut(&'static str, Value<'_>)) {
        match message {
            Message::Shut { value } => {
                show("value", Value::Number((*value).into()));
            }
            Message::Pong { value } => {
                show("value", Value::Number((*value).into()));
            }
            Message::ReqPages { start, len, block } => {
                show("start", Value::Offset(*start));
                show("len", Value::Bytes(*len));
                show("block", Value::Name(*block));
            }
        }
    }

    #[cfg(feature = "alloc")]
    fn into_owned(message: Self::Message<'_>) -> Self::Owned {
        message.into_owned()
    }
}

impl<'a> Message<Name<'a>> {
    /// Makes [`SHUT`](Self::Shut).
    pub const fn shut(value: u32) -> Self {
        Self::Shut { value }
    }

    /// Makes [`PONG`](Self::Pong).
    pub const fn pong(value: u32) -> Self {
        Self::Pong { value }
    }

    /// Makes [`REQ_PAGES`](Self::ReqPages).
    pub const fn req_pages(start: u64, len: u64, block: Option<Name<'a>>) -> Self {
        Self::ReqPages { start, len, block }
    }
}

impl<N: BlockName> Sealed for Message<N> {}

impl<N> Message<N> {
    /// Short name, such as `REQ_PAGES_ID`.
    pub fn label(&self) -> &'static str {
        match self {
            Message::Shut { .. } => "SHUT",
            Message::Pong { .. } => "PONG",
            Message::ReqPages { .. } => "REQ_PAGES",
        }
    }

    /// Message number on the wire.
    pub fn number(&self) -> u16 {
        match self {
            Message::Shut { .. } => 1,
            Message::Pong { .. } => 2,
            Message::ReqPages { .. } => 3,
        }
    }
}

impl<N: BlockName> Message<N> {
    /// Borrows the message's name and ranges.
    pub fn as_borrowed(&self) -> Message<Name<'_>> {
        match self {
            Message::Shut { value } => Message::Shut { value: *value },
            Message::Pong { value } => Message::Pong { value: *value },
            Message::ReqPages { start, len, block } => Message::ReqPages { start: *start, len: *len, block: block.as_ref().map(N::name) },
        }
    }
}

#[cfg(feature = "alloc")]
impl<N: BlockName> Message<N> {
    /// An owned copy of the message.
    pub fn into_owned(self) -> Message<NameBuf> {
        match self {
            Message::Shut { value } => Message::Shut { value },
            Message::Pong { value } => Message::Pong { value },
            Message::ReqPages { start, len, block } => Message::ReqPages { start, len, block: block.map(|name| name.name().to_buf()) },
        }
    }
}

impl<N: BlockName> Message<N> {
    /// Checks the values as a receiver does.
    ///
    /// # Errors
    ///
    /// The first field whose value is invalid, and the rule.
    pub fn check(&self) -> Result<(), EncodeError> {
        let checked = match self {
            Message::ReqPages { start, len, .. } => validate::flagged("len", *start, *len),
            _ => Ok(()),
        };
        checked.map_err(|invalid| invalid.in_message(self.label()))
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName> Message<N> {
    #[inline(always)]
    fn write<W: Write>(&self, out: Sink<W>) -> Written<W> {
        Ok(match self {
            Message::Shut { value } => write_shut(*value)(out)?,
            Message::Pong { value } => write_pong(*value)(out)?,
            Message::ReqPages { start, len, block } => {
                validate::flagged("len", *start, *len)?;
                write_req_pages(*start, *len, block.as_ref().map(N::name))(out)?
            }
        })
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName> Encode for Message<N> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.write(Sink::from(out)) {
            Ok(_) => Ok(()),
            Err(Refused) => invalid(self, Self::check, Self::label),
        }
    }

    #[inline]
    fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        match into_slice(out, |sink| self.write(sink)) {
            Ok(size) => Ok(size),
            Err(Refused) => invalid(self, Self::check, Self::label),
        }
    }
}

#[inline(always)]
fn parse_shut<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    parse::u32("value").map(|value| Message::Shut { value })
}

#[inline(always)]
fn parse_pong<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    parse::u32("value").map(|value| Message::Pong { value })
}

#[inline(always)]
fn parse_req_pages<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    parse::flagged_span("start", "len", "block").map(|(start, len, block)| Message::ReqPages { start, len, block })
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_shut<W: Write>(value: u32) -> impl SerializeFn<W> {
    fixed::<8, _>(move |out| tuple((be_u16(1), be_u16(4), be_u32(value)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_pong<W: Write>(value: u32) -> impl SerializeFn<W> {
    fixed::<8, _>(move |out| tuple((be_u16(2), be_u16(4), be_u32(value)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_req_pages<W: Write>(start: u64, len: u64, block: Option<Name<'_>>) -> impl SerializeFn<W> {
    tuple((
        fixed::<20, _>(move |out| tuple((be_u16(3), be_u16(16 + write::flagged_name_size(block)), write::flagged_span(start, len, block.is_some())))(out)),
        write::flagged_name(block),
    ))
}

// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! The return path of every released QEMU. A receiver refuses unknown numbers:
//! there is no forward compatibility, no magic number, no checksum and no way
//! to find the next message after an error.

#[cfg(feature = "encode")]
use std::io::Write;
#[cfg(feature = "encode")]
use std::vec::Vec;
#[cfg(feature = "encode")]
use cookie_factory::SerializeFn;
#[cfg(feature = "encode")]
use cookie_factory::bytes::{be_u8, be_u16, be_u32};
#[cfg(feature = "encode")]
use cookie_factory::combinator::slice;
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

/// Selects the merged dialect of the return path in [`decode`](crate::decode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qemu {}

/// The return path of every released QEMU. A receiver refuses unknown numbers:
/// there is no forward compatibility, no magic number, no checksum and no way
/// to find the next message after an error.
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
    /// Requests pages of the named RAM block.
    ///
    /// `MIG_RP_MSG_REQ_PAGES_ID`, number 3.
    ReqPagesId {
        /// First byte of the requested range, a multiple of the block's host
        /// page size.
        start: u64,
        /// Length of the requested range; QEMU requests exactly one host page,
        /// and reads 2^31 or more as a negative number.
        len: u32,
        /// Name of the RAM block, as in the block list of the `ram` section.
        block: N,
    },
    /// Requests pages of the RAM block that the last REQ_PAGES_ID named.
    ///
    /// `MIG_RP_MSG_REQ_PAGES`, number 4.
    ReqPages {
        /// First byte of the requested range, a multiple of the block's host
        /// page size.
        start: u64,
        /// Length of the requested range; QEMU requests exactly one host page,
        /// and reads 2^31 or more as a negative number.
        len: u32,
    },
    /// Reports which pages of the named RAM block have been received; the
    /// bitmap follows the frame.
    ///
    /// `MIG_RP_MSG_RECV_BITMAP`, number 5.
    RecvBitmap {
        /// Name of the RAM block, as in the block list of the `ram` section.
        block: N,
    },
    /// The destination is ready to continue after a broken connection.
    ///
    /// `MIG_RP_MSG_RESUME_ACK`, number 6.
    ResumeAck,
    /// The destination's devices agree to the switchover.
    ///
    /// `MIG_RP_MSG_SWITCHOVER_ACK`, number 7.
    SwitchoverAck,
}

impl Sealed for Qemu {}

impl Dialect for Qemu {
    type Message<'a> = Message<Name<'a>>;
    #[cfg(feature = "alloc")]
    type Owned = Message<NameBuf>;
    const NAME: &'static str = "qemu";
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
            3 => frame.message::<_, 14, 268, 512>("REQ_PAGES_ID", parse_req_pages_id, Self::trailer),
            4 => frame.message::<_, 12, 12, 512>("REQ_PAGES", parse_req_pages, Self::trailer),
            5 => frame.message::<_, 2, 256, 512>("RECV_BITMAP", parse_recv_bitmap, Self::trailer),
            6 => frame.message::<_, 4, 4, 512>("RESUME_ACK", parse_resume_ack, Self::trailer),
            7 => frame.empty::<_, 512>("SWITCHOVER_ACK", Message::SwitchoverAck, Self::trailer),
            _ => frame.unknown(),
        }
    }

    #[inline(always)]
    fn trailer(message: &Self::Message<'_>) -> Trailer {
        match message {
            Message::Shut { .. } => Trailer::End,
            Message::RecvBitmap { .. } => Trailer::Bitmap,
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
            Message::ReqPagesId { start, len, block } => {
                show("start", Value::Offset(*start));
                show("len", Value::Bytes((*len).into()));
                show("block", Value::Name(Some(*block)));
            }
            Message::ReqPages { start, len } => {
                show("start", Value::Offset(*start));
                show("len", Value::Bytes((*len).into()));
            }
            Message::RecvBitmap { block } => {
                show("block", Value::Name(Some(*block)));
            }
            Message::ResumeAck => {
                show("value", Value::Number(1));
            }
            Message::SwitchoverAck => {}
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

    /// Makes [`REQ_PAGES_ID`](Self::ReqPagesId).
    pub const fn req_pages_id(start: u64, len: u32, block: Name<'a>) -> Self {
        Self::ReqPagesId { start, len, block }
    }

    /// Makes [`REQ_PAGES`](Self::ReqPages).
    pub const fn req_pages(start: u64, len: u32) -> Self {
        Self::ReqPages { start, len }
    }

    /// Makes [`RECV_BITMAP`](Self::RecvBitmap).
    pub const fn recv_bitmap(block: Name<'a>) -> Self {
        Self::RecvBitmap { block }
    }

    /// Makes [`RESUME_ACK`](Self::ResumeAck).
    pub const fn resume_ack() -> Self {
        Self::ResumeAck
    }

    /// Makes [`SWITCHOVER_ACK`](Self::SwitchoverAck).
    pub const fn switchover_ack() -> Self {
        Self::SwitchoverAck
    }
}

impl<N: BlockName> Sealed for Message<N> {}

impl<N> Message<N> {
    /// Short name, such as `REQ_PAGES_ID`.
    pub fn label(&self) -> &'static str {
        match self {
            Message::Shut { .. } => "SHUT",
            Message::Pong { .. } => "PONG",
            Message::ReqPagesId { .. } => "REQ_PAGES_ID",
            Message::ReqPages { .. } => "REQ_PAGES",
            Message::RecvBitmap { .. } => "RECV_BITMAP",
            Message::ResumeAck => "RESUME_ACK",
            Message::SwitchoverAck => "SWITCHOVER_ACK",
        }
    }

    /// Message number on the wire.
    pub fn number(&self) -> u16 {
        match self {
            Message::Shut { .. } => 1,
            Message::Pong { .. } => 2,
            Message::ReqPagesId { .. } => 3,
            Message::ReqPages { .. } => 4,
            Message::RecvBitmap { .. } => 5,
            Message::ResumeAck => 6,
            Message::SwitchoverAck => 7,
        }
    }
}

impl<N: BlockName> Message<N> {
    /// Borrows the message's name and ranges.
    pub fn as_borrowed(&self) -> Message<Name<'_>> {
        match self {
            Message::Shut { value } => Message::Shut { value: *value },
            Message::Pong { value } => Message::Pong { value: *value },
            Message::ReqPagesId { start, len, block } => Message::ReqPagesId { start: *start, len: *len, block: block.name() },
            Message::ReqPages { start, len } => Message::ReqPages { start: *start, len: *len },
            Message::RecvBitmap { block } => Message::RecvBitmap { block: block.name() },
            Message::ResumeAck => Message::ResumeAck,
            Message::SwitchoverAck => Message::SwitchoverAck,
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
            Message::ReqPagesId { start, len, block } => Message::ReqPagesId { start, len, block: block.name().to_buf() },
            Message::ReqPages { start, len } => Message::ReqPages { start, len },
            Message::RecvBitmap { block } => Message::RecvBitmap { block: block.name().to_buf() },
            Message::ResumeAck => Message::ResumeAck,
            Message::SwitchoverAck => Message::SwitchoverAck,
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
            Message::ReqPagesId { start, len, .. } => validate::span("len", *start, (*len).into()),
            Message::ReqPages { start, len } => validate::span("len", *start, (*len).into()),
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
            Message::ReqPagesId { start, len, block } => {
                validate::span("len", *start, (*len).into())?;
                write_req_pages_id(*start, *len, block.name())(out)?
            }
            Message::ReqPages { start, len } => {
                validate::span("len", *start, (*len).into())?;
                write_req_pages(*start, *len)(out)?
            }
            Message::RecvBitmap { block } => write_recv_bitmap(block.name())(out)?,
            Message::ResumeAck => write_resume_ack()(out)?,
            Message::SwitchoverAck => write_switchover_ack()(out)?,
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
fn parse_req_pages_id<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    (
        parse::span("start", "len"),
        parse::name("block"),
    )
        .map(|((start, len), block)| Message::ReqPagesId { start, len, block })
}

#[inline(always)]
fn parse_req_pages<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    parse::span("start", "len").map(|(start, len)| Message::ReqPages { start, len })
}

#[inline(always)]
fn parse_recv_bitmap<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    parse::name("block").map(|block| Message::RecvBitmap { block })
}

#[inline(always)]
fn parse_resume_ack<'a>() -> impl Parser<Bytes<'a>, Output = Message<Name<'a>>, Error = FieldError> {
    parse::u32_equals("value", 1).map(|()| Message::ResumeAck)
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
fn write_req_pages_id<W: Write>(start: u64, len: u32, block: Name<'_>) -> impl SerializeFn<W> {
    tuple((
        fixed::<17, _>(move |out| tuple((be_u16(3), be_u16(13 + u16::from(block.size())), write::span(start, len), be_u8(block.size())))(out)),
        slice(block.as_bytes()),
    ))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_req_pages<W: Write>(start: u64, len: u32) -> impl SerializeFn<W> {
    fixed::<16, _>(move |out| tuple((be_u16(4), be_u16(12), write::span(start, len)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_recv_bitmap<W: Write>(block: Name<'_>) -> impl SerializeFn<W> {
    tuple((
        fixed::<5, _>(move |out| tuple((be_u16(5), be_u16(1 + u16::from(block.size())), be_u8(block.size())))(out)),
        slice(block.as_bytes()),
    ))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_resume_ack<W: Write>() -> impl SerializeFn<W> {
    fixed::<8, _>(move |out| tuple((be_u16(6), be_u16(4), be_u32(1)))(out))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_switchover_ack<W: Write>() -> impl SerializeFn<W> {
    fixed::<4, _>(move |out| tuple((be_u16(7), be_u16(0)))(out))
}

//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! The return path of every released QEMU. A receiver refuses unknown numbers:
//! there is no forward compatibility, no magic, no checksum and no way to find
//! the next message after an error.

#[cfg(feature = "encode")]
use std::{io::Write, vec::Vec};

use crate::error::{DecodeError, EncodeError};
use crate::fit;
#[cfg(feature = "encode")]
use crate::frame::{Encode, into_slice, unfit};
use crate::frame::{Decoded, Dialect, Trailer, Value, header, sealed::Sealed};
#[cfg(feature = "alloc")]
use crate::name::NameBuf;
use crate::name::{BlockName, Name};
#[cfg(feature = "encode")]
use crate::field::{Refused, Run, Sink, Written};
use crate::field::{self, Fail, Parsed};

/// Chooses the merged dialect of the return path in [`decode`](crate::decode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qemu {}

/// The return path of every released QEMU. A receiver refuses unknown numbers:
/// there is no forward compatibility, no magic, no checksum and no way to find
/// the next message after an error.
///
/// `N` is [`Name`] in a message that borrows from its input and `NameBuf` in
/// one that owns its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<N> {
    /// The destination will send nothing more: 0 after success, anything else
    /// after an error.
    ///
    /// `MIG_RP_MSG_SHUT`, number 1.
    Shut {
        /// 0 = every page arrived; QEMU sends 1 when its input stream had an
        /// error.
        value: u32,
    },
    /// Answer to the PING command with the same value.
    ///
    /// `MIG_RP_MSG_PONG`, number 2.
    Pong {
        /// The value of the PING.
        value: u32,
    },
    /// Wants pages of the named RAM block.
    ///
    /// `MIG_RP_MSG_REQ_PAGES_ID`, number 3.
    ReqPagesId {
        /// First byte wanted; a multiple of the block's host page size.
        start: u64,
        /// How much is wanted; QEMU asks for exactly one host page, and reads
        /// 2^31 or more as negative.
        len: u32,
        /// RAM block, as the block list of the `ram` section spells it.
        block: N,
    },
    /// Wants pages of the RAM block that the last REQ_PAGES_ID named.
    ///
    /// `MIG_RP_MSG_REQ_PAGES`, number 4.
    ReqPages {
        /// First byte wanted; a multiple of the block's host page size.
        start: u64,
        /// How much is wanted; QEMU asks for exactly one host page, and reads
        /// 2^31 or more as negative.
        len: u32,
    },
    /// Which pages of the named RAM block have been received; the bitmap
    /// follows the frame.
    ///
    /// `MIG_RP_MSG_RECV_BITMAP`, number 5.
    RecvBitmap {
        /// RAM block, as the block list of the `ram` section spells it.
        block: N,
    },
    /// The destination is ready to go on after a broken link.
    ///
    /// `MIG_RP_MSG_RESUME_ACK`, number 6.
    ResumeAck,
    /// The destination's devices agree to the switch.
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
        let frame = match header([], input)? {
            Ok(frame) => frame,
            Err(missing) => return Ok(Decoded::Need(missing)),
        };
        match frame.number() {
            0 => frame.reserved(),
            1 => frame.message::<_, 4, 4, 512>("SHUT", parse_shut, parse_shut),
            2 => frame.message::<_, 4, 4, 512>("PONG", parse_pong, parse_pong),
            3 => frame.message::<_, 14, 268, 512>("REQ_PAGES_ID", parse_req_pages_id, parse_req_pages_id),
            4 => frame.message::<_, 12, 12, 512>("REQ_PAGES", parse_req_pages, parse_req_pages),
            5 => frame.message::<_, 2, 256, 512>("RECV_BITMAP", parse_recv_bitmap, parse_recv_bitmap),
            6 => frame.message::<_, 4, 4, 512>("RESUME_ACK", parse_resume_ack, parse_resume_ack),
            7 => frame.empty::<_, 512>("SWITCHOVER_ACK", Message::SwitchoverAck),
            _ => frame.unknown(),
        }
    }

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

impl<N: BlockName> Sealed for Message<N> {}

impl<N> Message<N> {
    /// Name that people use, such as `REQ_PAGES_ID`.
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

    /// Number on the wire.
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

#[cfg(feature = "alloc")]
impl<N: BlockName> Message<N> {
    /// The same message, with copies of what it borrows.
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
    /// Whether a receiver would take the values.
    ///
    /// # Errors
    ///
    /// Which field breaks which rule.
    pub fn check(&self) -> Result<(), EncodeError> {
        let checked = match self {
            Message::ReqPagesId { start, len, .. } => fit::span("len", *start, (*len).into()),
            Message::ReqPages { start, len } => fit::span("len", *start, (*len).into()),
            _ => Ok(()),
        };
        checked.map_err(|unfit| unfit.of(self.label()))
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName> Message<N> {
    #[inline(always)]
    fn write<W: Write>(&self, out: Sink<W>) -> Written<W> {
        match self {
            Message::Shut { value } => write_shut(out, *value),
            Message::Pong { value } => write_pong(out, *value),
            Message::ReqPagesId { start, len, block } => write_req_pages_id(out, *start, *len, block.name()),
            Message::ReqPages { start, len } => write_req_pages(out, *start, *len),
            Message::RecvBitmap { block } => write_recv_bitmap(out, block.name()),
            Message::ResumeAck => write_resume_ack(out),
            Message::SwitchoverAck => write_switchover_ack(out),
        }
    }
}

#[cfg(feature = "encode")]
impl<N: BlockName> Encode for Message<N> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.write(Sink::from(out)) {
            Ok(_) => Ok(()),
            Err(Refused) => unfit(self, Self::check, Self::label),
        }
    }

    #[inline]
    fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        match into_slice(out, |sink| self.write(sink)) {
            Ok(size) => Ok(size),
            Err(Refused) => unfit(self, Self::check, Self::label),
        }
    }
}

#[inline(always)]
fn parse_shut<F: Fail>(rest: &[u8]) -> Parsed<'_, Message<Name<'_>>, F> {
    let (rest, value) = field::be32("value", rest)?;
    Ok((rest, Message::Shut { value }))
}

#[inline(always)]
fn parse_pong<F: Fail>(rest: &[u8]) -> Parsed<'_, Message<Name<'_>>, F> {
    let (rest, value) = field::be32("value", rest)?;
    Ok((rest, Message::Pong { value }))
}

#[inline(always)]
fn parse_req_pages_id<F: Fail>(rest: &[u8]) -> Parsed<'_, Message<Name<'_>>, F> {
    let (rest, start) = field::be64("start", rest)?;
    let (rest, len) = field::be32_span("len", start, rest)?;
    let (rest, block) = field::name("block", rest)?;
    Ok((rest, Message::ReqPagesId { start, len, block }))
}

#[inline(always)]
fn parse_req_pages<F: Fail>(rest: &[u8]) -> Parsed<'_, Message<Name<'_>>, F> {
    let (rest, start) = field::be64("start", rest)?;
    let (rest, len) = field::be32_span("len", start, rest)?;
    Ok((rest, Message::ReqPages { start, len }))
}

#[inline(always)]
fn parse_recv_bitmap<F: Fail>(rest: &[u8]) -> Parsed<'_, Message<Name<'_>>, F> {
    let (rest, block) = field::name("block", rest)?;
    Ok((rest, Message::RecvBitmap { block }))
}

#[inline(always)]
fn parse_resume_ack<F: Fail>(rest: &[u8]) -> Parsed<'_, Message<Name<'_>>, F> {
    let (rest, ()) = field::be32_equals("value", 1, rest)?;
    Ok((rest, Message::ResumeAck))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_shut<W: Write>(out: Sink<W>, value: u32) -> Written<W> {
    field::put(out, Run::<8>::new().be16::<0>(1).be16::<2>(4).be32::<4>(value))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_pong<W: Write>(out: Sink<W>, value: u32) -> Written<W> {
    field::put(out, Run::<8>::new().be16::<0>(2).be16::<2>(4).be32::<4>(value))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_req_pages_id<W: Write>(out: Sink<W>, start: u64, len: u32, block: Name<'_>) -> Written<W> {
    fit::span("len", start, len.into())?;
    let out = field::put(out, Run::<17>::new().be16::<0>(3).be16::<2>(13 + u16::from(block.size())).be64::<4>(start).be32::<12>(len).u8::<16>(block.size()))?;
    field::put_name(out, block)
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_req_pages<W: Write>(out: Sink<W>, start: u64, len: u32) -> Written<W> {
    fit::span("len", start, len.into())?;
    field::put(out, Run::<16>::new().be16::<0>(4).be16::<2>(12).be64::<4>(start).be32::<12>(len))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_recv_bitmap<W: Write>(out: Sink<W>, block: Name<'_>) -> Written<W> {
    let out = field::put(out, Run::<5>::new().be16::<0>(5).be16::<2>(1 + u16::from(block.size())).u8::<4>(block.size()))?;
    field::put_name(out, block)
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_resume_ack<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<8>::new().be16::<0>(6).be16::<2>(4).be32::<4>(1))
}

#[cfg(feature = "encode")]
#[inline(always)]
fn write_switchover_ack<W: Write>(out: Sink<W>) -> Written<W> {
    field::put(out, Run::<4>::new().be16::<0>(7).be16::<2>(0))
}

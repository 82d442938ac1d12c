//! The frame around a message: lead, number, payload length.
//!
//! ```text
//!  offset  size  field
//!       0  l     lead: empty on the return path, 0x08 for a command
//!       l  2     message number, big-endian
//!     l+2  2     payload length L in bytes, big-endian
//!     l+4  L     payload
//! ```
//!
//! Mirrors `migration.c:source_return_path_thread` and
//! `savevm.c:loadvm_process_command`. Checks run in this order: number, payload
//! limit, length, fields from first to last, leftover bytes. Nothing here
//! panics or allocates.

use core::fmt::Debug;

use nom::bytes::tag;
use nom::bytes::take;
use nom::number::be_u16;
use nom::{Check, Complete, Emit, OutputM, Parser, Streaming};

use crate::error::{DecodeError, Rule};
use crate::field::combinator::FieldError;
use crate::field::input::Bytes;
use crate::name::Name;
use crate::num::wide;
use crate::ranges::{PageSizes, Ranges};

/// Longest frame of a return path: header and 512 bytes of payload.
#[cfg(feature = "alloc")]
pub(crate) const MAX_FRAME: usize = 4 + 512;

/// A set of messages: [`Qemu`](crate::Qemu), [`V7`](crate::V7) or
/// [`Commands`](crate::command::Commands).
///
/// The bytes do not identify the dialect; the caller chooses it.
pub trait Dialect: sealed::Sealed {
    /// A message that borrows from the input.
    type Message<'a>: Copy + Debug + PartialEq + MaybeEncode;
    /// A message that owns its name and ranges.
    #[cfg(feature = "alloc")]
    type Owned: Clone + Debug + PartialEq + MaybeEncode;
    /// Name of the dialect, such as `qemu`.
    const NAME: &'static str;
    /// Size of a frame without its payload, in bytes.
    const HEADER: usize;
    /// Largest payload, in bytes.
    const MAX_PAYLOAD: usize;

    #[doc(hidden)]
    fn frame(input: &[u8]) -> Result<Decoded<'_, Self::Message<'_>>, DecodeError>;

    /// Returns what follows the frame, outside of its length.
    fn trailer(message: &Self::Message<'_>) -> Trailer;

    /// Returns the name of the message, such as `REQ_PAGES_ID`.
    fn label(message: &Self::Message<'_>) -> &'static str;

    /// Calls `show` with the name and value of each field, in wire order.
    ///
    /// Fields with one legal value are included.
    fn fields(message: &Self::Message<'_>, show: &mut dyn FnMut(&'static str, Value<'_>));

    /// Copies the name and ranges of the message.
    #[cfg(feature = "alloc")]
    fn into_owned(message: Self::Message<'_>) -> Self::Owned;
}

/// The value of one field of a message or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A number without a unit.
    Number(u64),
    /// An offset from the start of a RAM block, in bytes.
    Offset(u64),
    /// A length in bytes.
    Bytes(u64),
    /// A RAM block name; `None` when the message has none.
    Name(Option<Name<'a>>),
    /// Page sizes; `None` when the message has none.
    PageSizes(Option<PageSizes>),
    /// Ranges of a RAM block.
    Ranges(Ranges<'a>),
    /// Text from the stream, not necessarily UTF-8.
    Text(&'a [u8]),
    /// Bytes that are shown as hexadecimal digits.
    Hex(&'a [u8]),
    /// Capability names.
    #[cfg(feature = "alloc")]
    Capabilities(crate::forward::Capabilities<'a>),
}

impl Value<'_> {
    /// Returns whether the message lacks this field.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Value::Name(None) | Value::PageSizes(None))
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Nothing: the feature `encode` is not enabled.
#[cfg(not(feature = "encode"))]
use self::sealed::Sealed as MaybeEncode;
/// [`Encode`](crate::encode::Encode), where that feature is enabled.
#[cfg(feature = "encode")]
use crate::encode::Encode as MaybeEncode;

/// What follows a message's frame on the wire.
///
/// A trailer is not counted by the length field of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// The next message.
    None,
    /// A received bitmap, to be read with [`bitmap::decode`](crate::bitmap::decode).
    Bitmap,
    /// A nested stream of this many bytes.
    Package(u32),
    /// Nothing: this is the last message of the channel.
    End,
}

/// What was found at the start of a slice.
///
/// A message with a [`Trailer`] is not complete with its frame: after
/// RECV_BITMAP, `rest` starts with a bitmap and not with the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a, M> {
    /// The message is incomplete: at least this many more bytes are needed;
    /// never 0.
    Need(usize),
    /// One complete message.
    Message {
        /// The message.
        message: M,
        /// What `rest` starts with.
        trailer: Trailer,
        /// The input after the message.
        rest: &'a [u8],
    },
}

/// Decodes one message from the start of `input`.
///
/// ```
/// use retpath_codec::bitmap::{self, Bitmap};
/// use retpath_codec::{Decoded, Message, Qemu, Trailer, decode};
///
/// let input = b"\x00\x05\x00\x04\x03ram\
///     \0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\x01\x23\x45\x67\x89\xab\xcd\xef";
/// let Decoded::Message { message, trailer, rest } = decode::<Qemu>(input)? else {
///     panic!("the frame is complete");
/// };
/// assert!(matches!(message, Message::RecvBitmap { .. }));
/// assert_eq!(trailer, Trailer::Bitmap);
/// let Decoded::Message { message: bitmap, rest, .. } = bitmap::decode(rest, 8)? else {
///     panic!("the bitmap is complete");
/// };
/// assert_eq!(bitmap.received(), 3);
/// assert!(rest.is_empty());
/// # Ok::<(), retpath_codec::DecodeError>(())
/// ```
///
/// # Errors
///
/// Fails when the bytes cannot become a message of this dialect, whatever
/// follows them. The offset in the error is relative to `input`.
#[inline]
pub fn decode<D: Dialect>(input: &[u8]) -> Result<Decoded<'_, D::Message<'_>>, DecodeError> {
    D::frame(input)
}

/// A header that has been read, after `LEAD` bytes, and the bytes after it.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a, const LEAD: usize> {
    number: u16,
    len: u16,
    /// The bytes after the header.
    body: &'a [u8],
}

/// Reads a header. Returns the frame, or how many bytes are missing.
#[inline(always)]
pub(crate) fn header<'a, const LEAD: usize>(
    lead: &'static [u8; LEAD],
    input: &'a [u8],
) -> Result<Result<Frame<'a, LEAD>, usize>, DecodeError> {
    let size = LEAD + 4;
    let mut header = (tag::<_, _, FieldError>(&lead[..]), be_u16(), be_u16());
    match header.process::<OutputM<Emit, Check, Streaming>>(Bytes(input)) {
        Ok((Bytes(body), (_, number, len))) => Ok(Ok(Frame { number, len, body })),
        Err(_) if input.len() < size => Ok(Err(size - input.len())),
        Err(_) => bad_lead(),
    }
}

impl<'a, const LEAD: usize> Frame<'a, LEAD> {
    #[inline(always)]
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Cuts the payload, which must be `MIN` to `MAX` bytes long, and reads all
    /// of it with `parser`.
    #[inline(always)]
    pub(crate) fn message<P, const MIN: usize, const MAX: usize, const LIMIT: usize>(
        self,
        label: &'static str,
        parser: impl Fn() -> P,
        trailer: impl FnOnce(&P::Output) -> Trailer,
    ) -> Result<Decoded<'a, P::Output>, DecodeError>
    where
        P: Parser<Bytes<'a>, Error = FieldError>,
    {
        let len = usize::from(self.len);
        if len < MIN || len > MAX {
            return bad_length::<_, LEAD, LIMIT>(label, len, MIN, MAX);
        }
        if MIN == MAX {
            read::<_, LEAD>(label, len, self.body, parser, trailer)
        } else {
            read_varying::<_, LEAD>(label, len, self.body, parser, trailer)
        }
    }

    /// Reads a message without a payload.
    #[inline(always)]
    pub(crate) fn empty<M, const LIMIT: usize>(
        self,
        label: &'static str,
        message: M,
        trailer: impl FnOnce(&M) -> Trailer,
    ) -> Result<Decoded<'a, M>, DecodeError> {
        if self.len != 0 {
            return bad_length::<_, LEAD, LIMIT>(label, self.len.into(), 0, 0);
        }
        Ok(Decoded::Message {
            trailer: trailer(&message),
            message,
            rest: self.body,
        })
    }

    /// Fails: the message number is reserved.
    #[inline(always)]
    pub(crate) fn reserved<M>(self) -> Result<Decoded<'a, M>, DecodeError> {
        reserved::<_, LEAD>()
    }

    /// Fails: no message has this number.
    #[inline(always)]
    pub(crate) fn unknown<M>(self) -> Result<Decoded<'a, M>, DecodeError> {
        unknown::<_, LEAD>(self.number)
    }
}

/// Parses a payload of `len` bytes at the start of `body`.
///
/// It is read with nom's mode `Check` for errors, which makes none. Only what is
/// refused is read again to say why: valid messages do not pay for it.
#[inline(always)]
fn read<'a, P, const LEAD: usize>(
    label: &'static str,
    len: usize,
    body: &'a [u8],
    parser: impl Fn() -> P,
    trailer: impl FnOnce(&P::Output) -> Trailer,
) -> Result<Decoded<'a, P::Output>, DecodeError>
where
    P: Parser<Bytes<'a>, Error = FieldError>,
{
    let Ok((Bytes(rest), payload)) = take::<_, _, FieldError>(len).parse(Bytes(body)) else {
        return Ok(Decoded::Need(len - body.len()));
    };
    match parser().process::<OutputM<Emit, Check, Complete>>(payload) {
        Ok((end, message)) if end.is_empty() => Ok(Decoded::Message {
            trailer: trailer(&message),
            message,
            rest,
        }),
        _ => refuse::<_, LEAD>(label, payload, parser()),
    }
}

/// [`read`] for payloads of varying size. Out of line because it needs more
/// registers, which inlined into the caller would be saved for all messages.
#[inline(never)]
fn read_varying<'a, P, const LEAD: usize>(
    label: &'static str,
    len: usize,
    body: &'a [u8],
    parser: impl Fn() -> P,
    trailer: impl FnOnce(&P::Output) -> Trailer,
) -> Result<Decoded<'a, P::Output>, DecodeError>
where
    P: Parser<Bytes<'a>, Error = FieldError>,
{
    read::<_, LEAD>(label, len, body, parser, trailer)
}

// Errors are made out of line, by functions that return what their caller
// returns, so that valid messages do not pay for them.

#[cold]
#[inline(never)]
fn bad_lead<T>() -> Result<T, DecodeError> {
    Err(DecodeError::new(0, None, None, Rule::Lead))
}

#[cold]
#[inline(never)]
fn reserved<'a, M, const LEAD: usize>() -> Result<Decoded<'a, M>, DecodeError> {
    bad_number(LEAD, Rule::Reserved)
}

#[cold]
#[inline(never)]
fn unknown<'a, M, const LEAD: usize>(number: u16) -> Result<Decoded<'a, M>, DecodeError> {
    bad_number(LEAD, Rule::Unknown { number })
}

fn bad_number<'a, M>(lead: usize, rule: Rule) -> Result<Decoded<'a, M>, DecodeError> {
    Err(DecodeError::new(wide(lead), None, None, rule))
}

#[cold]
#[inline(never)]
fn bad_length<'a, M, const LEAD: usize, const LIMIT: usize>(
    label: &'static str,
    len: usize,
    min: usize,
    max: usize,
) -> Result<Decoded<'a, M>, DecodeError> {
    let rule = if len > LIMIT {
        Rule::TooLong { len, limit: LIMIT }
    } else {
        Rule::Length { len, min, max }
    };
    Err(DecodeError::new(wide(LEAD + 2), Some(label), None, rule))
}

/// Makes the error for a payload that `parser` refuses or leaves bytes of.
#[cold]
#[inline(never)]
fn refuse<'a, P, const LEAD: usize>(
    label: &'static str,
    payload: Bytes<'a>,
    mut parser: P,
) -> Result<Decoded<'a, P::Output>, DecodeError>
where
    P: Parser<Bytes<'a>, Error = FieldError>,
{
    let FieldError { left, field, rule } = match parser.parse_complete(payload) {
        Ok((rest, _)) => FieldError::leftover(rest),
        Err(error) => error.into(),
    };
    Err(DecodeError::new(
        wide(LEAD + 4 + payload.len().saturating_sub(left)),
        Some(label),
        field,
        rule,
    ))
}

//! The frame around a message: lead, number, payload length.
//!
//! ```text
//!  offset  size  field
//!       0  l     lead: nothing on the return path, 0x08 before a command
//!       l  2     message number, big-endian
//!     l+2  2     payload length L in bytes, big-endian
//!     l+4  L     payload
//! ```
//!
//! Mirrors `migration.c:source_return_path_thread` and
//! `savevm.c:loadvm_process_command`. Defects are looked for in this order:
//! number, limit, length, fields in order, left-over bytes. Nothing here
//! panics or allocates.

use core::fmt::Debug;

use nom::bytes::tag;
use nom::bytes::take;
use nom::number::be_u16;
use nom::{Check, Complete, Emit, OutputM, Parser, Streaming};

#[cfg(feature = "encode")]
use crate::error::EncodeError;
use crate::error::{DecodeError, Rule};
use crate::field::combinator::Fault;
use crate::field::input::Bytes;
#[cfg(feature = "encode")]
use crate::field::output::{Refused, Room, Sink, Written};
use crate::name::Name;
use crate::num::wide;
use crate::ranges::{PageSizes, Ranges};

/// A set of messages, chosen by the caller; see [`crate::Qemu`],
/// [`crate::V7`], [`crate::command::Commands`].
pub trait Dialect: sealed::Sealed {
    /// A message that borrows from the input.
    type Message<'a>: Copy + Debug + PartialEq + MaybeEncode;
    /// A message that owns what it holds.
    #[cfg(feature = "alloc")]
    type Owned: Clone + Debug + PartialEq + MaybeEncode;
    /// Name of the dialect, as on the command line.
    const NAME: &'static str;
    /// Bytes of a frame in front of its payload.
    const HEADER: usize;
    /// Longest payload in bytes.
    const MAX_PAYLOAD: usize;

    #[doc(hidden)]
    fn frame(input: &[u8]) -> Result<Decoded<'_, Self::Message<'_>>, DecodeError>;

    /// What follows the frame without being counted by its length.
    fn trailer(message: &Self::Message<'_>) -> Trailer;

    /// The message's label, such as `REQ_PAGES_ID`.
    fn label(message: &Self::Message<'_>) -> &'static str;

    /// Shows the message's fields in order, for printing and comparing.
    fn fields(message: &Self::Message<'_>, show: &mut dyn FnMut(&'static str, Value<'_>));

    /// The same message, owned.
    #[cfg(feature = "alloc")]
    fn into_owned(message: Self::Message<'_>) -> Self::Owned;
}

/// The value of one field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number without a unit.
    Number(u64),
    /// An offset from the start of a RAM block, in bytes.
    Offset(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A RAM block name, if there is one.
    Name(Option<Name<'a>>),
    /// Page sizes, if there are any.
    PageSizes(Option<PageSizes>),
    /// Ranges of a RAM block.
    Ranges(Ranges<'a>),
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// [`Encode`] where there is such a thing.
#[cfg(feature = "encode")]
use self::Encode as MaybeEncode;
/// [`Encode`] where there is such a thing.
#[cfg(not(feature = "encode"))]
use self::sealed::Sealed as MaybeEncode;

/// What follows a message's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// The next message.
    None,
    /// A received bitmap; see [`crate::bitmap`].
    Bitmap,
    /// A nested stream of this many bytes.
    Package(u32),
    /// Nothing: the message says that it is the last one.
    End,
}

/// What [`decode`] found at the start of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a, M> {
    /// At least this many more bytes are needed to say more; never 0.
    Need(usize),
    /// One whole message, and what follows it.
    Message {
        /// The message.
        message: M,
        /// The input behind it.
        rest: &'a [u8],
    },
}

/// Reads one message from the start of `input`.
///
/// # Errors
///
/// The bytes can be no message of this dialect, whatever follows them.
#[inline]
pub fn decode<D: Dialect>(input: &[u8]) -> Result<Decoded<'_, D::Message<'_>>, DecodeError> {
    D::frame(input)
}

/// A header that has been read, behind `LEAD` bytes, and what follows it.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a, const LEAD: usize> {
    number: u16,
    len: u16,
    /// Everything behind the header.
    body: &'a [u8],
}

/// Reads a header: the frame, or how many bytes are missing.
#[inline(always)]
pub(crate) fn header<'a, const LEAD: usize>(
    lead: &'static [u8; LEAD],
    input: &'a [u8],
) -> Result<Result<Frame<'a, LEAD>, usize>, DecodeError> {
    let size = LEAD + 4;
    let mut header = (tag::<_, _, Fault>(&lead[..]), be_u16(), be_u16());
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
    ) -> Result<Decoded<'a, P::Output>, DecodeError>
    where
        P: Parser<Bytes<'a>, Error = Fault>,
    {
        let len = usize::from(self.len);
        if len < MIN || len > MAX {
            return bad_length::<_, LEAD, LIMIT>(label, len, MIN, MAX);
        }
        if MIN == MAX {
            read::<_, LEAD>(label, len, self.body, parser)
        } else {
            read_varying::<_, LEAD>(label, len, self.body, parser)
        }
    }

    /// A message that has no payload.
    #[inline(always)]
    pub(crate) fn empty<M, const LIMIT: usize>(
        self,
        label: &'static str,
        message: M,
    ) -> Result<Decoded<'a, M>, DecodeError> {
        if self.len != 0 {
            return bad_length::<_, LEAD, LIMIT>(label, self.len.into(), 0, 0);
        }
        let rest = self.body;
        Ok(Decoded::Message { message, rest })
    }

    /// The error for a number that is kept out of use.
    #[inline(always)]
    pub(crate) fn reserved<M>(self) -> Result<Decoded<'a, M>, DecodeError> {
        reserved::<_, LEAD>()
    }

    /// The error for a number that no message has.
    #[inline(always)]
    pub(crate) fn unknown<M>(self) -> Result<Decoded<'a, M>, DecodeError> {
        unknown::<_, LEAD>(self.number)
    }
}

/// Reads a payload of `len` bytes from the front of `body`.
///
/// It is read with nom's mode `Check` for errors, which makes none. Only what is
/// refused is read again to say why: valid messages do not pay for it.
#[inline(always)]
fn read<'a, P, const LEAD: usize>(
    label: &'static str,
    len: usize,
    body: &'a [u8],
    parser: impl Fn() -> P,
) -> Result<Decoded<'a, P::Output>, DecodeError>
where
    P: Parser<Bytes<'a>, Error = Fault>,
{
    let Ok((Bytes(rest), payload)) = take::<_, _, Fault>(len).parse(Bytes(body)) else {
        return Ok(Decoded::Need(len - body.len()));
    };
    match parser().process::<OutputM<Emit, Check, Complete>>(payload) {
        Ok((end, message)) if end.is_empty() => Ok(Decoded::Message { message, rest }),
        _ => refuse::<_, LEAD>(label, payload, parser()),
    }
}

/// [`read`] for payloads of varying size. They need more registers than the
/// others, and would make all of them save as many.
#[inline(never)]
fn read_varying<'a, P, const LEAD: usize>(
    label: &'static str,
    len: usize,
    body: &'a [u8],
    parser: impl Fn() -> P,
) -> Result<Decoded<'a, P::Output>, DecodeError>
where
    P: Parser<Bytes<'a>, Error = Fault>,
{
    read::<_, LEAD>(label, len, body, parser)
}

// What goes wrong is told out of line, by functions that return what their
// caller returns: good messages do not even pay for the call.

#[cold]
#[inline(never)]
fn bad_lead<T>() -> Result<T, DecodeError> {
    Err(DecodeError {
        offset: 0,
        message: None,
        field: None,
        rule: Rule::Lead,
    })
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
    Err(DecodeError {
        offset: wide(lead),
        message: None,
        field: None,
        rule,
    })
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
    Err(DecodeError {
        offset: wide(LEAD + 2),
        message: Some(label),
        field: None,
        rule,
    })
}

/// The error for a payload that `parser` refuses, or does not read whole.
#[cold]
#[inline(never)]
fn refuse<'a, P, const LEAD: usize>(
    label: &'static str,
    payload: Bytes<'a>,
    mut parser: P,
) -> Result<Decoded<'a, P::Output>, DecodeError>
where
    P: Parser<Bytes<'a>, Error = Fault>,
{
    let Fault { left, field, rule } = match parser.parse_complete(payload) {
        Ok((rest, _)) => Fault::leftover(rest),
        Err(error) => error.into(),
    };
    Err(DecodeError {
        offset: wide(LEAD + 4 + payload.len().saturating_sub(left)),
        message: Some(label),
        field,
        rule,
    })
}

/// A message that can be written.
#[cfg(feature = "encode")]
pub trait Encode: sealed::Sealed {
    /// Appends the message's frame to `out`, without a trailer.
    ///
    /// # Errors
    ///
    /// A value breaks a rule that the receiver checks; `out` is as before.
    fn encode(&self, out: &mut std::vec::Vec<u8>) -> Result<(), EncodeError>;

    /// Writes the message's frame to the start of `out` and says how many
    /// bytes it took.
    ///
    /// # Errors
    ///
    /// As [`Encode::encode`], and [`Rule::NoRoom`], after which the contents
    /// of `out` are unspecified.
    fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError>;
}

/// Writes to the free part of a slice: how many bytes it took.
#[cfg(feature = "encode")]
#[inline(always)]
pub(crate) fn into_slice<'a>(
    out: &'a mut [u8],
    write: impl FnOnce(Sink<Room<'a>>) -> Written<Room<'a>>,
) -> Result<usize, Refused> {
    let size = out.len();
    let left = write(Sink::from(Room(out)))?;
    Ok(size - left.write.0.len())
}

/// Why a message was not written: for a rule that it breaks, else for want of
/// room.
#[cfg(feature = "encode")]
#[cold]
#[inline(never)]
pub(crate) fn unfit<M, T>(
    message: &M,
    check: impl FnOnce(&M) -> Result<(), EncodeError>,
    label: impl FnOnce(&M) -> &'static str,
) -> Result<T, EncodeError> {
    check(message)?;
    Err(EncodeError {
        message: label(message),
        field: None,
        rule: Rule::NoRoom,
    })
}

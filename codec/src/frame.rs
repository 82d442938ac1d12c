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

#[cfg(feature = "encode")]
use crate::error::EncodeError;
use crate::error::{DecodeError, Rule};
use crate::name::Name;
use crate::num::wide;
use crate::prim::{self, Parsed};
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

/// A header that has been read, and what follows it.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    number: u16,
    len: u16,
    /// Bytes in front of the number.
    lead: usize,
    /// Everything behind the header.
    body: &'a [u8],
}

/// Reads a header: the frame, or how many bytes are missing.
#[inline(always)]
pub(crate) fn header<const LEAD: usize>(
    lead: [u8; LEAD],
    input: &[u8],
) -> Result<Result<Frame<'_>, usize>, DecodeError> {
    let parts = input
        .split_first_chunk::<LEAD>()
        .and_then(|(start, rest)| Some((start, rest.split_first_chunk::<4>()?)));
    let Some((start, (&[n0, n1, l0, l1], body))) = parts else {
        return Ok(Err(LEAD + 4 - input.len()));
    };
    if *start != lead {
        return Err(DecodeError {
            offset: 0,
            message: None,
            field: None,
            rule: Rule::Lead,
        });
    }
    Ok(Ok(Frame {
        number: u16::from_be_bytes([n0, n1]),
        len: u16::from_be_bytes([l0, l1]),
        lead: LEAD,
        body,
    }))
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Cuts the payload, which must be `MIN` to `MAX` bytes long, and reads it
    /// whole with `parse`.
    #[inline(always)]
    pub(crate) fn message<M, const MIN: usize, const MAX: usize, const LIMIT: usize>(
        self,
        label: &'static str,
        parse: impl FnOnce(&'a [u8]) -> Parsed<'a, M>,
    ) -> Result<Decoded<'a, M>, DecodeError> {
        let len = usize::from(self.len);
        if len < MIN || len > MAX {
            return Err(self.bad_length(label, MIN, MAX, LIMIT));
        }
        let Some((payload, rest)) = self.body.split_at_checked(len) else {
            return Ok(Decoded::Need(len - self.body.len()));
        };
        match prim::finish(parse(payload)) {
            Ok(([], message)) => Ok(Decoded::Message { message, rest }),
            Ok((left, _)) => Err(self.fault(
                label,
                left.len(),
                None,
                Rule::Leftover { count: left.len() },
            )),
            Err(fault) => Err(self.fault(label, fault.left, Some(fault.field), fault.rule)),
        }
    }

    /// The error for a number that is kept out of use.
    #[cold]
    pub(crate) fn reserved(self) -> DecodeError {
        DecodeError {
            offset: wide(self.lead),
            message: None,
            field: None,
            rule: Rule::Reserved,
        }
    }

    /// The error for a number that no message has.
    #[cold]
    pub(crate) fn unknown(self) -> DecodeError {
        let rule = Rule::Unknown {
            number: self.number,
        };
        DecodeError {
            offset: wide(self.lead),
            message: None,
            field: None,
            rule,
        }
    }

    #[cold]
    fn bad_length(self, label: &'static str, min: usize, max: usize, limit: usize) -> DecodeError {
        let len = usize::from(self.len);
        let rule = if len > limit {
            Rule::TooLong { len, limit }
        } else {
            Rule::Length { len, min, max }
        };
        DecodeError {
            offset: wide(self.lead + 2),
            message: Some(label),
            field: None,
            rule,
        }
    }

    /// An error in the payload, where `left` bytes of it were left.
    #[cold]
    fn fault(
        self,
        label: &'static str,
        left: usize,
        field: Option<&'static str>,
        rule: Rule,
    ) -> DecodeError {
        let at = self.lead + 4 + usize::from(self.len).saturating_sub(left);
        DecodeError {
            offset: wide(at),
            message: Some(label),
            field,
            rule,
        }
    }
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

/// Runs a writer on the free part of a slice.
#[cfg(feature = "encode")]
#[inline(always)]
pub(crate) fn into_slice<E>(
    out: &mut [u8],
    write: impl FnOnce(prim::Sink<&mut [u8]>) -> Result<prim::Sink<&mut [u8]>, E>,
) -> Result<usize, E> {
    let room = out.len();
    let left = write(prim::Sink::from(out))?;
    Ok(room - left.write.len())
}

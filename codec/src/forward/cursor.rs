//! Reads an item from a slice that may be incomplete, with nom's streaming
//! parsers.
//!
//! Errors have offsets from the start of the slice; the decoder adds the offset of
//! the slice in the stream. Nothing here panics or allocates.

use nom::{Needed, Parser};

use crate::error::{DecodeError, Rule};
use crate::field::combinator::FieldError;
use crate::field::input::Bytes;

/// Why an item could not be read.
#[derive(Debug)]
pub(super) enum Stop {
    /// At least this many more bytes are needed.
    Need(usize),
    /// The item is malformed, whatever follows.
    Malformed(DecodeError),
}

/// A position in a slice.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    /// Name of the item, for errors.
    pub(super) label: Option<&'static str>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            label: None,
        }
    }

    /// Sets the name of the item.
    pub(super) fn of(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Returns the number of bytes read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns the bytes that were not read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Runs `parser` on the next bytes.
    #[inline]
    pub(super) fn read<P>(&mut self, mut parser: P) -> Result<P::Output, Stop>
    where
        P: Parser<Bytes<'a>, Error = FieldError>,
    {
        match parser.parse(Bytes(self.rest())) {
            Ok((rest, value)) => {
                self.at = self.input.len() - rest.len();
                Ok(value)
            }
            Err(nom::Err::Incomplete(Needed::Size(size))) => Err(Stop::Need(size.get())),
            Err(error) => {
                let FieldError { left, field, rule } = error.into();
                Err(self.error_at(self.input.len() - left, field, rule))
            }
        }
    }

    /// Makes an error in the field that starts `back` bytes before this position.
    #[cold]
    pub(super) fn error(&self, back: usize, field: &'static str, rule: Rule) -> Stop {
        self.error_at(self.at.saturating_sub(back), Some(field), rule)
    }

    /// Makes an error at the offset `at`.
    #[cold]
    pub(super) fn error_at(&self, at: usize, field: Option<&'static str>, rule: Rule) -> Stop {
        Stop::Malformed(DecodeError::new(
            u64::try_from(at).unwrap_or(u64::MAX),
            self.label,
            field,
            rule,
        ))
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Stop::Malformed(error)
    }
}

//! Reads an item from a slice that may end before the item does: nom's streaming
//! parsers, one after the other.
//!
//! Faults carry offsets from the start of the slice; the decoder moves them to
//! the start of the stream. Nothing here panics or allocates.

use nom::{Needed, Parser};

use crate::error::{DecodeError, Rule};
use crate::field::combinator::Fault;
use crate::field::input::Bytes;

/// Why an item could not be read.
#[derive(Debug)]
pub(super) enum Stop {
    /// At least this many more bytes are needed.
    Need(usize),
    /// No bytes that may follow make it right.
    Fault(DecodeError),
}

/// A place in a slice.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    /// What is being read, for faults.
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

    /// The same place, with a name for what is being read.
    pub(super) fn of(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// What `parser` reads next.
    #[inline]
    pub(super) fn read<P>(&mut self, mut parser: P) -> Result<P::Output, Stop>
    where
        P: Parser<Bytes<'a>, Error = Fault>,
    {
        match parser.parse(Bytes(self.rest())) {
            Ok((rest, value)) => {
                self.at = self.input.len() - rest.len();
                Ok(value)
            }
            Err(nom::Err::Incomplete(Needed::Size(size))) => Err(Stop::Need(size.get())),
            Err(error) => {
                let Fault { left, field, rule } = error.into();
                Err(self.fault_at(self.input.len() - left, field, rule))
            }
        }
    }

    /// A broken rule in the field that begins `back` bytes before this place.
    #[cold]
    pub(super) fn fault(&self, back: usize, field: &'static str, rule: Rule) -> Stop {
        self.fault_at(self.at.saturating_sub(back), Some(field), rule)
    }

    /// A broken rule at `at`.
    #[cold]
    pub(super) fn fault_at(&self, at: usize, field: Option<&'static str>, rule: Rule) -> Stop {
        Stop::Fault(DecodeError {
            offset: u64::try_from(at).unwrap_or(u64::MAX),
            message: self.label,
            field,
            rule,
        })
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Stop::Fault(error)
    }
}

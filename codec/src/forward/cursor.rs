//! Reads an item from a slice that may end before the item does.
//!
//! Integers are big-endian. Faults carry offsets from the start of the slice;
//! the decoder moves them to the start of the stream. Nothing here panics or
//! allocates.

use crate::error::{DecodeError, Rule};

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

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let rest = self.rest();
        let Some(bytes) = rest.get(..count) else {
            return Err(Stop::Need(count - rest.len()));
        };
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let rest = self.rest();
        let Some(&array) = rest.first_chunk() else {
            return Err(Stop::Need(N - rest.len()));
        };
        self.at += N;
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn be16(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn be32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn be64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number that must have one value.
    pub(super) fn be32_is(&mut self, field: &'static str, want: u32) -> Result<u32, Stop> {
        let got = self.be32()?;
        if got != want {
            let (got, want) = (got.into(), want.into());
            return Err(self.fault(4, field, Rule::Value { got, want }));
        }
        Ok(got)
    }

    /// As many bytes as a length on the wire says.
    pub(super) fn counted(&mut self, size: u32) -> Result<&'a [u8], Stop> {
        self.bytes(usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// One length byte and as many bytes.
    pub(super) fn str8(&mut self) -> Result<&'a [u8], Stop> {
        let size = self.u8()?;
        self.bytes(size.into())
    }

    pub(super) fn uuid(&mut self) -> Result<[u8; 16], Stop> {
        self.array()
    }

    /// A broken rule in the field that begins `back` bytes before this place.
    #[cold]
    pub(super) fn fault(&self, back: usize, field: &'static str, rule: Rule) -> Stop {
        self.fault_at(self.at.saturating_sub(back), Some(field), rule)
    }

    /// A broken rule at `at`.
    #[cold]
    pub(super) fn fault_at(&self, at: usize, field: Option<&'static str>, rule: Rule) -> Stop {
        Stop::Fault(DecodeError::new(
            u64::try_from(at).unwrap_or(u64::MAX),
            self.label,
            field,
            rule,
        ))
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Stop::Fault(error)
    }
}

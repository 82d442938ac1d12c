//! The payload parts that only commands have: discard ranges and page sizes.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

use crate::error::Rule;
use crate::num::halves;

/// A range of a RAM block, in bytes. In a message it is never empty, and its
/// end fits 64 bits: [`Range::new`] checks that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// First byte, from the start of the block.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

/// What POSTCOPY_ADVISE says of page sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSizes {
    /// Bitwise OR of the page sizes of all RAM blocks, in bytes; before QEMU
    /// 2.9 the source's host page size.
    pub summary: u64,
    /// Size of a target page, in bytes.
    pub target: u64,
}

/// Ranges of a discard command, borrowed from its payload. At least one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ranges<'a>(&'a [[u8; 16]]);

/// Owned ranges of a discard command. At least one.
#[cfg(feature = "alloc")]
#[derive(Clone, PartialEq, Eq)]
pub struct RangeBuf(Vec<Range>);

/// Either kind of ranges.
pub trait RangeList: sealed::Sealed {
    /// How many there are.
    fn count(&self) -> usize;

    /// The ranges, in order.
    fn iter(&self) -> impl Iterator<Item = Range> + Clone;
}

mod sealed {
    pub trait Sealed {}
}

impl Range {
    /// Checks a range.
    ///
    /// # Errors
    ///
    /// [`Rule::Zero`] and [`Rule::Overflow`].
    pub const fn new(start: u64, len: u64) -> Result<Self, Rule> {
        if len == 0 {
            return Err(Rule::Zero);
        }
        if start.checked_add(len).is_none() {
            return Err(Rule::Overflow { start, len });
        }
        Ok(Self { start, len })
    }

    pub(crate) fn parse(bytes: &[u8; 16]) -> Result<Self, Rule> {
        let (start, len) = halves(*bytes);
        Self::new(start, len)
    }
}

impl<'a> Ranges<'a> {
    /// Wraps ranges that [`Range::parse`] has accepted.
    pub(crate) fn checked(bytes: &'a [[u8; 16]]) -> Self {
        Self(bytes)
    }
}

#[cfg(feature = "alloc")]
impl RangeBuf {
    /// Takes ranges over.
    ///
    /// # Errors
    ///
    /// [`Rule::Short`] if there is none, else as [`Range::new`].
    pub fn new(ranges: Vec<Range>) -> Result<Self, Rule> {
        if ranges.is_empty() {
            return Err(Rule::Short);
        }
        for range in &ranges {
            Range::new(range.start, range.len)?;
        }
        Ok(Self(ranges))
    }

    /// The ranges, in order.
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }

    /// Copies ranges that have been checked.
    pub(crate) fn copy(ranges: &impl RangeList) -> Self {
        Self(ranges.iter().collect())
    }
}

impl sealed::Sealed for Ranges<'_> {}
impl RangeList for Ranges<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn iter(&self) -> impl Iterator<Item = Range> + Clone {
        self.0.iter().filter_map(|bytes| Range::parse(bytes).ok())
    }
}

#[cfg(feature = "alloc")]
impl sealed::Sealed for RangeBuf {}
#[cfg(feature = "alloc")]
impl RangeList for RangeBuf {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn iter(&self) -> impl Iterator<Item = Range> + Clone {
        self.0.iter().copied()
    }
}

impl fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(feature = "alloc")]
impl fmt::Debug for RangeBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! Payload fields that only commands have: discard ranges and page sizes.
//!
//! ```text
//!  range                            page sizes
//!  offset  size  field              offset  size  field
//!       0  8     start in bytes          0  8     summary
//!       8  8     length in bytes         8  8     target page size in bytes
//! ```
//!
//! Integers are big-endian. Mirrors `savevm.c:loadvm_postcopy_ram_handle_discard`
//! and `savevm.c:loadvm_postcopy_handle_advise`.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

use crate::error::Rule;
use crate::num::halves;

/// A range of a RAM block, in bytes.
///
/// In a message, the length is not 0 and the end fits 64 bits: [`Range::new`]
/// checks that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Offset of the first byte from the start of the block.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

/// The page sizes in POSTCOPY_ADVISE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSizes {
    /// Bitwise OR of the page sizes of all RAM blocks, in bytes. Before QEMU
    /// 2.9, the host page size of the source.
    pub summary: u64,
    /// Size of a target page, in bytes.
    pub target: u64,
}

/// Borrowed ranges of a discard command; at least one.
#[derive(Clone, Copy)]
pub struct Ranges<'a>(List<'a>);

#[derive(Clone, Copy)]
enum List<'a> {
    /// As in a payload; checked.
    Wire(&'a [[u8; 16]]),
    /// Checked.
    Values(&'a [Range]),
}

/// Owned ranges of a discard command; at least one.
#[cfg(feature = "alloc")]
#[derive(Clone, PartialEq, Eq)]
pub struct RangeBuf(Vec<Range>);

/// [`Ranges`] or `RangeBuf`.
pub trait RangeList: sealed::Sealed {
    /// Borrows the ranges.
    fn as_ranges(&self) -> Ranges<'_>;

    /// Returns the number of ranges.
    fn count(&self) -> usize {
        self.as_ranges().len()
    }

    /// Iterates over the ranges in order.
    fn iter(&self) -> impl Iterator<Item = Range> + Clone {
        self.as_ranges().items()
    }
}

mod sealed {
    pub trait Sealed {}
}

impl Range {
    /// Makes a range.
    ///
    /// # Errors
    ///
    /// [`Rule::Zero`] when the length is 0, [`Rule::Overflow`] when the end does
    /// not fit 64 bits.
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
    /// Borrows ranges.
    ///
    /// # Errors
    ///
    /// [`Rule::Short`] when `bytes` is empty, else as [`Range::new`].
    pub fn new(ranges: &'a [Range]) -> Result<Self, Rule> {
        if ranges.is_empty() {
            return Err(Rule::Short);
        }
        for range in ranges {
            Range::new(range.start, range.len)?;
        }
        Ok(Self(List::Values(ranges)))
    }

    /// Wraps ranges that [`Range::parse`] has accepted.
    pub(crate) fn checked(bytes: &'a [[u8; 16]]) -> Self {
        Self(List::Wire(bytes))
    }

    fn len(self) -> usize {
        match self.0 {
            List::Wire(bytes) => bytes.len(),
            List::Values(ranges) => ranges.len(),
        }
    }

    fn items(self) -> impl Iterator<Item = Range> + Clone + use<'a> {
        let (bytes, ranges): (&[_], &[_]) = match self.0 {
            List::Wire(bytes) => (bytes, &[]),
            List::Values(ranges) => (&[], ranges),
        };
        let parsed = bytes.iter().filter_map(|bytes| Range::parse(bytes).ok());
        parsed.chain(ranges.iter().copied())
    }
}

#[cfg(feature = "alloc")]
impl RangeBuf {
    /// Takes a list of ranges.
    ///
    /// # Errors
    ///
    /// As [`Ranges::new`].
    pub fn new(ranges: Vec<Range>) -> Result<Self, Rule> {
        Ranges::new(&ranges)?;
        Ok(Self(ranges))
    }

    /// Returns the ranges in order.
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
    fn as_ranges(&self) -> Ranges<'_> {
        *self
    }
}

#[cfg(feature = "alloc")]
impl sealed::Sealed for RangeBuf {}
#[cfg(feature = "alloc")]
impl RangeList for RangeBuf {
    fn as_ranges(&self) -> Ranges<'_> {
        Ranges(List::Values(&self.0))
    }
}

impl PartialEq for Ranges<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.items().eq(other.items())
    }
}

impl Eq for Ranges<'_> {}

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

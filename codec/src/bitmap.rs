//! The received bitmap that follows a RECV_BITMAP frame.
//!
//! ```text
//!  offset  size  field
//!       0  8     size S in bytes, big-endian; a positive multiple of 8
//!       8  S     bitmap: page i of the block is bit i % 8 of byte i / 8;
//!                1 = received
//!     8+S  8     end mark 0x0123456789abcdef, big-endian
//! ```
//!
//! A page here is a target page. Mirrors `ram.c:ramblock_recv_bitmap_send` and
//! `ram.c:ram_dirty_bitmap_reload`. Nothing here panics or allocates, except
//! that [`encode`] appends to its output.

use crate::error::{DecodeError, Rule};
use crate::frame::Decoded;
use crate::generated::{BITMAP_ALIGN, BITMAP_END};
use crate::num::wide;

pub(crate) const LABEL: &str = "RECV_BITMAP";
pub(crate) const FIELD: &str = "bitmap";

/// Bytes of the size field in front of a bitmap.
pub(crate) const SIZE_FIELD: usize = 8;

/// Bytes of the end mark behind a bitmap.
const END_MARK: usize = 8;

/// Bytes of a trailer besides the bitmap itself.
pub const OVERHEAD: usize = SIZE_FIELD + END_MARK;

/// The pages of a block that have been received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bitmap<'a>(&'a [u8]);

/// Size in bytes of the bitmap of a block of `pages` target pages.
pub const fn size(pages: u64) -> u64 {
    pages.div_ceil(8 * BITMAP_ALIGN) * BITMAP_ALIGN
}

impl<'a> Bitmap<'a> {
    /// Takes the bytes between size and end mark.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bitmap's bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Number of bits, which is the number of pages rounded up to 64.
    pub const fn bits(self) -> u64 {
        wide(self.0.len()) * 8
    }

    /// Number of pages received.
    pub fn received(self) -> u64 {
        self.0.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Whether a page has been received; `false` beyond the end.
    pub fn is_received(self, page: u64) -> bool {
        usize::try_from(page / 8)
            .ok()
            .and_then(|at| self.0.get(at))
            .is_some_and(|byte| byte >> (page % 8) & 1 == 1)
    }

    /// Checks the bitmap against a block of `pages` target pages.
    ///
    /// # Errors
    ///
    /// [`Rule::BitmapMismatch`] and [`Rule::BitmapTail`].
    pub fn check(self, pages: u64) -> Result<(), Rule> {
        let (have, want) = (self.bits() / 8, size(pages));
        if have != want {
            return Err(Rule::BitmapMismatch { size: have, want });
        }
        if (pages..self.bits()).any(|page| self.is_received(page)) {
            return Err(Rule::BitmapTail);
        }
        Ok(())
    }
}

impl core::fmt::Debug for Bitmap<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Bitmap({} of {} bits)", self.received(), self.bits())
    }
}

/// Reads a trailer from the start of `input`, whose bitmap may have at most
/// `limit` bytes.
///
/// # Errors
///
/// [`Rule::BitmapSize`], [`Rule::BitmapLimit`] and [`Rule::BitmapEnd`].
pub fn decode(input: &[u8], limit: u64) -> Result<Decoded<'_, Bitmap<'_>>, DecodeError> {
    if input.len() < SIZE_FIELD {
        return Ok(Decoded::Need(SIZE_FIELD - input.len()));
    }
    let whole = measure(input, limit)?;
    let Some((trailer, rest)) = input.split_at_checked(whole) else {
        return Ok(Decoded::Need(whole - input.len()));
    };
    let message = open(trailer)?;
    Ok(Decoded::Message { message, rest })
}

/// Bytes of a trailer whose size field `start` opens with.
pub(crate) fn measure(start: &[u8], limit: u64) -> Result<usize, DecodeError> {
    let size = be64(start);
    check_size(size).map_err(|rule| fault(0, rule))?;
    if size > limit {
        return Err(fault(0, Rule::BitmapLimit { size, limit }));
    }
    // More than memory can hold never arrives.
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Ok(size.saturating_add(OVERHEAD))
}

/// The bitmap in a trailer that is as long as its size field says.
pub(crate) fn open(trailer: &[u8]) -> Result<Bitmap<'_>, DecodeError> {
    let end = trailer.len() - END_MARK;
    let got = be64(&trailer[end..]);
    if got != BITMAP_END {
        return Err(fault(wide(end), Rule::BitmapEnd { got }));
    }
    Ok(Bitmap(&trailer[SIZE_FIELD..end]))
}

fn check_size(size: u64) -> Result<(), Rule> {
    if size == 0 || !size.is_multiple_of(BITMAP_ALIGN) {
        return Err(Rule::BitmapSize { size });
    }
    Ok(())
}

/// The integer in the first 8 bytes.
fn be64(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

fn fault(offset: u64, rule: Rule) -> DecodeError {
    DecodeError {
        offset,
        message: Some(LABEL),
        field: Some(FIELD),
        rule,
    }
}

/// Appends a trailer to `out`.
///
/// # Errors
///
/// [`Rule::BitmapSize`]: the bitmap is empty or no multiple of 8 bytes; `out`
/// is as before.
#[cfg(feature = "alloc")]
pub fn encode(bitmap: Bitmap<'_>, out: &mut alloc::vec::Vec<u8>) -> Result<(), Rule> {
    let size = wide(bitmap.0.len());
    check_size(size)?;
    out.reserve(bitmap.0.len().saturating_add(OVERHEAD));
    out.extend(size.to_be_bytes());
    out.extend(bitmap.0);
    out.extend(BITMAP_END.to_be_bytes());
    Ok(())
}

/// Appends a trailer whose bitmap is held as words: page `i` is bit `i % 64`
/// of word `i / 64`. Saves its owner a copy as bytes.
///
/// # Errors
///
/// As [`encode`].
#[cfg(feature = "alloc")]
pub fn encode_words(words: &[u64], out: &mut alloc::vec::Vec<u8>) -> Result<(), Rule> {
    let bytes = words.len().saturating_mul(8);
    check_size(wide(bytes))?;
    out.reserve(bytes.saturating_add(OVERHEAD));
    out.extend(wide(bytes).to_be_bytes());
    for word in words {
        out.extend(word.to_le_bytes());
    }
    out.extend(BITMAP_END.to_be_bytes());
    Ok(())
}

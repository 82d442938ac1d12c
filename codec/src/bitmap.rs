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

pub(crate) const LABEL: &str = "RECV_BITMAP";

/// Bytes of a trailer besides the bitmap itself.
pub const OVERHEAD: usize = 16;

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
        self.0.len() as u64 * 8
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
    let Some((size, body)) = input.split_first_chunk::<8>() else {
        return Ok(Decoded::Need(8 - input.len()));
    };
    let size = check_size(u64::from_be_bytes(*size), limit).map_err(|rule| fault(0, rule))?;
    let split = body.split_at_checked(size).and_then(|(bitmap, rest)| {
        let (mark, rest) = rest.split_first_chunk::<8>()?;
        Some((bitmap, mark, rest))
    });
    let Some((bitmap, mark, rest)) = split else {
        return Ok(Decoded::Need(size.saturating_add(8) - body.len()));
    };
    check_end(*mark).map_err(|rule| fault(8 + size as u64, rule))?;
    Ok(Decoded::Message {
        message: Bitmap(bitmap),
        rest,
    })
}

/// The size of a bitmap, if it is one that is allowed.
pub(crate) fn check_size(size: u64, limit: u64) -> Result<usize, Rule> {
    if size == 0 || !size.is_multiple_of(BITMAP_ALIGN) {
        return Err(Rule::BitmapSize { size });
    }
    match usize::try_from(size) {
        Ok(fits) if size <= limit => Ok(fits),
        _ => Err(Rule::BitmapLimit { size, limit }),
    }
}

pub(crate) fn check_end(mark: [u8; 8]) -> Result<(), Rule> {
    let got = u64::from_be_bytes(mark);
    if got == BITMAP_END {
        Ok(())
    } else {
        Err(Rule::BitmapEnd { got })
    }
}

pub(crate) fn fault(offset: u64, rule: Rule) -> DecodeError {
    DecodeError {
        offset,
        message: Some(LABEL),
        field: Some("bitmap"),
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
    let size = bitmap.0.len() as u64;
    check_size(size, u64::MAX)?;
    out.reserve(bitmap.0.len().saturating_add(OVERHEAD));
    out.extend(size.to_be_bytes());
    out.extend(bitmap.0);
    out.extend(BITMAP_END.to_be_bytes());
    Ok(())
}

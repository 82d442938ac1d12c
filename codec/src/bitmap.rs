//! The received bitmap that follows a RECV_BITMAP message.
//!
//! ```text
//!  offset  size  field
//!       0  8     size S in bytes, big-endian; a positive multiple of 8
//!       8  S     bitmap: page i of the block is bit i % 8 of byte i / 8;
//!                1 = received
//!     8+S  8     end mark 0x0123456789abcdef, big-endian
//! ```
//!
//! A page is a target page. Mirrors `ram.c:ramblock_recv_bitmap_send` and
//! `ram.c:ram_dirty_bitmap_reload`. Nothing here panics; only `encode` allocates.
//!
//! ```
//! use retpath_codec::Decoded;
//! use retpath_codec::bitmap::{self, Bitmap};
//!
//! // A block of 100 target pages, of which the first 9 were received.
//! let mut bytes = vec![0; usize::try_from(bitmap::size(100))?];
//! bytes[0] = 0xff;
//! bytes[1] = 1;
//! let mut out = Vec::new();
//! bitmap::encode(Bitmap::new(&bytes), &mut out)?;
//!
//! let Decoded::Message { message: bitmap, .. } = bitmap::decode(&out, bitmap::size(100))? else {
//!     panic!("the bitmap is complete");
//! };
//! bitmap.check(100)?;
//! assert_eq!(bitmap.received(), 9);
//! assert!(bitmap.is_received(8) && !bitmap.is_received(9));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "encode")]
use crate::error::EncodeError;
use crate::error::{DecodeError, Rule};
use crate::frame::{Decoded, Trailer};
use crate::generated::{BITMAP_ALIGN, BITMAP_END};
use crate::num::wide;

pub(crate) const LABEL: &str = "RECV_BITMAP";
pub(crate) const FIELD: &str = "bitmap";

/// Size of the size field, in bytes.
pub(crate) const SIZE_FIELD: usize = 8;

/// Size of the end mark, in bytes.
const END_MARK: usize = 8;

/// Size of the size field and the end mark, in bytes.
pub const OVERHEAD: usize = SIZE_FIELD + END_MARK;

/// The received pages of a RAM block, one bit per target page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bitmap<'a>(&'a [u8]);

/// Returns the size in bytes of the bitmap of a block with `pages` target pages.
pub const fn size(pages: u64) -> u64 {
    pages.div_ceil(8 * BITMAP_ALIGN) * BITMAP_ALIGN
}

impl<'a> Bitmap<'a> {
    /// Wraps the bytes between size field and end mark.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the number of bits: the number of pages, rounded up to 64.
    pub const fn bits(self) -> u64 {
        wide(self.0.len()) * 8
    }

    /// Returns the number of received pages.
    pub fn received(self) -> u64 {
        self.0.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Returns whether a page was received; `false` beyond the last bit.
    pub fn is_received(self, page: u64) -> bool {
        usize::try_from(page / 8)
            .ok()
            .and_then(|at| self.0.get(at))
            .is_some_and(|byte| byte >> (page % 8) & 1 == 1)
    }

    /// Checks the bitmap against a block with `pages` target pages.
    ///
    /// # Errors
    ///
    /// [`Rule::BitmapMismatch`] when the size is not that of the block,
    /// [`Rule::BitmapTail`] when a bit after the last page is set.
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

/// Decodes a bitmap, with size field and end mark, from the start of `input`.
///
/// `limit` is the maximum size of the bitmap in bytes.
///
/// # Errors
///
/// [`Rule::BitmapSize`] when the size is not a positive multiple of 8,
/// [`Rule::BitmapLimit`] when it exceeds `limit`, [`Rule::BitmapEnd`] when the
/// end mark is wrong.
pub fn decode(input: &[u8], limit: u64) -> Result<Decoded<'_, Bitmap<'_>>, DecodeError> {
    if input.len() < SIZE_FIELD {
        return Ok(Decoded::Need(SIZE_FIELD - input.len()));
    }
    let whole = measure(input, limit)?;
    let Some((trailer, rest)) = input.split_at_checked(whole) else {
        return Ok(Decoded::Need(whole - input.len()));
    };
    let message = open(trailer)?;
    Ok(Decoded::Message {
        message,
        trailer: Trailer::None,
        rest,
    })
}

/// Returns the size of the trailer that starts with the size field in `start`.
pub(crate) fn measure(start: &[u8], limit: u64) -> Result<usize, DecodeError> {
    let size = be64(start);
    check_size(size).map_err(|rule| error(0, rule))?;
    if size > limit {
        return Err(error(0, Rule::BitmapLimit { size, limit }));
    }
    // A size beyond the address space cannot arrive completely.
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Ok(size.saturating_add(OVERHEAD))
}

/// Returns the bitmap of a complete trailer.
pub(crate) fn open(trailer: &[u8]) -> Result<Bitmap<'_>, DecodeError> {
    let end = trailer.len() - END_MARK;
    let got = be64(&trailer[end..]);
    if got != BITMAP_END {
        return Err(error(wide(end), Rule::BitmapEnd { got }));
    }
    Ok(Bitmap(&trailer[SIZE_FIELD..end]))
}

fn check_size(size: u64) -> Result<(), Rule> {
    if size == 0 || !size.is_multiple_of(BITMAP_ALIGN) {
        return Err(Rule::BitmapSize { size });
    }
    Ok(())
}

/// Returns the integer in the first 8 bytes.
fn be64(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

fn error(offset: u64, rule: Rule) -> DecodeError {
    DecodeError {
        offset,
        message: Some(LABEL),
        field: Some(FIELD),
        rule,
    }
}

/// Appends a bitmap, with size field and end mark, to `out`.
///
/// # Errors
///
/// [`Rule::BitmapSize`] when the size is not a positive multiple of 8; `out` is
/// then unchanged.
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

/// Writes a bitmap, with size field and end mark, to `out`.
///
/// Does not flush.
///
/// # Errors
///
/// Fails with [`io::ErrorKind::InvalidInput`](std::io::ErrorKind) and
/// [`Rule::BitmapSize`] as [`encode`] before anything is written, or with the
/// error of `out`.
#[cfg(feature = "encode")]
pub fn encode_to(
    bitmap: Bitmap<'_>,
    out: &mut (impl std::io::Write + ?Sized),
) -> std::io::Result<()> {
    let size = wide(bitmap.0.len());
    check_size(size).map_err(|rule| EncodeError::new(LABEL, Some(FIELD), rule))?;
    out.write_all(&size.to_be_bytes())?;
    out.write_all(bitmap.0)?;
    out.write_all(&BITMAP_END.to_be_bytes())
}

/// Appends a bitmap that is stored as words: page `i` is bit `i % 64` of word
/// `i / 64`.
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

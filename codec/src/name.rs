//! RAM block names: 1 to 255 bytes without a NUL, not necessarily UTF-8.
//!
//! A name prints escaped, see [`escape`](crate::escape).

use core::fmt;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use crate::error::Rule;
use crate::escape::Escaped;
use crate::generated::MAX_NAME;

/// A borrowed RAM block name: 1 to 255 bytes without a NUL.
///
/// ```
/// use retpath_codec::{Name, Rule};
///
/// assert_eq!(Name::new(b"pc.ram")?.to_string(), "pc.ram");
/// assert_eq!(Name::new(b"\xff")?.to_string(), "\\xff");
/// assert_eq!(Name::new(b""), Err(Rule::EmptyName));
/// # Ok::<(), Rule>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

/// An owned RAM block name: 1 to 255 bytes without a NUL.
#[cfg(feature = "alloc")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Box<[u8]>);

/// [`Name`] or `NameBuf`.
pub trait BlockName: sealed::Sealed {
    /// Borrows the name.
    fn name(&self) -> Name<'_>;
}

mod sealed {
    pub trait Sealed {}
}

impl<'a> Name<'a> {
    /// Makes a name.
    ///
    /// # Errors
    ///
    /// [`Rule::EmptyName`], [`Rule::NameTooLong`] when it is longer than 255
    /// bytes, [`Rule::NulInName`] when it contains a NUL byte.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Result<Self, Rule> {
        if bytes.is_empty() {
            return Err(Rule::EmptyName);
        }
        if bytes.len() > MAX_NAME {
            return Err(Rule::NameTooLong);
        }
        if has_nul(bytes) {
            return Err(Rule::NulInName);
        }
        Ok(Self(bytes))
    }

    /// Returns the bytes.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the length, 1 to 255.
    #[inline(always)]
    pub(crate) fn size(self) -> u8 {
        // The length fits one byte.
        self.0.len().to_le_bytes()[0]
    }

    /// Copies the name.
    #[cfg(feature = "alloc")]
    pub fn to_buf(self) -> NameBuf {
        NameBuf(self.0.into())
    }
}

/// Returns whether there is a NUL. Names are short: up to 32 bytes are tested
/// without a loop, as words that may overlap.
#[inline]
const fn has_nul(bytes: &[u8]) -> bool {
    if bytes.len() > 32 {
        return has_nul_long(bytes);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return nuls16(first) | nuls16(last) != 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return nuls(u64::from_ne_bytes(*first)) | nuls(u64::from_ne_bytes(*last)) != 0;
    }
    if let (Some(&[a, b, c, d]), Some(&[w, x, y, z])) = (bytes.first_chunk(), bytes.last_chunk()) {
        return nuls(u64::from_ne_bytes([a, b, c, d, w, x, y, z])) != 0;
    }
    match bytes {
        [] => false,
        [first, ..] => *first == 0 || bytes[bytes.len() / 2] == 0 || bytes[bytes.len() - 1] == 0,
    }
}

#[inline(never)]
const fn has_nul_long(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk() {
        if nuls16(block) != 0 {
            return true;
        }
        rest = behind;
    }
    match bytes.last_chunk() {
        Some(last) => nuls16(last) != 0,
        None => false,
    }
}

/// Returns a number other than 0 if one of 16 bytes is 0.
#[inline]
const fn nuls16(block: &[u8; 16]) -> u64 {
    let [low, high] = *block.as_chunks().0 else {
        return 0;
    };
    nuls(u64::from_ne_bytes(low)) | nuls(u64::from_ne_bytes(high))
}

/// Returns a number other than 0 if one of eight bytes is 0: only then does the
/// subtraction set a highest bit that was clear.
#[inline]
const fn nuls(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

#[cfg(feature = "alloc")]
impl NameBuf {
    /// Makes a name by copying bytes.
    ///
    /// # Errors
    ///
    /// As [`Name::new`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, Rule> {
        Name::new(bytes.as_ref()).map(Name::to_buf)
    }
}

impl sealed::Sealed for Name<'_> {}
impl BlockName for Name<'_> {
    fn name(&self) -> Name<'_> {
        *self
    }
}

#[cfg(feature = "alloc")]
impl sealed::Sealed for NameBuf {}
#[cfg(feature = "alloc")]
impl BlockName for NameBuf {
    fn name(&self) -> Name<'_> {
        Name(&self.0)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped::new(self.0).fmt(f)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Escaped::new(self.0), f)
    }
}

#[cfg(feature = "alloc")]
impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

#[cfg(feature = "alloc")]
impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name(), f)
    }
}

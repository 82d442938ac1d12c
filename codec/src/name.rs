//! RAM block names: 1 to 255 bytes without a NUL, not necessarily UTF-8.
//!
//! Names are never changed: not by parsing, not by writing. Printed, each name
//! looks different from every other: bytes that are no UTF-8 appear as `\xNN`,
//! unprintable characters as `\n` or `\u{..}`, a backslash as `\\`.

use core::fmt::{self, Write};

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use crate::error::Rule;
use crate::generated::MAX_NAME;

/// A borrowed RAM block name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

/// An owned RAM block name.
#[cfg(feature = "alloc")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Box<[u8]>);

/// Either kind of RAM block name.
pub trait BlockName: sealed::Sealed {
    /// The name, borrowed.
    fn name(&self) -> Name<'_>;
}

mod sealed {
    pub trait Sealed {}
}

impl<'a> Name<'a> {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Rule::EmptyName`], [`Rule::NameTooLong`] beyond 255 bytes,
    /// [`Rule::NulInName`].
    pub const fn new(bytes: &'a [u8]) -> Result<Self, Rule> {
        if bytes.is_empty() {
            return Err(Rule::EmptyName);
        }
        if bytes.len() > MAX_NAME {
            return Err(Rule::NameTooLong);
        }
        let mut i = 0;
        while i < bytes.len() {
            if bytes[i] == 0 {
                return Err(Rule::NulInName);
            }
            i += 1;
        }
        Ok(Self(bytes))
    }

    /// The bytes of the name.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The name's length, 1 to 255, as the wire has it.
    pub(crate) fn size(self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    /// The same name, owned.
    #[cfg(feature = "alloc")]
    pub fn to_buf(self) -> NameBuf {
        NameBuf(self.0.into())
    }
}

#[cfg(feature = "alloc")]
impl NameBuf {
    /// Checks a name and copies it.
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

impl Name<'_> {
    /// Writes the name, with its double quotes escaped or as they are.
    fn show(self, f: &mut fmt::Formatter<'_>, quoted: bool) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\'' => f.write_char(c)?,
                    '"' if !quoted => f.write_char(c)?,
                    c => write!(f, "{}", c.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, false)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.show(f, true)?;
        f.write_char('"')
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

//! Errors of decoding and encoding.
//!
//! An error is small and `Copy`: offset, message, field, and the rule that is
//! broken. Incomplete input is not an error but
//! [`Decoded::Need`](crate::Decoded::Need).

use core::fmt;

pub use crate::rule::Rule;

/// Malformed bytes: offset, message, field and broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// Offset in bytes: from the start of the slice for
    /// [`decode`](crate::decode), from the start of the channel for the
    /// incremental decoders.
    pub offset: u64,
    /// Name of the message, such as `REQ_PAGES_ID`; `None` when its number is not
    /// valid.
    pub message: Option<&'static str>,
    /// Name of the field, if the error is in one.
    pub field: Option<&'static str>,
    /// The rule that is broken.
    pub rule: Rule,
}

/// A value that cannot be encoded: message, field and broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeError {
    /// Name of the message, such as `REQ_PAGES_ID`.
    pub message: &'static str,
    /// Name of the field, if the error is in one.
    pub field: Option<&'static str>,
    /// The rule that is broken.
    pub rule: Rule,
}

impl DecodeError {
    /// Makes an error.
    pub const fn new(
        offset: u64,
        message: Option<&'static str>,
        field: Option<&'static str>,
        rule: Rule,
    ) -> Self {
        Self {
            offset,
            message,
            field,
            rule,
        }
    }

    /// Returns whether the peer violated the protocol; see
    /// [`Rule::is_peer_fault`].
    pub const fn is_peer_fault(&self) -> bool {
        self.rule.is_peer_fault()
    }

    /// Adds the offset at which the slice starts in its channel.
    #[cfg(feature = "alloc")]
    pub(crate) const fn based(mut self, base: u64) -> Self {
        self.offset = self.offset.saturating_add(base);
        self
    }
}

impl EncodeError {
    /// Makes an error.
    pub const fn new(message: &'static str, field: Option<&'static str>, rule: Rule) -> Self {
        Self {
            message,
            field,
            rule,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} (0x{:x})", self.offset, self.offset)?;
        if let Some(message) = self.message {
            write!(f, ", {message}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", field `{field}`")?;
        }
        write!(f, ": {} [{}]", self.rule, self.rule.name())
    }
}

impl core::error::Error for DecodeError {}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write {}", self.message)?;
        if let Some(field) = self.field {
            write!(f, ", field `{field}`")?;
        }
        write!(f, ": {} [{}]", self.rule, self.rule.name())
    }
}

impl core::error::Error for EncodeError {}

#[cfg(feature = "encode")]
impl From<EncodeError> for std::io::Error {
    fn from(error: EncodeError) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}

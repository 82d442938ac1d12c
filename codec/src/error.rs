//! What can be wrong with bytes, and with values that should become bytes.
//!
//! Errors are small and `Copy`: where, in which message, in which field, and
//! which rule is broken. "More bytes are needed" is no error; it is
//! [`Decoded::Need`](crate::Decoded::Need).

use core::fmt;

pub use crate::rule::Rule;

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, in bytes: from the start of the slice for
    /// [`decode`](crate::decode), from the start of the stream for the
    /// incremental decoders.
    pub offset: u64,
    /// Label of the message, such as `REQ_PAGES_ID`, once it is known.
    pub message: Option<&'static str>,
    /// Field of the message, if one is to blame.
    pub field: Option<&'static str>,
    /// What is wrong.
    pub rule: Rule,
}

/// Why a value can be no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// Label of the message.
    pub message: &'static str,
    /// Field of the message, if one is to blame.
    pub field: Option<&'static str>,
    /// What is wrong.
    pub rule: Rule,
}

impl DecodeError {
    /// Whether the peer broke the protocol; see [`Rule::is_peer_fault`].
    pub const fn is_peer_fault(&self) -> bool {
        self.rule.is_peer_fault()
    }

    /// The same error in a stream in which the slice starts at `base`.
    #[cfg(feature = "alloc")]
    pub(crate) const fn based(mut self, base: u64) -> Self {
        self.offset = self.offset.saturating_add(base);
        self
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

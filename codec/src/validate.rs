//! Checks that a value may be put into a message.
//!
//! The rules are those that the parsers of `field` apply to bytes, for code
//! that makes messages.
//!
//! Nothing here panics or allocates.

use crate::error::{EncodeError, Rule};
use crate::ranges::{Range, RangeList};

/// A value that may not be put into a message.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) field: Option<&'static str>,
    pub(crate) rule: Rule,
}

impl Invalid {
    #[cold]
    fn at(field: &'static str, rule: Rule) -> Self {
        Self {
            field: Some(field),
            rule,
        }
    }

    /// Adds the label of the message.
    #[cold]
    pub(crate) fn in_message(self, message: &'static str) -> EncodeError {
        EncodeError {
            message,
            field: self.field,
            rule: self.rule,
        }
    }
}

/// Checks a length: not 0, and `start + len` fits 64 bits.
#[inline(always)]
pub(crate) fn span(field: &'static str, start: u64, len: u64) -> Result<(), Invalid> {
    match Range::new(start, len) {
        Ok(_) => Ok(()),
        Err(rule) => Err(Invalid::at(field, rule)),
    }
}

/// Checks a length whose lowest bit is used as a flag on the wire.
#[inline(always)]
pub(crate) fn flagged(field: &'static str, start: u64, len: u64) -> Result<(), Invalid> {
    if !len.is_multiple_of(2) {
        return Err(Invalid::at(field, Rule::Odd));
    }
    span(field, start, len)
}

/// Computes the length of a payload that consists of `before` bytes and the
/// ranges.
pub(crate) fn ranges(
    field: &'static str,
    before: u16,
    ranges: &impl RangeList,
) -> Result<u16, Invalid> {
    let len = ranges.count().saturating_mul(16);
    let whole = usize::from(before).saturating_add(len);
    u16::try_from(whole).map_err(|_| {
        let limit = usize::from(u16::MAX - before);
        Invalid::at(field, Rule::TooLong { len, limit })
    })
}

//! Whether a value may stand in a message: for writers, and for whatever else
//! makes messages, the rules that the parsers of `field` apply to bytes.
//!
//! Nothing here panics or allocates.

use crate::error::{EncodeError, Rule};
use crate::ranges::{Range, RangeList};

/// Why a value may not stand in a message.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) field: Option<&'static str>,
    pub(crate) rule: Rule,
}

impl Unfit {
    #[cold]
    fn at(field: &'static str, rule: Rule) -> Self {
        Self {
            field: Some(field),
            rule,
        }
    }

    /// The error of a whole message.
    #[cold]
    pub(crate) fn of(self, message: &'static str) -> EncodeError {
        EncodeError {
            message,
            field: self.field,
            rule: self.rule,
        }
    }
}

/// A length that goes with `start`.
#[inline(always)]
pub(crate) fn span(field: &'static str, start: u64, len: u64) -> Result<(), Unfit> {
    match Range::new(start, len) {
        Ok(_) => Ok(()),
        Err(rule) => Err(Unfit::at(field, rule)),
    }
}

/// A length that goes with `start` and lends its lowest bit to a flag.
#[inline(always)]
pub(crate) fn flagged(field: &'static str, start: u64, len: u64) -> Result<(), Unfit> {
    if !len.is_multiple_of(2) {
        return Err(Unfit::at(field, Rule::Odd));
    }
    span(field, start, len)
}

/// Length of a payload that ends with ranges and has `before` bytes in front
/// of them.
pub(crate) fn ranges(
    field: &'static str,
    before: u16,
    ranges: &impl RangeList,
) -> Result<u16, Unfit> {
    let len = ranges.count().saturating_mul(16);
    let whole = usize::from(before).saturating_add(len);
    u16::try_from(whole).map_err(|_| {
        let limit = usize::from(u16::MAX - before);
        Unfit::at(field, Rule::TooLong { len, limit })
    })
}

//! One parser and one serializer for each field kind of the table.
//!
//! The only place that names nom and cookie-factory; neither appears in a
//! public signature. Messages are parsed and written with [`Refused`], which
//! carries nothing; only what is refused is gone through again to say why,
//! with [`Fault`] or `fit.rs`. So the good ones pay nothing for telling about
//! the bad ones.

mod parse;
#[cfg(feature = "encode")]
mod write;

use crate::error::Rule;
#[cfg(feature = "encode")]
use crate::fit::Unfit;

#[cfg(test)]
mod tests;

pub(crate) use parse::*;
#[cfg(feature = "encode")]
pub(crate) use write::*;

/// How parsers fail.
pub(crate) trait Fail: for<'a> nom::error::ParseError<&'a [u8]> {
    /// A broken rule, with `left` bytes left of the payload, at a field if one
    /// is to blame.
    fn at(left: usize, field: Option<&'static str>, rule: Rule) -> Self;
}

/// Something is wrong.
#[derive(Debug)]
pub(crate) struct Refused;

/// What is wrong with bytes.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) left: usize,
    pub(crate) field: Option<&'static str>,
    pub(crate) rule: Rule,
}

impl Fail for Refused {
    #[inline(always)]
    fn at(_: usize, _: Option<&'static str>, _: Rule) -> Self {
        Self
    }
}

impl Fail for Fault {
    fn at(left: usize, field: Option<&'static str>, rule: Rule) -> Self {
        Self { left, field, rule }
    }
}

#[cfg(feature = "encode")]
impl From<Unfit> for Refused {
    #[inline(always)]
    fn from(_: Unfit) -> Self {
        Self
    }
}

//! One parser and one serializer for each field kind of the table.
//!
//! The only place that names nom and cookie-factory; neither appears in a
//! public signature. Both sides are generic over how they fail: messages are
//! parsed and written with [`Refused`], which carries nothing, and only what
//! is refused is gone through again with [`Fault`], to say why. So the good
//! ones pay nothing for telling about the bad ones.

mod parse;
#[cfg(feature = "encode")]
mod write;

use crate::error::Rule;

pub(crate) use parse::*;
#[cfg(feature = "encode")]
pub(crate) use write::*;

/// How parsers and serializers fail.
pub(crate) trait Fail: for<'a> nom::error::ParseError<&'a [u8]> {
    /// A broken rule, with `left` bytes left of the payload, at a field if one
    /// is to blame.
    fn at(left: usize, field: Option<&'static str>, rule: Rule) -> Self;
}

/// Something is wrong; [`Fault`] knows what.
#[derive(Debug)]
pub(crate) struct Refused;

/// What is wrong.
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

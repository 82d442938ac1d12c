//! One nom parser for each kind of field.
//!
//! A parser reads its field from the start of a payload that has been cut to its
//! length, and nothing after it. No parser allocates or panics.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{cond, eof};
use nom::number::{be_u8, be_u32};

use super::combinator::{FieldError, be_u64, field, flat_map, length_data};
use super::input::Bytes;
use crate::error::Rule;
use crate::name::Name;
use crate::ranges::{PageSizes, Range, Ranges};

/// A byte that must have one value.
#[inline(always)]
pub(crate) fn u8_equals<'a>(
    name: &'static str,
    want: u8,
) -> impl Parser<Bytes<'a>, Output = (), Error = FieldError> {
    field(name, be_u8(), move |got| equals(got.into(), want.into()))
}

/// A 32-bit integer.
#[inline(always)]
pub(crate) fn u32<'a>(
    name: &'static str,
) -> impl Parser<Bytes<'a>, Output = u32, Error = FieldError> {
    field(name, be_u32(), Ok)
}

/// A 32-bit integer that must have one value.
#[inline(always)]
pub(crate) fn u32_equals<'a>(
    name: &'static str,
    want: u32,
) -> impl Parser<Bytes<'a>, Output = (), Error = FieldError> {
    field(name, be_u32(), move |got| equals(got.into(), want.into()))
}

#[inline(always)]
fn equals(got: u64, want: u64) -> Result<(), Rule> {
    match got == want {
        true => Ok(()),
        false => Err(Rule::Value { got, want }),
    }
}

/// A 64-bit integer.
#[inline(always)]
pub(crate) fn u64<'a>(
    name: &'static str,
) -> impl Parser<Bytes<'a>, Output = u64, Error = FieldError> {
    field(name, be_u64(), Ok)
}

/// A range: its 64-bit start and its 32-bit length.
#[inline(always)]
pub(crate) fn span<'a>(
    start: &'static str,
    len: &'static str,
) -> impl Parser<Bytes<'a>, Output = (u64, u32), Error = FieldError> {
    flat_map(u64(start), move |start| {
        field(len, be_u32(), move |len| {
            Range::new(start, len.into()).map(|_| (start, len))
        })
    })
}

/// A range: its 64-bit start and its 64-bit length. The length is even; its
/// lowest bit on the wire says whether a name follows.
#[inline(always)]
pub(crate) fn flagged_span<'a>(
    start: &'static str,
    len: &'static str,
    block: &'static str,
) -> impl Parser<Bytes<'a>, Output = (u64, u64, Option<Name<'a>>), Error = FieldError> {
    let span = flat_map(u64(start), move |start| {
        field(len, be_u64(), move |flagged| {
            let len = flagged & !1;
            Range::new(start, len).map(|_| (start, len, flagged != len))
        })
    });
    flat_map(span, move |(start, len, flag)| {
        cond(flag, name(block)).map(move |block| (start, len, block))
    })
}

/// A RAM block name behind its length in one byte.
#[inline(always)]
pub(crate) fn name<'a>(
    name: &'static str,
) -> impl Parser<Bytes<'a>, Output = Name<'a>, Error = FieldError> {
    field(name, length_data(be_u8()), |bytes: Bytes<'a>| {
        Name::new(bytes.0)
    })
}

/// Two 64-bit page sizes, or an empty payload.
pub(crate) fn page_sizes<'a>(
    name: &'static str,
) -> impl Parser<Bytes<'a>, Output = Option<PageSizes>, Error = FieldError> {
    let sizes = (be_u64(), be_u64()).map(|(summary, target)| PageSizes { summary, target });
    field(name, alt((eof.map(|_| None), sizes.map(Some))), Ok)
}

/// Ranges up to the end of the payload, at least one: a 64-bit start and a
/// 64-bit length each.
///
/// A loop, because nom's `many` stops where its parser fails, and trailing bytes
/// must be an error here.
pub(crate) fn ranges<'a>(
    name: &'static str,
) -> impl Parser<Bytes<'a>, Output = Ranges<'a>, Error = FieldError> {
    move |input| {
        let mut range = field(name, (be_u64(), be_u64()), |(start, len)| {
            Range::new(start, len)
        });
        let (mut rest, _) = range.parse_complete(input)?;
        while !rest.is_empty() {
            (rest, _) = range.parse_complete(rest)?;
        }
        Ok((rest, Ranges::checked(input.0.as_chunks().0)))
    }
}

//! nom: one parser for each field kind.
//!
//! Parsers consume exactly their field from the front of a payload that has
//! already been cut to its length. None allocates or panics.

use nom::Parser;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};

use super::{Fail, Fault, Refused};
use crate::error::Rule;
use crate::name::Name;
use crate::num::halves;
use crate::ranges::{PageSizes, Range, Ranges};

/// Rest of the payload and value, or the failure.
pub(crate) type Parsed<'a, T, F> = nom::IResult<&'a [u8], T, F>;

// Every failure of a nom parser used here is lack of bytes.
impl ParseError<&[u8]> for Refused {
    #[inline(always)]
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        Self::at(input.len(), None, Rule::Short)
    }

    #[inline(always)]
    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl ParseError<&[u8]> for Fault {
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        Self::at(input.len(), None, Rule::Short)
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

#[inline(always)]
fn fail<'a, T, F: Fail>(input: &'a [u8], field: &'static str, rule: Rule) -> Parsed<'a, T, F> {
    Err(nom::Err::Error(F::at(input.len(), Some(field), rule)))
}

/// Takes nom's wrapping off a result.
#[inline(always)]
pub(crate) fn finish<T, F: Fail>(parsed: Parsed<'_, T, F>) -> Result<(&[u8], T), F> {
    parsed.map_err(|error| match error {
        nom::Err::Error(failure) | nom::Err::Failure(failure) => failure,
        // Complete parsers never ask for more.
        nom::Err::Incomplete(_) => F::at(0, None, Rule::Short),
    })
}

/// The next `count` bytes.
#[inline(always)]
fn bytes<'a, F: Fail>(
    field: &'static str,
    count: usize,
    input: &'a [u8],
) -> Parsed<'a, &'a [u8], F> {
    // Checked here for the name of the field; nom's own check then goes away.
    if count > input.len() {
        return fail(input, field, Rule::Short);
    }
    take(count).parse(input)
}

/// The next `N` bytes.
#[inline(always)]
fn fixed<'a, const N: usize, F: Fail>(
    field: &'static str,
    input: &'a [u8],
) -> Parsed<'a, [u8; N], F> {
    let (rest, bytes) = bytes(field, N, input)?;
    match bytes.try_into() {
        Ok(array) => Ok((rest, array)),
        Err(_) => fail(input, field, Rule::Short),
    }
}

#[inline(always)]
pub(crate) fn be32<'a, F: Fail>(field: &'static str, input: &'a [u8]) -> Parsed<'a, u32, F> {
    let (rest, bytes) = fixed::<4, F>(field, input)?;
    Ok((rest, u32::from_be_bytes(bytes)))
}

#[inline(always)]
pub(crate) fn be64<'a, F: Fail>(field: &'static str, input: &'a [u8]) -> Parsed<'a, u64, F> {
    let (rest, bytes) = fixed::<8, F>(field, input)?;
    Ok((rest, u64::from_be_bytes(bytes)))
}

/// A byte that must have one value.
#[inline(always)]
pub(crate) fn u8_equals<'a, F: Fail>(
    field: &'static str,
    want: u8,
    input: &'a [u8],
) -> Parsed<'a, (), F> {
    let (rest, [got]) = fixed::<1, F>(field, input)?;
    equals(field, got.into(), want.into(), input, rest)
}

/// A 32-bit integer that must have one value.
#[inline(always)]
pub(crate) fn be32_equals<'a, F: Fail>(
    field: &'static str,
    want: u32,
    input: &'a [u8],
) -> Parsed<'a, (), F> {
    let (rest, got) = be32::<F>(field, input)?;
    equals(field, got.into(), want.into(), input, rest)
}

#[inline(always)]
fn equals<'a, F: Fail>(
    field: &'static str,
    got: u64,
    want: u64,
    input: &'a [u8],
    rest: &'a [u8],
) -> Parsed<'a, (), F> {
    if got != want {
        return fail(input, field, Rule::Value { got, want });
    }
    Ok((rest, ()))
}

/// A 32-bit length that goes with `start`.
#[inline(always)]
pub(crate) fn be32_span<'a, F: Fail>(
    field: &'static str,
    start: u64,
    input: &'a [u8],
) -> Parsed<'a, u32, F> {
    let (rest, len) = be32::<F>(field, input)?;
    match Range::new(start, len.into()) {
        Ok(_) => Ok((rest, len)),
        Err(rule) => fail(input, field, rule),
    }
}

/// A 64-bit even length that goes with `start`, and its flag.
#[inline(always)]
pub(crate) fn flagged_span<'a, F: Fail>(
    field: &'static str,
    start: u64,
    input: &'a [u8],
) -> Parsed<'a, (u64, bool), F> {
    let (rest, raw) = be64::<F>(field, input)?;
    let len = raw & !1;
    match Range::new(start, len) {
        Ok(_) => Ok((rest, (len, raw != len))),
        Err(rule) => fail(input, field, rule),
    }
}

#[inline(always)]
pub(crate) fn name<'a, F: Fail>(field: &'static str, input: &'a [u8]) -> Parsed<'a, Name<'a>, F> {
    let (rest, [size]) = fixed::<1, F>(field, input)?;
    if usize::from(size) > rest.len() {
        return fail(input, field, Rule::Short);
    }
    let (rest, bytes) = bytes::<F>(field, size.into(), rest)?;
    match Name::new(bytes) {
        Ok(name) => Ok((rest, name)),
        Err(rule) => fail(input, field, rule),
    }
}

/// A name that is there only if the flag says so.
#[inline(always)]
pub(crate) fn flagged_name<'a, F: Fail>(
    field: &'static str,
    flag: bool,
    input: &'a [u8],
) -> Parsed<'a, Option<Name<'a>>, F> {
    if !flag {
        return Ok((input, None));
    }
    let (rest, name) = name(field, input)?;
    Ok((rest, Some(name)))
}

pub(crate) fn page_sizes<'a, F: Fail>(
    field: &'static str,
    input: &'a [u8],
) -> Parsed<'a, Option<PageSizes>, F> {
    if input.is_empty() {
        return Ok((input, None));
    }
    let (rest, bytes) = fixed::<16, F>(field, input)?;
    let (summary, target) = halves(bytes);
    Ok((rest, Some(PageSizes { summary, target })))
}

pub(crate) fn ranges<'a, F: Fail>(
    field: &'static str,
    input: &'a [u8],
) -> Parsed<'a, Ranges<'a>, F> {
    let (whole, rest) = input.as_chunks::<16>();
    let mut at = input;
    for bytes in whole {
        if let Err(rule) = Range::parse(bytes) {
            return fail(at, field, rule);
        }
        at = &at[bytes.len()..];
    }
    if whole.is_empty() || !rest.is_empty() {
        return fail(at, field, Rule::Short);
    }
    Ok((&[], Ranges::checked(whole)))
}

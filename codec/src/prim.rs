//! One parser and one serializer for each field kind of the table.
//!
//! The only file that names nom and cookie-factory; neither appears in a
//! public signature. Parsers consume exactly their field from the front of a
//! payload that has already been cut to its length. Serializers gather
//! neighbouring integers in a [`Run`] and hand it over in one write.

use nom::Parser;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};

use crate::error::Rule;
use crate::name::Name;
use crate::num::halves;
use crate::ranges::{PageSizes, Range, Ranges};

/// Rest of the payload and value, or the field at fault.
pub(crate) type Parsed<'a, T> = nom::IResult<&'a [u8], T, Fault>;

/// A broken rule, and how much of the payload was left at the field.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) left: usize,
    pub(crate) field: &'static str,
    pub(crate) rule: Rule,
}

impl ParseError<&[u8]> for Fault {
    // Every failure of a nom parser used here is lack of bytes.
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        Self {
            left: input.len(),
            field: "",
            rule: Rule::Short,
        }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

#[cold]
fn fault<'a, T>(input: &'a [u8], field: &'static str, rule: Rule) -> Parsed<'a, T> {
    Err(nom::Err::Error(Fault {
        left: input.len(),
        field,
        rule,
    }))
}

/// Takes nom's wrapping off a result.
#[inline(always)]
pub(crate) fn finish<T>(parsed: Parsed<'_, T>) -> Result<(&[u8], T), Fault> {
    parsed.map_err(|error| match error {
        nom::Err::Error(fault) | nom::Err::Failure(fault) => fault,
        // Complete parsers never ask for more.
        nom::Err::Incomplete(_) => Fault {
            left: 0,
            field: "",
            rule: Rule::Short,
        },
    })
}

/// The next `N` bytes.
#[inline(always)]
fn fixed<'a, const N: usize>(field: &'static str, input: &'a [u8]) -> Parsed<'a, [u8; N]> {
    let taken: Parsed<'a, &'a [u8]> = take(N).parse(input);
    match taken {
        Ok((rest, bytes)) => match bytes.try_into() {
            Ok(array) => Ok((rest, array)),
            Err(_) => fault(input, field, Rule::Short),
        },
        Err(_) => fault(input, field, Rule::Short),
    }
}

#[inline(always)]
pub(crate) fn be32<'a>(field: &'static str, input: &'a [u8]) -> Parsed<'a, u32> {
    let (rest, bytes) = fixed::<4>(field, input)?;
    Ok((rest, u32::from_be_bytes(bytes)))
}

#[inline(always)]
pub(crate) fn be64<'a>(field: &'static str, input: &'a [u8]) -> Parsed<'a, u64> {
    let (rest, bytes) = fixed::<8>(field, input)?;
    Ok((rest, u64::from_be_bytes(bytes)))
}

/// A byte that must have one value.
#[inline(always)]
pub(crate) fn u8_equals<'a>(field: &'static str, want: u8, input: &'a [u8]) -> Parsed<'a, ()> {
    let (rest, [got]) = fixed::<1>(field, input)?;
    if got != want {
        return fault(
            input,
            field,
            Rule::Value {
                got: got.into(),
                want: want.into(),
            },
        );
    }
    Ok((rest, ()))
}

/// A 32-bit integer that must have one value.
#[inline(always)]
pub(crate) fn be32_equals<'a>(field: &'static str, want: u32, input: &'a [u8]) -> Parsed<'a, ()> {
    let (rest, got) = be32(field, input)?;
    if got != want {
        return fault(
            input,
            field,
            Rule::Value {
                got: got.into(),
                want: want.into(),
            },
        );
    }
    Ok((rest, ()))
}

/// A 32-bit length that goes with `start`.
#[inline(always)]
pub(crate) fn be32_span<'a>(field: &'static str, start: u64, input: &'a [u8]) -> Parsed<'a, u32> {
    let (rest, len) = be32(field, input)?;
    match Range::new(start, len.into()) {
        Ok(_) => Ok((rest, len)),
        Err(rule) => fault(input, field, rule),
    }
}

/// A 64-bit even length that goes with `start`, and its flag.
#[inline(always)]
pub(crate) fn flagged_span<'a>(
    field: &'static str,
    start: u64,
    input: &'a [u8],
) -> Parsed<'a, (u64, bool)> {
    let (rest, raw) = be64(field, input)?;
    let len = raw & !1;
    match Range::new(start, len) {
        Ok(_) => Ok((rest, (len, raw != len))),
        Err(rule) => fault(input, field, rule),
    }
}

#[inline(always)]
pub(crate) fn name<'a>(field: &'static str, input: &'a [u8]) -> Parsed<'a, Name<'a>> {
    let (rest, [size]) = fixed::<1>(field, input)?;
    let taken: Parsed<'a, &'a [u8]> = take(size).parse(rest);
    let Ok((rest, bytes)) = taken else {
        return fault(input, field, Rule::Short);
    };
    match Name::new(bytes) {
        Ok(name) => Ok((rest, name)),
        Err(rule) => fault(input, field, rule),
    }
}

/// A name that is there only if the flag says so.
#[inline(always)]
pub(crate) fn flagged_name<'a>(
    field: &'static str,
    flag: bool,
    input: &'a [u8],
) -> Parsed<'a, Option<Name<'a>>> {
    if !flag {
        return Ok((input, None));
    }
    let (rest, name) = name(field, input)?;
    Ok((rest, Some(name)))
}

pub(crate) fn page_sizes<'a>(
    field: &'static str,
    input: &'a [u8],
) -> Parsed<'a, Option<PageSizes>> {
    if input.is_empty() {
        return Ok((input, None));
    }
    let (rest, bytes) = fixed::<16>(field, input)?;
    let (summary, target) = halves(bytes);
    Ok((rest, Some(PageSizes { summary, target })))
}

pub(crate) fn ranges<'a>(field: &'static str, input: &'a [u8]) -> Parsed<'a, Ranges<'a>> {
    let (whole, rest) = input.as_chunks::<16>();
    let mut at = input;
    for bytes in whole {
        if let Err(rule) = Range::parse(bytes) {
            return fault(at, field, rule);
        }
        at = &at[bytes.len()..];
    }
    if whole.is_empty() || !rest.is_empty() {
        return fault(at, field, Rule::Short);
    }
    Ok((&[], Ranges::checked(whole)))
}

#[cfg(feature = "encode")]
pub(crate) use write::{
    Run, Sink, Written, flagged_len, flagged_name_size, page_sizes_size, put, put_flagged_name,
    put_name, put_page_sizes, put_ranges,
};

#[cfg(feature = "encode")]
mod write {
    use std::io::Write;

    use cookie_factory::WriteContext;
    use cookie_factory::combinator::slice;

    use crate::error::Rule;
    use crate::fit::Unfit;
    use crate::name::Name;
    use crate::ranges::{PageSizes, RangeList};

    /// Where a message is written to.
    pub(crate) type Sink<W> = WriteContext<W>;

    /// The sink behind what was written.
    pub(crate) type Written<W> = Result<Sink<W>, Unfit>;

    /// `N` bytes of neighbouring integers, under construction.
    pub(crate) struct Run<const N: usize> {
        bytes: [u8; N],
        at: usize,
    }

    impl<const N: usize> Run<N> {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self {
                bytes: [0; N],
                at: 0,
            }
        }

        #[inline(always)]
        pub(crate) fn u8(self, value: u8) -> Self {
            self.add([value])
        }

        #[inline(always)]
        pub(crate) fn be16(self, value: u16) -> Self {
            self.add(value.to_be_bytes())
        }

        #[inline(always)]
        pub(crate) fn be32(self, value: u32) -> Self {
            self.add(value.to_be_bytes())
        }

        #[inline(always)]
        pub(crate) fn be64(self, value: u64) -> Self {
            self.add(value.to_be_bytes())
        }

        #[inline(always)]
        fn add<const M: usize>(mut self, value: [u8; M]) -> Self {
            self.bytes[self.at..self.at + M].copy_from_slice(&value);
            self.at += M;
            self
        }
    }

    #[inline(always)]
    fn bytes<W: Write>(out: Sink<W>, bytes: impl AsRef<[u8]>) -> Written<W> {
        slice(bytes)(out).map_err(|_| Unfit {
            field: None,
            rule: Rule::NoRoom,
        })
    }

    #[inline(always)]
    pub(crate) fn put<W: Write, const N: usize>(out: Sink<W>, run: Run<N>) -> Written<W> {
        bytes(out, run.bytes)
    }

    /// A name's bytes; its length belongs to the run before it.
    #[inline(always)]
    pub(crate) fn put_name<W: Write>(out: Sink<W>, name: Name<'_>) -> Written<W> {
        bytes(out, name.as_bytes())
    }

    /// A name that may be absent, with its length.
    pub(crate) fn put_flagged_name<W: Write>(out: Sink<W>, name: Option<Name<'_>>) -> Written<W> {
        let Some(name) = name else { return Ok(out) };
        let out = put(out, Run::<1>::new().u8(name.size()))?;
        put_name(out, name)
    }

    /// Bytes that [`put_flagged_name`] takes.
    pub(crate) fn flagged_name_size(name: Option<Name<'_>>) -> u16 {
        name.map_or(0, |name| 1 + u16::from(name.size()))
    }

    /// A length with the flag that says whether a name follows.
    pub(crate) fn flagged_len(len: u64, name: Option<Name<'_>>) -> u64 {
        len | u64::from(name.is_some())
    }

    /// Bytes that [`put_page_sizes`] takes.
    pub(crate) fn page_sizes_size(sizes: Option<PageSizes>) -> u16 {
        sizes.map_or(0, |_| 16)
    }

    pub(crate) fn put_page_sizes<W: Write>(out: Sink<W>, sizes: Option<PageSizes>) -> Written<W> {
        let Some(sizes) = sizes else { return Ok(out) };
        put(out, Run::<16>::new().be64(sizes.summary).be64(sizes.target))
    }

    pub(crate) fn put_ranges<W: Write>(mut out: Sink<W>, ranges: &impl RangeList) -> Written<W> {
        for range in ranges.iter() {
            out = put(out, Run::<16>::new().be64(range.start).be64(range.len))?;
        }
        Ok(out)
    }
}

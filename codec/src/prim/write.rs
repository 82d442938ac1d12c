//! cookie-factory: one serializer for each field kind.
//!
//! Neighbouring integers are gathered in a [`Run`] and handed over in one
//! write. What the other side would refuse is refused before the first write.

use core::mem;
use std::io::Write;

use cookie_factory::WriteContext;
use cookie_factory::combinator::slice;

use super::Fail;
use crate::error::Rule;
use crate::generated::MAX_NAME;
use crate::name::Name;
use crate::ranges::{PageSizes, Range, RangeList};

/// Where a message is written to.
pub(crate) type Sink<W> = WriteContext<W>;

/// The free part of a slice. Takes all of a write or nothing, so that the
/// size of a write stays known: `&mut [u8]` takes what fits, which makes
/// every write a `memcpy` of unknown size.
pub(crate) struct Room<'a>(pub(crate) &'a mut [u8]);

impl Write for Room<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some((to, rest)) = mem::take(&mut self.0).split_at_mut_checked(bytes.len()) else {
            return Ok(0);
        };
        to.copy_from_slice(bytes);
        self.0 = rest;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The sink behind what was written, or the failure.
pub(crate) type Written<W, F> = Result<Sink<W>, F>;

/// `N` bytes of neighbouring integers. Each integer says where it goes, so
/// that the compiler sees one array of known bytes and none of its building.
pub(crate) struct Run<const N: usize>([u8; N]);

impl<const N: usize> Run<N> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self([0; N])
    }

    #[inline(always)]
    pub(crate) fn u8<const AT: usize>(self, value: u8) -> Self {
        self.set::<AT, 1>([value])
    }

    #[inline(always)]
    pub(crate) fn be16<const AT: usize>(self, value: u16) -> Self {
        self.set::<AT, 2>(value.to_be_bytes())
    }

    #[inline(always)]
    pub(crate) fn be32<const AT: usize>(self, value: u32) -> Self {
        self.set::<AT, 4>(value.to_be_bytes())
    }

    #[inline(always)]
    pub(crate) fn be64<const AT: usize>(self, value: u64) -> Self {
        self.set::<AT, 8>(value.to_be_bytes())
    }

    #[inline(always)]
    fn set<const AT: usize, const M: usize>(mut self, value: [u8; M]) -> Self {
        const { assert!(AT + M <= N, "an integer beyond its run") }
        self.0[AT..AT + M].copy_from_slice(&value);
        self
    }
}

/// Refuses what [`super::be32_span`] refuses.
#[inline(always)]
pub(crate) fn check_span<F: Fail>(field: &'static str, start: u64, len: u64) -> Result<(), F> {
    match Range::new(start, len) {
        Ok(_) => Ok(()),
        Err(rule) => Err(F::at(0, Some(field), rule)),
    }
}

/// Refuses what [`super::flagged_span`] refuses, and a length whose lowest
/// bit is the name flag's.
pub(crate) fn check_flagged<F: Fail>(field: &'static str, start: u64, len: u64) -> Result<(), F> {
    if len % 2 != 0 {
        return Err(F::at(0, Some(field), Rule::Odd));
    }
    check_span(field, start, len)
}

#[inline(always)]
fn bytes<W: Write, F: Fail>(out: Sink<W>, bytes: impl AsRef<[u8]>) -> Written<W, F> {
    slice(bytes)(out).map_err(|_| F::at(0, None, Rule::NoRoom))
}

#[inline(always)]
pub(crate) fn put<W: Write, F: Fail, const N: usize>(out: Sink<W>, run: Run<N>) -> Written<W, F> {
    bytes(out, run.0)
}

/// A name's bytes; its length belongs to the run before it.
#[inline(always)]
pub(crate) fn put_name<W: Write, F: Fail>(out: Sink<W>, name: Name<'_>) -> Written<W, F> {
    bytes(out, name.as_bytes())
}

/// A name that may be absent, with its length.
pub(crate) fn put_flagged_name<W: Write, F: Fail>(
    out: Sink<W>,
    name: Option<Name<'_>>,
) -> Written<W, F> {
    let Some(name) = name else { return Ok(out) };
    let out = put(out, Run::<1>::new().u8::<0>(name.size()))?;
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

pub(crate) fn put_page_sizes<W: Write, F: Fail>(
    out: Sink<W>,
    sizes: Option<PageSizes>,
) -> Written<W, F> {
    let Some(sizes) = sizes else { return Ok(out) };
    put(
        out,
        Run::<16>::new()
            .be64::<0>(sizes.summary)
            .be64::<8>(sizes.target),
    )
}

/// Bytes that [`put_ranges`] takes, in a command with the longest name.
pub(crate) fn ranges_size<F: Fail>(field: &'static str, ranges: &impl RangeList) -> Result<u16, F> {
    let limit = usize::from(u16::MAX) - MAX_NAME - 3;
    let len = ranges.count().saturating_mul(16);
    match u16::try_from(len) {
        Ok(size) if len <= limit => Ok(size),
        _ => Err(F::at(0, Some(field), Rule::TooLong { len, limit })),
    }
}

pub(crate) fn put_ranges<W: Write, F: Fail>(
    mut out: Sink<W>,
    ranges: &impl RangeList,
) -> Written<W, F> {
    for range in ranges.iter() {
        out = put(
            out,
            Run::<16>::new().be64::<0>(range.start).be64::<8>(range.len),
        )?;
    }
    Ok(out)
}

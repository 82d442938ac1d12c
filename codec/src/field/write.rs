//! cookie-factory: one serializer for each field kind.
//!
//! Neighbouring integers are gathered in a [`Run`] and handed over in one
//! write. What the other side would refuse has been refused before, by `fit.rs`.

use core::mem;
use std::io::Write;

use cookie_factory::WriteContext;
use cookie_factory::combinator::slice;

use super::Refused;
use crate::name::Name;
use crate::ranges::{PageSizes, RangeList};

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

/// The sink behind what was written, if it could be.
pub(crate) type Written<W> = Result<Sink<W>, Refused>;

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

#[inline(always)]
fn bytes<W: Write>(out: Sink<W>, bytes: impl AsRef<[u8]>) -> Written<W> {
    slice(bytes)(out).map_err(|_| Refused)
}

#[inline(always)]
pub(crate) fn put<W: Write, const N: usize>(out: Sink<W>, run: Run<N>) -> Written<W> {
    bytes(out, run.0)
}

/// A name's bytes; its length belongs to the run before it.
#[inline(always)]
pub(crate) fn put_name<W: Write>(out: Sink<W>, name: Name<'_>) -> Written<W> {
    bytes(out, name.as_bytes())
}

/// A name that may be absent, with its length.
pub(crate) fn put_flagged_name<W: Write>(out: Sink<W>, name: Option<Name<'_>>) -> Written<W> {
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

pub(crate) fn put_page_sizes<W: Write>(out: Sink<W>, sizes: Option<PageSizes>) -> Written<W> {
    let Some(sizes) = sizes else { return Ok(out) };
    put(
        out,
        Run::<16>::new()
            .be64::<0>(sizes.summary)
            .be64::<8>(sizes.target),
    )
}

pub(crate) fn put_ranges<W: Write>(mut out: Sink<W>, ranges: &impl RangeList) -> Written<W> {
    for range in ranges.iter() {
        out = put(
            out,
            Run::<16>::new().be64::<0>(range.start).be64::<8>(range.len),
        )?;
    }
    Ok(out)
}

//! One cookie-factory serializer for each kind of field.
//!
//! A serializer writes exactly its field. Integers are written with
//! cookie-factory's `be_u32` and similar functions. In a frame, the length of a
//! name is written together with the integers before it, followed by the bytes of
//! the name. The caller has validated all values.

use std::io::Write;

use cookie_factory::SerializeFn;
use cookie_factory::bytes::{be_u8, be_u32, be_u64};
use cookie_factory::combinator::slice;
use cookie_factory::multi::many_ref;

use super::output::{fixed, tuple};
use crate::generated::MAX_NAME;
use crate::name::Name;
use crate::ranges::{PageSizes, RangeList};

/// A range: its 64-bit start and its 32-bit length.
#[inline(always)]
pub(crate) fn span<W: Write>(start: u64, len: u32) -> impl SerializeFn<W> {
    tuple((be_u64(start), be_u32(len)))
}

/// A range: its 64-bit start and its 64-bit length. The length is even; its
/// lowest bit on the wire says whether a name follows.
#[inline(always)]
pub(crate) fn flagged_span<W: Write>(start: u64, len: u64, flag: bool) -> impl SerializeFn<W> {
    tuple((be_u64(start), be_u64(len | u64::from(flag))))
}

/// A RAM block name behind its length in one byte.
pub(crate) fn name<W: Write>(name: Name<'_>) -> impl SerializeFn<W> {
    const { assert!(MAX_NAME == 255, "a name's length fits one byte") };
    tuple((be_u8(name.size()), slice(name.as_bytes())))
}

/// A RAM block name, or nothing.
pub(crate) fn flagged_name<W: Write>(name: Option<Name<'_>>) -> impl SerializeFn<W> {
    many_ref(name, self::name)
}

/// Bytes that [`flagged_name`] takes.
pub(crate) fn flagged_name_size(name: Option<Name<'_>>) -> u16 {
    name.map_or(0, |name| 1 + u16::from(name.size()))
}

/// Two 64-bit page sizes, or nothing.
pub(crate) fn page_sizes<W: Write>(sizes: Option<PageSizes>) -> impl SerializeFn<W> {
    many_ref(sizes, |sizes| range(sizes.summary, sizes.target))
}

/// Bytes that [`page_sizes`] takes.
pub(crate) fn page_sizes_size(sizes: Option<PageSizes>) -> u16 {
    sizes.map_or(0, |_| 16)
}

/// Ranges: a 64-bit start and a 64-bit length each.
pub(crate) fn ranges<W: Write>(ranges: &impl RangeList) -> impl SerializeFn<W> {
    many_ref(ranges.iter(), |range| self::range(range.start, range.len))
}

fn range<W: Write>(start: u64, len: u64) -> impl SerializeFn<W> {
    fixed::<16, _>(move |out| tuple((be_u64(start), be_u64(len)))(out))
}

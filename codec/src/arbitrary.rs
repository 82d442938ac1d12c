//! [`Arbitrary`] for messages, their fields and mutated
//! frames.
//!
//! Valid messages, borrowed and owned, come from `Unstructured::arbitrary`;
//! [`Mutated`] (feature `mutate`) is a valid frame with one defect. Any input
//! bytes will do: when they run out, zeros are used. Nothing here panics.
//!
//! ```
//! use arbitrary::Unstructured;
//! use retpath_codec::{Message, NameBuf};
//!
//! let mut bytes = Unstructured::new(&[7; 64]);
//! let message: Message<NameBuf> = bytes.arbitrary()?;
//! assert!(message.check().is_ok());
//! # Ok::<(), arbitrary::Error>(())
//! ```

use alloc::vec::Vec;
#[cfg(feature = "mutate")]
use core::marker::PhantomData;
use core::ops::RangeInclusive;

use ::arbitrary::unstructured::Int;
use ::arbitrary::{Arbitrary, Error, Result, Unstructured};

#[cfg(feature = "mutate")]
use crate::frame::Dialect;
use crate::generated::MAX_NAME;
#[cfg(feature = "mutate")]
use crate::mutate::{self, Defect};
use crate::name::{Name, NameBuf};
use crate::ranges::{PageSizes, Range, RangeBuf, Ranges};

/// Block names seen in real migrations.
const NAMES: [&[u8]; 4] = [b"pc.ram", b"vga.vram", b"/rom@etc/acpi/tables", b"mem0"];

/// Maximum length of a range list; QEMU sends at most 12 ranges per command.
const MAX_RANGES: usize = 32;

/// A valid frame with one defect applied.
#[cfg(feature = "mutate")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutated<D> {
    /// The frame, with its defect.
    pub frame: Vec<u8>,
    /// The defect.
    pub defect: Defect,
    dialect: PhantomData<D>,
}

#[cfg(feature = "mutate")]
impl<'a, D: Dialect<Owned: Arbitrary<'a>>> Arbitrary<'a> for Mutated<D> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        u.arbitrary().and_then(|(message, defect): (D::Owned, _)| {
            let frame = mutate::encode::<D>(&message, defect);
            let dialect = PhantomData;
            frame
                .map(|frame| Self {
                    frame,
                    defect,
                    dialect,
                })
                .map_err(|_| Error::IncorrectFormat)
        })
    }
}

#[cfg(feature = "mutate")]
impl<'a> Arbitrary<'a> for Defect {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let numbers: Result<(u8, u16, u8)> = u.arbitrary();
        numbers.map(|(kind, at, value)| Self::new(kind, at, value))
    }
}

impl<'a> Arbitrary<'a> for Name<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let usual = NAMES[number(u, 0..=NAMES.len() - 1)];
        let len = match number(u, 1..=4_u8) {
            1 => 0,
            _ => number(u, 1..=MAX_NAME),
        };
        let bytes = take(u, len);
        let end = bytes.iter().position(|byte| *byte == 0);
        Name::new(&bytes[..end.unwrap_or(bytes.len())])
            .or_else(|_| Name::new(usual))
            .map_err(|_| Error::IncorrectFormat)
    }
}

impl<'a> Arbitrary<'a> for NameBuf {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Name::arbitrary(u).map(Name::to_buf)
    }
}

impl<'a> Arbitrary<'a> for Range {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (start, len) = span_up_to(u, u64::MAX);
        Ok(Self { start, len })
    }
}

impl<'a> Arbitrary<'a> for Ranges<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = number(u, 1..=MAX_RANGES);
        let (ranges, _) = take(u, count * 16).as_chunks();
        let valid = ranges
            .iter()
            .take_while(|r| Range::parse(r).is_ok())
            .count();
        Ok(Ranges::checked(match &ranges[..valid] {
            [] => &[[1; 16]],
            some => some,
        }))
    }
}

impl<'a> Arbitrary<'a> for RangeBuf {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = number(u, 1..=MAX_RANGES);
        let ranges: Result<Vec<Range>> = (0..count).map(|_| u.arbitrary()).collect();
        ranges.and_then(|ranges| RangeBuf::new(ranges).map_err(|_| Error::IncorrectFormat))
    }
}

impl<'a> Arbitrary<'a> for PageSizes {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let sizes: Result<(u64, u64)> = u.arbitrary();
        sizes.map(|(summary, target)| Self { summary, target })
    }
}

/// Picks a number from the range, which must not be empty.
pub(crate) fn number<T: Int>(u: &mut Unstructured<'_>, range: RangeInclusive<T>) -> T {
    let least = *range.start();
    u.int_in_range(range).unwrap_or(least)
}

/// Takes `most` bytes, or fewer when the input runs out.
fn take<'a>(u: &mut Unstructured<'a>, most: usize) -> &'a [u8] {
    u.bytes(most.min(u.len())).unwrap_or_default()
}

/// Picks a start and a 32-bit length whose sum fits 64 bits.
pub(crate) fn span(u: &mut Unstructured<'_>) -> (u64, u32) {
    let (start, len) = span_up_to(u, u32::MAX.into());
    (start, u32::try_from(len).unwrap_or(u32::MAX))
}

/// Picks a start and an even length whose sum fits 64 bits.
pub(crate) fn even_span(u: &mut Unstructured<'_>) -> (u64, u64) {
    let (start, len) = span_up_to(u, u64::MAX);
    let len = (len & !1).max(2);
    (start.min(u64::MAX - len), len)
}

/// Picks a start and a length of at most `most`; half of the lengths are 4096.
fn span_up_to(u: &mut Unstructured<'_>, most: u64) -> (u64, u64) {
    let len = match number(u, 0..=1_u8) {
        0 => number(u, 1..=most),
        _ => 4096,
    };
    (number(u, 0..=u64::MAX - len), len)
}

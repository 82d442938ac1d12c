//! Values from unstructured bytes: valid messages, borrowed and owned, and
//! ([`NearValid`], with feature `encode`) frames that are nearly valid.
//!
//! The messages themselves are generated. Fails only as the `arbitrary` crate
//! does, when the bytes run out; never panics.

use alloc::vec::Vec;
#[cfg(feature = "encode")]
use core::marker::PhantomData;

use ::arbitrary::{Arbitrary, Result, Unstructured};

#[cfg(feature = "encode")]
use crate::frame::Dialect;
use crate::generated::MAX_NAME;
use crate::name::{Name, NameBuf};
#[cfg(feature = "encode")]
use crate::near::{self, Defect};
use crate::ranges::{PageSizes, Range, RangeBuf, Ranges};

/// Names that real migrations have.
const NAMES: [&[u8]; 4] = [b"pc.ram", b"vga.vram", b"/rom@etc/acpi/tables", b"mem0"];

/// Most ranges of a list; a real command has at most 12.
const MAX_RANGES: usize = 32;

/// A frame that is one small defect away from a valid one.
#[cfg(feature = "encode")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearValid<D> {
    /// The frame, with its defect.
    pub frame: Vec<u8>,
    /// What is wrong with it.
    pub defect: Defect,
    dialect: PhantomData<D>,
}

#[cfg(feature = "encode")]
impl<'a, D: Dialect<Owned: Arbitrary<'a>>> Arbitrary<'a> for NearValid<D> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let message: D::Owned = u.arbitrary()?;
        let defect: Defect = u.arbitrary()?;
        let frame =
            near::encode::<D>(&message, defect).map_err(|_| ::arbitrary::Error::IncorrectFormat)?;
        Ok(Self {
            frame,
            defect,
            dialect: PhantomData,
        })
    }
}

#[cfg(feature = "encode")]
impl<'a> Arbitrary<'a> for Defect {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self::new(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?))
    }
}

impl<'a> Arbitrary<'a> for Name<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let usual = *u.choose(&NAMES)?;
        if u.ratio(1, 4)? {
            return Name::new(usual).map_err(|_| ::arbitrary::Error::IncorrectFormat);
        }
        let len = u.int_in_range(1..=MAX_NAME)?.min(u.len());
        let bytes = u.bytes(len)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(len);
        Name::new(&bytes[..end])
            .or_else(|_| Name::new(usual))
            .map_err(|_| ::arbitrary::Error::IncorrectFormat)
    }
}

impl<'a> Arbitrary<'a> for NameBuf {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Name::arbitrary(u)?.to_buf())
    }
}

impl<'a> Arbitrary<'a> for Range {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (start, len) = span_up_to(u, u64::MAX)?;
        Ok(Self { start, len })
    }
}

impl<'a> Arbitrary<'a> for Ranges<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let most = u.int_in_range(1..=MAX_RANGES)?.min(u.len() / 16);
        let (ranges, _) = u.bytes(most * 16)?.as_chunks();
        let sound = ranges
            .iter()
            .take_while(|r| Range::parse(r).is_ok())
            .count();
        Ok(Ranges::checked(match &ranges[..sound] {
            [] => &[[1; 16]],
            some => some,
        }))
    }
}

impl<'a> Arbitrary<'a> for RangeBuf {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = u.int_in_range(1..=MAX_RANGES)?;
        let ranges: Result<Vec<Range>> = (0..count).map(|_| u.arbitrary()).collect();
        RangeBuf::new(ranges?).map_err(|_| ::arbitrary::Error::IncorrectFormat)
    }
}

impl<'a> Arbitrary<'a> for PageSizes {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self {
            summary: u.arbitrary()?,
            target: u.arbitrary()?,
        })
    }
}

/// A start, and a 32-bit length that goes with it.
pub(crate) fn span(u: &mut Unstructured<'_>) -> Result<(u64, u32)> {
    let (start, len) = span_up_to(u, u32::MAX.into())?;
    let len = u32::try_from(len).map_err(|_| ::arbitrary::Error::IncorrectFormat)?;
    Ok((start, len))
}

/// A start, and an even length that goes with it.
pub(crate) fn even_span(u: &mut Unstructured<'_>) -> Result<(u64, u64)> {
    let (start, half) = span_up_to(u, u64::MAX / 2)?;
    let len = half * 2;
    Ok((start.min(u64::MAX - len), len))
}

/// A start, and a length of at most `most`: a page as often as anything else.
fn span_up_to(u: &mut Unstructured<'_>, most: u64) -> Result<(u64, u64)> {
    let len = if u.arbitrary()? {
        4096
    } else {
        u.int_in_range(1..=most)?
    };
    let start = u.int_in_range(0..=u64::MAX - len)?;
    Ok((start, len))
}

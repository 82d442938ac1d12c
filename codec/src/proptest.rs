//! Strategies for embedders' own properties: valid messages, and
//! ([`near_valid`], with feature `encode`) frames that are nearly valid.
//!
//! Valid messages come from `any`: `any::<Message<NameBuf>>()` for the merged
//! dialect, `any::<v7::Message<NameBuf>>()` for the draft, and
//! `any::<Command<NameBuf, RangeBuf>>()` for commands. Those strategies are
//! generated from the tables; here are the strategies of their fields' kinds.

use alloc::vec::Vec;

use ::proptest::arbitrary::{Arbitrary, any};
use ::proptest::collection::vec;
use ::proptest::prop_oneof;
use ::proptest::sample::select;
use ::proptest::strategy::{BoxedStrategy, Just, Strategy};

#[cfg(feature = "encode")]
use crate::frame::Dialect;
use crate::generated::MAX_NAME;
use crate::name::NameBuf;
#[cfg(feature = "encode")]
use crate::near::{self, Defect};
use crate::ranges::{PageSizes, Range, RangeBuf};

/// Names that real migrations have.
const NAMES: &[&[u8]] = &[b"pc.ram", b"vga.vram", b"/rom@etc/acpi/tables", b"mem0"];

/// Most ranges of a list; a real command has at most 12.
const MAX_RANGES: usize = 32;

/// Frames that are one small defect away from a valid one, with the defect.
#[cfg(feature = "encode")]
pub fn near_valid<D>() -> impl Strategy<Value = (Vec<u8>, Defect)>
where
    D: Dialect<Owned: Arbitrary>,
{
    (any::<D::Owned>(), any::<Defect>()).prop_filter_map("no frame", |(message, defect)| {
        let frame = near::encode::<D>(&message, defect).ok();
        frame.map(|frame| (frame, defect))
    })
}

/// Block names: usual ones, any text, any bytes.
pub fn name() -> impl Strategy<Value = NameBuf> {
    prop_oneof![
        select(NAMES).prop_map(Vec::from),
        "[^\\x00]{1,63}".prop_map(|text| text.into_bytes()),
        vec(1..=u8::MAX, 1..=MAX_NAME),
        // The shortest and the longest.
        vec(1..=u8::MAX, 1),
        vec(1..=u8::MAX, MAX_NAME),
    ]
    .prop_filter_map("no name", |bytes| NameBuf::new(bytes).ok())
}

/// Ranges of a block: pages as often as anything else.
pub fn range() -> impl Strategy<Value = Range> {
    span_up_to(u64::MAX).prop_map(|(start, len)| Range { start, len })
}

/// A start, and a 32-bit length that goes with it.
pub fn span() -> impl Strategy<Value = (u64, u32)> {
    span_up_to(u32::MAX.into())
        .prop_map(|(start, len)| (start, u32::try_from(len).unwrap_or(u32::MAX)))
}

/// A start, and an even length that goes with it.
pub fn even_span() -> impl Strategy<Value = (u64, u64)> {
    span_up_to(u64::MAX).prop_map(|(start, len)| {
        let len = (len & !1).max(2);
        (start.min(u64::MAX - len), len)
    })
}

/// A start, and a length of at most `most` that goes with it.
fn span_up_to(most: u64) -> impl Strategy<Value = (u64, u64)> {
    // Not `prop_flat_map`, which shrinks badly.
    let len = prop_oneof![Just(4096), 1..=most];
    (any::<u64>(), len).prop_map(|(start, len)| (start % (u64::MAX - len).max(1), len))
}

macro_rules! arbitrary {
    ($($ty:ty => $strategy:expr;)*) => {$(
        impl Arbitrary for $ty {
            type Parameters = ();
            type Strategy = BoxedStrategy<Self>;

            fn arbitrary_with((): Self::Parameters) -> Self::Strategy {
                $strategy.boxed()
            }
        }
    )*};
}

arbitrary! {
    NameBuf => name();
    Range => range();
    RangeBuf => vec(range(), 1..=MAX_RANGES)
        .prop_filter_map("no ranges", |ranges| RangeBuf::new(ranges).ok());
    PageSizes => any::<(u64, u64)>().prop_map(|(summary, target)| PageSizes { summary, target });
}

#[cfg(feature = "encode")]
arbitrary! {
    Defect => any::<(u8, u16, u8)>().prop_map(|(kind, at, value)| Defect::new(kind, at, value));
}

//! Strategies for property tests.
//!
//! `any` makes valid messages: `any::<Message<NameBuf>>()` for the merged
//! dialect, `any::<v7::Message<NameBuf>>()` for the draft, and
//! `any::<Command<NameBuf, RangeBuf>>()` for commands. [`mutated`] (feature
//! `mutate`) makes frames with one defect. The functions here are the
//! strategies of single fields.
//!
//! ```
//! use proptest::prelude::*;
//! use retpath_codec::{Decoded, Message, NameBuf, Qemu, decode};
//!
//! proptest!(|(message in any::<Message<NameBuf>>())| {
//!     let mut frame = Vec::new();
//!     retpath_codec::Encode::encode(&message, &mut frame)?;
//!     let decoded = decode::<Qemu>(&frame)?;
//!     let complete = matches!(decoded, Decoded::Message { rest: [], .. });
//!     prop_assert!(complete);
//! });
//! ```

use alloc::vec::Vec;

use ::proptest::arbitrary::{Arbitrary, any};
use ::proptest::collection::vec;
use ::proptest::prop_oneof;
use ::proptest::sample::select;
use ::proptest::strategy::{BoxedStrategy, Just, Strategy};

#[cfg(feature = "mutate")]
use crate::frame::Dialect;
use crate::generated::MAX_NAME;
#[cfg(feature = "mutate")]
use crate::mutate::{self, Defect};
use crate::name::NameBuf;
use crate::ranges::{PageSizes, Range, RangeBuf};

/// Block names seen in real migrations.
const NAMES: &[&[u8]] = &[b"pc.ram", b"vga.vram", b"/rom@etc/acpi/tables", b"mem0"];

/// Maximum length of a range list; QEMU sends at most 12 ranges per command.
const MAX_RANGES: usize = 32;

/// Makes valid frames with one defect applied, and the defect.
#[cfg(feature = "mutate")]
pub fn mutated<D>() -> impl Strategy<Value = (Vec<u8>, Defect)>
where
    D: Dialect<Owned: Arbitrary>,
{
    (any::<D::Owned>(), any::<Defect>()).prop_filter_map(
        "message cannot be encoded",
        |(message, defect)| {
            let frame = mutate::encode::<D>(&message, defect).ok();
            frame.map(|frame| (frame, defect))
        },
    )
}

/// Makes block names: common ones, arbitrary text, arbitrary bytes.
pub fn name() -> impl Strategy<Value = NameBuf> {
    prop_oneof![
        select(NAMES).prop_map(Vec::from),
        "[^\\x00]{1,63}".prop_map(|text| text.into_bytes()),
        vec(1..=u8::MAX, 1..=MAX_NAME),
        // The shortest and the longest.
        vec(1..=u8::MAX, 1),
        vec(1..=u8::MAX, MAX_NAME),
    ]
    .prop_filter_map("not a block name", |bytes| NameBuf::new(bytes).ok())
}

/// Makes ranges of a block; half of them are 4096 bytes long.
pub fn range() -> impl Strategy<Value = Range> {
    span_up_to(u64::MAX).prop_map(|(start, len)| Range { start, len })
}

/// Makes a start and a 32-bit length whose sum fits 64 bits.
pub fn span() -> impl Strategy<Value = (u64, u32)> {
    span_up_to(u32::MAX.into())
        .prop_map(|(start, len)| (start, u32::try_from(len).unwrap_or(u32::MAX)))
}

/// Makes a start and an even length whose sum fits 64 bits.
pub fn even_span() -> impl Strategy<Value = (u64, u64)> {
    span_up_to(u64::MAX).prop_map(|(start, len)| {
        let len = (len & !1).max(2);
        (start.min(u64::MAX - len), len)
    })
}

/// Makes a start and a length of at most `most` whose sum fits 64 bits.
fn span_up_to(most: u64) -> impl Strategy<Value = (u64, u64)> {
    // Not `prop_flat_map`: it shrinks badly.
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
        .prop_filter_map("not a list of ranges", |ranges| RangeBuf::new(ranges).ok());
    PageSizes => any::<(u64, u64)>().prop_map(|(summary, target)| PageSizes { summary, target });
}

#[cfg(feature = "mutate")]
arbitrary! {
    Defect => any::<(u8, u16, u8)>().prop_map(|(kind, at, value)| Defect::new(kind, at, value));
}

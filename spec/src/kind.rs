//! Field kinds: how wide a field is, what it may hold, how it reads on the wire.
//!
//! All integers are big-endian. A kind says everything about the *shape* of a
//! field; what its value may be is its [`Rule`].

/// The shape of one field on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One byte.
    U8,
    /// 32-bit unsigned integer, big-endian.
    Be32,
    /// 64-bit unsigned integer, big-endian.
    Be64,
    /// RAM block name: one length byte `n`, then `n` bytes without a NUL.
    /// `n` is 1 to 255; the bytes need not be UTF-8.
    Name,
    /// 64-bit unsigned integer, big-endian, whose lowest bit is not part of
    /// the number: it says that a [`Kind::FlaggedName`] follows. The number
    /// itself is therefore even.
    FlaggedBe64,
    /// A [`Kind::Name`] that is there only if the [`Kind::FlaggedBe64`] before
    /// it says so.
    FlaggedName,
    /// Nothing at all, or two 64-bit integers: the page-size summary (bitwise
    /// OR of the page sizes of all RAM blocks) and the target page size, both
    /// in bytes.
    PageSizes,
    /// One or more pairs of 64-bit integers up to the end of the payload:
    /// start and length of a range, both in bytes.
    Ranges,
}

/// Longest RAM block name, in bytes: its length is written in one byte.
pub const MAX_NAME: usize = 255;

/// Size of one range of [`Kind::Ranges`] in bytes.
pub const RANGE_SIZE: usize = 16;

impl Kind {
    /// Fewest bytes the field takes.
    pub const fn min_size(self) -> usize {
        match self {
            Kind::U8 => 1,
            Kind::Be32 => 4,
            Kind::Be64 | Kind::FlaggedBe64 => 8,
            Kind::Name => 2,
            Kind::FlaggedName | Kind::PageSizes => 0,
            Kind::Ranges => RANGE_SIZE,
        }
    }

    /// Most bytes the field takes in a payload of at most `payload` bytes.
    pub const fn max_size(self, payload: usize) -> usize {
        match self {
            Kind::Name | Kind::FlaggedName => 1 + MAX_NAME,
            Kind::PageSizes => 16,
            Kind::Ranges => payload,
            fixed => fixed.min_size(),
        }
    }

    /// Whether the field's size differs from message to message.
    pub const fn is_variable(self) -> bool {
        matches!(
            self,
            Kind::Name | Kind::FlaggedName | Kind::PageSizes | Kind::Ranges
        )
    }
}

/// What the value of a field may be, beyond what its [`Kind`] can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every value.
    Any,
    /// Exactly this value.
    Equals(u64),
    /// A length in bytes that goes with the field before it, a start: not
    /// zero, and start + length is at most 2^64 - 1.
    Span,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No unit: an opaque number, a status, a version, a name.
    Plain,
    /// Bytes from the start of a RAM block.
    Offset,
    /// A number of bytes.
    Bytes,
}

//! What can be wrong with bytes, and with values that should become bytes.
//!
//! Errors are small and `Copy`: where, in which message, in which field, and
//! which rule is broken. "More bytes are needed" is no error; it is
//! [`Decoded::Need`](crate::Decoded::Need).

use core::fmt;

use crate::generated::BITMAP_END;

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, in bytes: from the start of the slice for
    /// [`decode`](crate::decode), from the start of the stream for the
    /// incremental decoders.
    pub offset: u64,
    /// Label of the message, such as `REQ_PAGES_ID`, once it is known.
    pub message: Option<&'static str>,
    /// Field of the message, if one is to blame.
    pub field: Option<&'static str>,
    /// What is wrong.
    pub rule: Rule,
}

/// Why a value can be no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// Label of the message.
    pub message: &'static str,
    /// Field of the message, if one is to blame.
    pub field: Option<&'static str>,
    /// What is wrong.
    pub rule: Rule,
}

/// A rule that is broken. [`Rule::name`] is its name in file names and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A frame does not open with the byte that its kind of frame needs.
    Lead,
    /// The message number is kept out of use.
    Reserved,
    /// No message has this number.
    Unknown {
        /// The number.
        number: u16,
    },
    /// The payload is longer than any may be.
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The payload's length is none that the message can have.
    Length {
        /// Its length in bytes.
        len: usize,
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
    /// The field does not fit what is left of the payload.
    Short,
    /// Bytes are left over behind the last field.
    Leftover {
        /// How many.
        count: usize,
    },
    /// The field must have another value.
    Value {
        /// The value it has.
        got: u64,
        /// The value it must have.
        want: u64,
    },
    /// A length is 0.
    Zero,
    /// Start and length pass 2^64 - 1.
    Overflow {
        /// The start.
        start: u64,
        /// The length.
        len: u64,
    },
    /// The length is odd, but its lowest bit is a flag.
    Odd,
    /// The block name is empty.
    EmptyName,
    /// The block name is longer than 255 bytes.
    NameTooLong,
    /// The block name has a NUL inside.
    NulInName,
    /// A received bitmap's size is 0 or not a multiple of 8.
    BitmapSize {
        /// Its size in bytes.
        size: u64,
    },
    /// A received bitmap is larger than the caller allows.
    BitmapLimit {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A received bitmap does not have the size that its block needs.
    BitmapMismatch {
        /// Its size in bytes.
        size: u64,
        /// The size it should have.
        want: u64,
    },
    /// A received bitmap has a bit set beyond the block's last page.
    BitmapTail,
    /// A received bitmap does not end with the end mark.
    BitmapEnd {
        /// What stands in its place.
        got: u64,
    },
    /// Something follows SHUT.
    AfterShut,
    /// The stream ends in the middle of a message.
    CutShort {
        /// How many bytes of it are there.
        have: usize,
        /// How many more are needed at least.
        need: usize,
    },
    /// The slice to write to is too small.
    NoRoom,
}

impl Rule {
    /// Short name, as in `corpus/malformed` and in the tables' walker.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Lead => "lead",
            Rule::Reserved => "reserved",
            Rule::Unknown { .. } => "unknown",
            Rule::TooLong { .. } => "too-long",
            Rule::Length { .. } => "length",
            Rule::Short => "short",
            Rule::Leftover { .. } => "leftover",
            Rule::Value { .. } => "value",
            Rule::Zero => "zero",
            Rule::Overflow { .. } => "overflow",
            Rule::Odd => "odd",
            Rule::EmptyName => "empty-name",
            Rule::NameTooLong => "name-too-long",
            Rule::NulInName => "nul",
            Rule::BitmapSize { .. } => "bitmap-size",
            Rule::BitmapLimit { .. } => "bitmap-limit",
            Rule::BitmapMismatch { .. } => "bitmap-mismatch",
            Rule::BitmapTail => "bitmap-tail",
            Rule::BitmapEnd { .. } => "bitmap-end",
            Rule::AfterShut => "after-shut",
            Rule::CutShort { .. } => "cut-short",
            Rule::NoRoom => "no-room",
        }
    }

    /// Whether the peer broke the protocol. `false` for limits that are the
    /// caller's own, and for a stream that merely ended.
    pub const fn is_peer_fault(self) -> bool {
        !matches!(
            self,
            Rule::BitmapLimit { .. } | Rule::CutShort { .. } | Rule::NoRoom
        )
    }
}

impl DecodeError {
    /// Whether the peer broke the protocol; see [`Rule::is_peer_fault`].
    pub const fn is_peer_fault(&self) -> bool {
        self.rule.is_peer_fault()
    }

    /// The same error in a stream in which the slice starts at `base`.
    #[cfg(feature = "alloc")]
    pub(crate) const fn based(mut self, base: u64) -> Self {
        self.offset = self.offset.saturating_add(base);
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Rule::Lead => f.write_str("the frame does not open with the byte of its kind"),
            Rule::Reserved => f.write_str("message number 0 is never valid"),
            Rule::Unknown { number } => {
                write!(f, "no message has number {number} (0x{number:04x})")
            }
            Rule::TooLong { len, limit } => {
                write!(f, "payload of {len} bytes, but {limit} is the limit")
            }
            Rule::Length { len, min, max } if min == max => {
                write!(f, "payload of {len} bytes, must be {min}")
            }
            Rule::Length { len, min, max } => {
                write!(f, "payload of {len} bytes, must be {min} to {max}")
            }
            Rule::Short => f.write_str("does not fit what is left of the payload"),
            Rule::Leftover { count } => write!(f, "{count} bytes are left over in the payload"),
            Rule::Value { got, want } => write!(f, "is {got}, must be {want}"),
            Rule::Zero => f.write_str("a length of 0"),
            Rule::Overflow { start, len } => {
                write!(f, "start 0x{start:x} + length 0x{len:x} passes 2^64 - 1")
            }
            Rule::Odd => f.write_str("an odd length, but its lowest bit is the name flag"),
            Rule::EmptyName => f.write_str("an empty block name"),
            Rule::NameTooLong => f.write_str("a block name of more than 255 bytes"),
            Rule::NulInName => f.write_str("a block name with a NUL inside"),
            Rule::BitmapSize { size } => {
                write!(
                    f,
                    "bitmap of {size} bytes, must be a positive multiple of 8"
                )
            }
            Rule::BitmapLimit { size, limit } => {
                write!(
                    f,
                    "bitmap of {size} bytes, but {limit} is the most this reader allows"
                )
            }
            Rule::BitmapMismatch { size, want } => {
                write!(f, "bitmap of {size} bytes, but the block needs {want}")
            }
            Rule::BitmapTail => f.write_str("bitmap has bits set beyond the block's last page"),
            Rule::BitmapEnd { got } => {
                write!(
                    f,
                    "bitmap ends with {got:#018x} instead of {BITMAP_END:#018x}"
                )
            }
            Rule::AfterShut => f.write_str("bytes follow SHUT, which must be the last message"),
            Rule::CutShort { have, need } => write!(
                f,
                "the stream ends inside a message: {have} bytes of it are there, at least {need} more are missing"
            ),
            Rule::NoRoom => f.write_str("the buffer to write to is too small"),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} (0x{:x})", self.offset, self.offset)?;
        if let Some(message) = self.message {
            write!(f, ", {message}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", field `{field}`")?;
        }
        write!(f, ": {} [{}]", self.rule, self.rule.name())
    }
}

impl core::error::Error for DecodeError {}

impl core::error::Error for Rule {}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write {}", self.message)?;
        if let Some(field) = self.field {
            write!(f, ", field `{field}`")?;
        }
        write!(f, ": {} [{}]", self.rule, self.rule.name())
    }
}

impl core::error::Error for EncodeError {}

//! The types of the tables: rows, field kinds, units.
//!
//! All integers are big-endian. A [`Kind`] is the layout of a field, a [`Rule`]
//! the restriction on its value.

mod stream;

pub use stream::{Body, Form, Legal, Part, Record, Section, Subsection};

/// A set of framed messages: their rows and the limits of the frame around
/// them. Both the return path and the command set have this form.
#[derive(Debug)]
pub struct Dialect {
    /// Name on command lines and in file names.
    pub name: &'static str,
    /// Name within a sentence.
    pub title: &'static str,
    /// Rust name of the type that selects it.
    pub rust: &'static str,
    /// Rust name of its enumeration of messages.
    pub message: &'static str,
    /// QEMU's name of the enumeration.
    pub qemu: &'static str,
    /// Summary, one paragraph.
    pub doc: &'static str,
    /// Bytes in front of the message number (0x08 for a command, none on the
    /// return path).
    pub lead: &'static [u8],
    /// Longest payload a receiver takes, in bytes.
    pub max_payload: usize,
    /// Number that is reserved as invalid.
    pub reserved: Reserved,
    /// The messages, in order of their numbers.
    pub messages: &'static [Message],
}

/// A number that is reserved as invalid.
#[derive(Debug)]
pub struct Reserved {
    /// The number.
    pub number: u16,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// Why it is reserved.
    pub doc: &'static str,
}

/// One message or command.
#[derive(Debug)]
pub struct Message {
    /// Number on the wire.
    pub number: u16,
    /// Name of the Rust variant.
    pub rust: &'static str,
    /// Short name, without QEMU's prefix.
    pub label: &'static str,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// Meaning: one sentence, then details.
    pub doc: &'static str,
    /// Who sends it, and when.
    pub when: &'static str,
    /// Fields of the payload, in order.
    pub fields: &'static [Field],
    /// Data behind the frame that the frame's length does not cover.
    pub trailer: Option<Trailer>,
    /// First QEMU release that has it.
    pub since: &'static str,
    /// Capabilities that enable it; any one of them suffices. Empty if none is
    /// needed.
    pub gate: &'static [&'static str],
    /// Values of its only field that have a name.
    pub values: &'static [Constant],
    /// Where QEMU writes it.
    pub writer: Source,
    /// Where QEMU reads it.
    pub reader: Source,
    /// How layout and sender were established.
    pub seen: &'static [Evidence],
    /// What a receiver must refuse, beyond the frame rules.
    pub refuse: &'static [Refusal],
}

/// Something a receiver must refuse.
#[derive(Debug)]
pub struct Refusal {
    /// What is refused.
    pub what: &'static str,
    /// What QEMU does instead, where it does not refuse.
    pub laxer: Option<&'static str>,
    /// How QEMU's reaction was established.
    pub seen: &'static [Evidence],
}

impl Refusal {
    /// A defect that QEMU refuses as well, or that only a receiver with more
    /// knowledge than QEMU has can detect.
    pub const fn strict(what: &'static str) -> Self {
        Self {
            what,
            laxer: None,
            seen: &[],
        }
    }

    /// A defect that QEMU accepts; `laxer` is what it does.
    pub const fn lax(what: &'static str, laxer: &'static str) -> Self {
        Self {
            what,
            laxer: Some(laxer),
            seen: READ,
        }
    }

    /// The same defect, with other evidence.
    pub const fn seen(self, seen: &'static [Evidence]) -> Self {
        Self { seen, ..self }
    }
}

/// How a statement about QEMU was established. The text lists the releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Read in QEMU's sources.
    Read(&'static str),
    /// Found in a recorded migration between two QEMU processes.
    Recorded(&'static str),
    /// Observed when a peer provoked it in a running QEMU.
    Tried(&'static str),
    /// Not verified. The text says which part, or is empty.
    Unverified(&'static str),
}

impl Evidence {
    /// The word for it in the reference.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Recorded(_) => "recorded",
            Self::Tried(_) => "tried",
            Self::Unverified(_) => "not verified",
        }
    }

    /// The releases, or for [`Evidence::Unverified`] the part that it covers.
    pub const fn releases(self) -> &'static str {
        match self {
            Self::Read(text)
            | Self::Recorded(text)
            | Self::Tried(text)
            | Self::Unverified(text) => text,
        }
    }
}

/// Read in the newest release whose sources were at hand.
pub const READ: &[Evidence] = &[Evidence::Read("10.2")];

/// A value with a name: a magic number, the value of a PING, a section's name.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Name of the Rust constant in the codec.
    pub name: &'static str,
    /// The value.
    pub value: Literal,
    /// Meaning.
    pub doc: &'static str,
    /// First QEMU release that has it; empty if it is as old as what it belongs
    /// to.
    pub since: &'static str,
}

/// The value of a [`Constant`], and its Rust type in the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `u8`, in hexadecimal.
    U8(u8),
    /// `u32`, in hexadecimal.
    U32(u32),
    /// `u64`, in hexadecimal.
    U64(u64),
    /// A number that people write in decimal, as `u32`.
    Decimal32(u32),
    /// A number that people write in decimal, as `u64`.
    Decimal64(u64),
    /// A number of items, as `usize`.
    Count(usize),
    /// `&[u8]`.
    Bytes(&'static str),
    /// `&str`.
    Text(&'static str),
}

/// A migration capability: an option that both sides set before they start.
#[derive(Debug)]
pub struct Capability {
    /// Name in QMP and in the configuration section.
    pub name: &'static str,
    /// Name of the constant in the codec.
    pub label: &'static str,
    /// What it changes in the protocol.
    pub doc: &'static str,
    /// First QEMU release that has it, and the last if it is gone.
    pub since: &'static str,
}

/// Something QEMU does that no layout shows.
#[derive(Debug)]
pub struct Behavior {
    /// Releases it holds for; empty if for all that have postcopy.
    pub releases: &'static str,
    /// What QEMU does.
    pub what: &'static str,
    /// How it was established.
    pub seen: &'static [Evidence],
}

/// One field of a payload.
#[derive(Debug)]
pub struct Field {
    /// Name, in Rust and in every output.
    pub name: &'static str,
    /// Layout.
    pub kind: Kind,
    /// Allowed values.
    pub rule: Rule,
    /// Unit of the number.
    pub unit: Unit,
    /// Meaning.
    pub doc: &'static str,
}

/// Data behind a frame that the frame's length does not cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// `be64` size S, S bytes of bitmap (bit i of the block is byte i/8, mask
    /// `1 << (i % 8)`; 1 = received), `be64` end mark (`table::return_path::BITMAP_END`).
    Bitmap,
    /// A nested stream, whose size is the message's only field.
    Package,
    /// Nothing follows: this is the last message of the stream.
    End,
}

/// A place in QEMU's sources.
#[derive(Debug)]
pub struct Source {
    /// File below `migration/`.
    pub file: &'static str,
    /// Function.
    pub function: &'static str,
}

/// Layout of a field.
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
    /// 64-bit unsigned integer, big-endian, with a flag in its lowest bit: a
    /// [`Kind::FlaggedName`] follows. The number itself is even.
    FlaggedBe64,
    /// A [`Kind::Name`], present only if the flag of the [`Kind::FlaggedBe64`]
    /// before it is set.
    FlaggedName,
    /// Absent, or two 64-bit integers: the page-size summary (bitwise OR of the
    /// page sizes of all RAM blocks) and the target page size, both in bytes.
    PageSizes,
    /// One or more ranges up to the end of the payload, each a pair of 64-bit
    /// integers: start and length, both in bytes.
    Ranges,
}

/// Longest RAM block name, in bytes: its length field is one byte.
pub const MAX_NAME: usize = 255;

/// Size of one range of [`Kind::Ranges`] in bytes.
pub const RANGE_SIZE: usize = 16;

impl Kind {
    /// Smallest size of the field, in bytes.
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

    /// Largest size of the field in a payload of at most `payload` bytes.
    pub const fn max_size(self, payload: usize) -> usize {
        match self {
            Kind::Name | Kind::FlaggedName => 1 + MAX_NAME,
            Kind::PageSizes => 16,
            Kind::Ranges => payload,
            fixed => fixed.min_size(),
        }
    }

    /// Whether the field has no fixed size.
    pub const fn is_variable(self) -> bool {
        matches!(
            self,
            Kind::Name | Kind::FlaggedName | Kind::PageSizes | Kind::Ranges
        )
    }
}

/// Restriction on the value of a field, beyond what its [`Kind`] can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any value.
    Any,
    /// This value only.
    Equals(u64),
    /// The length of a range in bytes; the field before it is the start. Not
    /// zero, and start + length is at most 2^64 - 1.
    Span,
}

/// Unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No unit: an opaque number, a status, a version, a name.
    Plain,
    /// Bytes from the start of a RAM block.
    Offset,
    /// A number of bytes.
    Bytes,
}

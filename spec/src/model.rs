//! The types of the tables: rows, field kinds, units.
//!
//! All integers are big-endian. A [`Kind`] says everything about the *shape* of
//! a field; what its value may be is its [`Rule`].

/// A set of framed messages: their rows and the limits of the frame around
/// them. Both the return path and the command set have this form.
#[derive(Debug)]
pub struct Dialect {
    /// Name on the command line and in file names.
    pub name: &'static str,
    /// What people call it, within a sentence.
    pub title: &'static str,
    /// Rust name of the type that chooses it.
    pub rust: &'static str,
    /// Rust name of its enumeration of messages.
    pub message: &'static str,
    /// QEMU's name of the enumeration.
    pub qemu: &'static str,
    /// What this set of messages is, in a paragraph.
    pub doc: &'static str,
    /// Bytes in front of the message number (0x08 for a command, none on the
    /// return path).
    pub lead: &'static [u8],
    /// Longest payload a receiver takes, in bytes.
    pub max_payload: usize,
    /// Number that is kept to be refused.
    pub reserved: Reserved,
    /// The messages, in order of their numbers.
    pub messages: &'static [Message],
}

/// A number that no message will ever have.
#[derive(Debug)]
pub struct Reserved {
    /// The number.
    pub number: u16,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// Why it is there.
    pub doc: &'static str,
}

/// One message or command.
#[derive(Debug)]
pub struct Message {
    /// Number on the wire.
    pub number: u16,
    /// Name of the Rust variant.
    pub rust: &'static str,
    /// Name that people use, without QEMU's prefix.
    pub label: &'static str,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// What it says, one sentence; then what a reader should know.
    pub doc: &'static str,
    /// Who sends it, and when.
    pub when: &'static str,
    /// Payload, in order.
    pub fields: &'static [Field],
    /// Data that follows the frame without being counted by its length.
    pub trailer: Option<Trailer>,
    /// First QEMU release that has it.
    pub since: &'static str,
    /// Capability without which it does not appear.
    pub gate: Option<&'static str>,
    /// Where QEMU writes it.
    pub writer: Source,
    /// Where QEMU reads it.
    pub reader: Source,
    /// What a receiver must refuse, beyond the frame rules.
    pub refuse: &'static [Refusal],
}

/// Something a receiver must refuse.
#[derive(Debug)]
pub struct Refusal {
    /// What is refused.
    pub what: &'static str,
    /// What QEMU itself does with it, where QEMU is laxer than we are.
    pub laxer: Option<&'static str>,
}

/// One field of a payload.
#[derive(Debug)]
pub struct Field {
    /// Name, in Rust and in every output.
    pub name: &'static str,
    /// Shape.
    pub kind: Kind,
    /// Allowed values.
    pub rule: Rule,
    /// What the number counts.
    pub unit: Unit,
    /// Meaning.
    pub doc: &'static str,
}

/// Data behind a frame that the frame's length does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// `be64` size S, S bytes of bitmap (bit i of the block is byte i/8, mask
    /// `1 << (i % 8)`; 1 = received), `be64` [`BITMAP_END`].
    Bitmap,
    /// As many bytes as the message's only field says: a nested stream.
    Package,
    /// Nothing, ever: this is the last message.
    End,
}

/// Last eight bytes of a received bitmap.
pub const BITMAP_END: u64 = 0x0123_4567_89ab_cdef;

/// A received bitmap's size is a multiple of this many bytes.
pub const BITMAP_ALIGN: u64 = 8;

/// A place in QEMU's sources.
#[derive(Debug)]
pub struct Source {
    /// File below `migration/`.
    pub file: &'static str,
    /// Function.
    pub function: &'static str,
}

/// One flag of a RAM record: the low bits of the 64-bit word that opens it.
#[derive(Debug)]
pub struct Record {
    /// Bit in the word.
    pub flag: u64,
    /// Name of the Rust constant and variant.
    pub rust: &'static str,
    /// Name that people use.
    pub label: &'static str,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// What it says.
    pub doc: &'static str,
    /// What follows the word.
    pub body: Body,
    /// Whether the record belongs to a block and may carry CONTINUE.
    pub in_block: bool,
    /// Where it may appear.
    pub legal: Legal,
    /// First QEMU release that has it, and the last if it is gone.
    pub since: &'static str,
    /// What a receiver must refuse, beyond the rules for all records.
    pub refuse: &'static [Refusal],
}

/// What follows the word of a RAM record (and, without CONTINUE, the name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Nothing,
    /// Not a record: a bit that goes with one.
    Modifier,
    /// One byte: the value that fills the page.
    Fill,
    /// A target page.
    Page,
    /// The list of RAM blocks.
    BlockList,
    /// `u8` 1, `be16` n, n bytes.
    Xbzrle,
    /// `be32` n, n bytes.
    Compressed,
    /// Never legal: the record is refused.
    Refused,
}

/// Where a RAM record may appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legal {
    /// In a `ram` section before POSTCOPY_LISTEN.
    pub precopy: bool,
    /// In a `ram` section after POSTCOPY_LISTEN.
    pub postcopy: bool,
    /// On the preempt channel.
    pub preempt: bool,
}

/// One kind of section: what a forward stream consists of behind its header.
#[derive(Debug)]
pub struct Section {
    /// The byte that opens it.
    pub number: u8,
    /// Name that people use, without QEMU's prefix.
    pub label: &'static str,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// What it says, and where it may stand.
    pub doc: &'static str,
    /// What follows the byte, in order.
    pub parts: &'static [Part],
    /// Whether a footer closes it (machine types of 2.4 and later).
    pub footer: bool,
    /// What a receiver must refuse.
    pub refuse: &'static [Refusal],
}

/// One subsection of the configuration section.
#[derive(Debug)]
pub struct Subsection {
    /// Its name on the wire.
    pub name: &'static str,
    /// Name of the constant in the codec.
    pub label: &'static str,
    /// What it says.
    pub doc: &'static str,
    /// When it is there.
    pub when: &'static str,
    /// What follows its version number, in order.
    pub parts: &'static [Part],
    /// First QEMU release that has it.
    pub since: &'static str,
}

/// One part of a section.
#[derive(Debug)]
pub struct Part {
    /// Name.
    pub name: &'static str,
    /// Shape.
    pub form: Form,
    /// Meaning.
    pub doc: &'static str,
}

/// The shape of a section's part. Integers are big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 16-bit unsigned integer.
    Be16,
    /// 32-bit unsigned integer.
    Be32,
    /// This many bytes.
    Bytes(usize),
    /// `u8` n, n bytes.
    Name,
    /// `be32` n, n bytes.
    Text,
    /// `be32` count, then as many names.
    Names,
    /// As many bytes as the part before it says.
    Counted,
    /// Bytes whose number is written nowhere: to skip them is to understand
    /// them.
    Open,
}

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

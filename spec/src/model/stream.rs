//! The rows of the forward stream: RAM records and sections.

use super::{Evidence, Refusal};

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
    /// Meaning.
    pub doc: &'static str,
    /// What follows the word.
    pub body: Body,
    /// Whether the record belongs to a block, and so may carry CONTINUE.
    pub in_block: bool,
    /// Where it is allowed.
    pub legal: Legal,
    /// First QEMU release that has it, and the last if it is gone.
    pub since: &'static str,
    /// How it was established.
    pub seen: &'static [Evidence],
    /// What a receiver must refuse, beyond the rules for all records.
    pub refuse: &'static [Refusal],
}

/// What follows the word of a RAM record (and, without CONTINUE, the name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Nothing,
    /// Not a record: a bit that modifies one.
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
    /// The record is never allowed.
    Refused,
}

/// Where a RAM record is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legal {
    /// In a `ram` section before POSTCOPY_LISTEN.
    pub precopy: bool,
    /// In a `ram` section after POSTCOPY_LISTEN.
    pub postcopy: bool,
    /// On the preempt channel.
    pub preempt: bool,
}

/// A section type of the forward stream.
#[derive(Debug)]
pub struct Section {
    /// The type byte.
    pub number: u8,
    /// Short name, without QEMU's prefix.
    pub label: &'static str,
    /// QEMU's identifier.
    pub qemu: &'static str,
    /// Meaning and position.
    pub doc: &'static str,
    /// Fields behind the type byte, in order.
    pub parts: &'static [Part],
    /// Whether a footer ends it (machine types 2.4 and later).
    pub footer: bool,
    /// How it was established.
    pub seen: &'static [Evidence],
    /// What a receiver must refuse.
    pub refuse: &'static [Refusal],
}

/// One subsection of the configuration section.
#[derive(Debug)]
pub struct Subsection {
    /// Name on the wire.
    pub name: &'static str,
    /// Name of the constant in the codec.
    pub label: &'static str,
    /// Meaning.
    pub doc: &'static str,
    /// When it is present.
    pub when: &'static str,
    /// Fields behind its version number, in order.
    pub parts: &'static [Part],
    /// First QEMU release that has it.
    pub since: &'static str,
}

/// A field of a section.
#[derive(Debug)]
pub struct Part {
    /// Name.
    pub name: &'static str,
    /// Layout.
    pub form: Form,
    /// Meaning.
    pub doc: &'static str,
}

/// Layout of a section's field. Integers are big-endian.
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
    /// Bytes; the field before it is their number.
    Counted,
    /// Bytes without a length: only a parser of their contents finds the end.
    Open,
}

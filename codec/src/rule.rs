//! The rules, and what a broken one is called. The sentences are in
//! `sentence.rs`.

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

    // The forward stream.
    /// The stream does not open as a forward stream does.
    Magic {
        /// What stands in the place of "QEVM".
        got: u32,
    },
    /// No section may begin with this byte here.
    SectionType {
        /// The byte.
        byte: u8,
    },
    /// A piece of a section that has not been started.
    UnknownSection {
        /// The section's number.
        id: u32,
    },
    /// A section's number is already another section's.
    SectionTwice {
        /// The section's number.
        id: u32,
    },
    /// A piece of a section behind its SECTION_END.
    SectionEnded {
        /// The section's number.
        id: u32,
    },
    /// A section that this reader does not understand and whose length is
    /// written nowhere.
    Unskippable {
        /// The section's number.
        id: u32,
    },
    /// No footer closes the section, unlike the sections before.
    NoFooter {
        /// The byte in its place.
        got: u8,
    },
    /// The configuration has a subsection that is not known.
    UnknownSubsection,
    /// The configuration names a capability that is not known.
    UnknownCapability,
    /// The pages lie outside the stream.
    MappedRam,
    /// Something stands in the stream that had its turn before.
    Repeated,
    /// A target page size that none can be.
    TargetPage {
        /// The size in bytes.
        size: u64,
    },
    /// A host page size that none can be.
    HostPage {
        /// The size in bytes.
        size: u64,
    },
    /// POSTCOPY_ADVISE gives page sizes that none can be.
    PageSummary {
        /// Bitwise OR of the page sizes, in bytes.
        summary: u64,
    },
    /// A RAM block has a page size that POSTCOPY_ADVISE did not announce.
    NotAdvised {
        /// The size in bytes.
        size: u64,
        /// Bitwise OR of the announced sizes, in bytes.
        summary: u64,
    },
    /// The stream and the caller differ about a block's page size.
    BlockPage {
        /// The stream's size in bytes.
        got: u64,
        /// The caller's size in bytes.
        want: u64,
    },
    /// Not the time for this.
    OutOfTurn {
        /// How far the migration is, in words.
        state: &'static str,
    },
    /// A PING before OPEN_RETURN_PATH.
    NoReturnPath,
    /// Something that may not stand in a package.
    InPackage,
    /// Something that may stand in a package only.
    NotInPackage,
    /// The package ends in the middle of something.
    PackageEnd,
    /// The package goes on behind POSTCOPY_RUN.
    AfterRun {
        /// How many bytes are left of it.
        count: u64,
    },
    /// The package ends without POSTCOPY_RUN.
    NoRun,
    /// Something follows the end of the stream.
    AfterEnd,
    /// More than the caller allows.
    Limit {
        /// What the stream has.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// A RAM record's flags are not those of exactly one record.
    Flags {
        /// The flags.
        flags: u64,
    },
    /// A RAM record that may not stand here.
    Illegal {
        /// Where it stands, in words.
        state: &'static str,
    },
    /// CONTINUE before any record on this channel has named a block.
    NoBlock,
    /// No RAM block has this name.
    UnknownBlock,
    /// The list of RAM blocks has the same one twice.
    BlockTwice,
    /// The lengths of the RAM blocks pass their total.
    PastTotal {
        /// The block's length in bytes.
        len: u64,
        /// What is left of the total, in bytes.
        left: u64,
    },
    /// A range or a page does not lie inside its RAM block.
    PastBlock {
        /// Where it starts, in bytes from the start of the block.
        start: u64,
        /// The block's length in bytes.
        len: u64,
    },
    /// A number that must be a multiple of a page size.
    Misaligned {
        /// The number.
        value: u64,
        /// The page size in bytes.
        page: u64,
    },
    /// A page is filled with a byte other than 0.
    Fill {
        /// The byte.
        fill: u8,
    },
}

impl Rule {
    /// Short name, as in `corpus/malformed` and in the oracle.
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
            Rule::Magic { .. } => "magic",
            Rule::SectionType { .. } => "section-type",
            Rule::UnknownSection { .. } => "unknown-section",
            Rule::SectionTwice { .. } => "section-twice",
            Rule::SectionEnded { .. } => "section-ended",
            Rule::Unskippable { .. } => "unskippable",
            Rule::NoFooter { .. } => "no-footer",
            Rule::UnknownSubsection => "unknown-subsection",
            Rule::UnknownCapability => "unknown-capability",
            Rule::MappedRam => "mapped-ram",
            Rule::Repeated => "repeated",
            Rule::TargetPage { .. } => "target-page",
            Rule::HostPage { .. } => "host-page",
            Rule::PageSummary { .. } => "page-summary",
            Rule::NotAdvised { .. } => "not-advised",
            Rule::BlockPage { .. } => "block-page",
            Rule::OutOfTurn { .. } => "out-of-turn",
            Rule::NoReturnPath => "no-return-path",
            Rule::InPackage => "in-package",
            Rule::NotInPackage => "not-in-package",
            Rule::PackageEnd => "package-end",
            Rule::AfterRun { .. } => "after-run",
            Rule::NoRun => "no-run",
            Rule::AfterEnd => "after-end",
            Rule::Limit { .. } => "limit",
            Rule::Flags { .. } => "flags",
            Rule::Illegal { .. } => "illegal",
            Rule::NoBlock => "no-block",
            Rule::UnknownBlock => "unknown-block",
            Rule::BlockTwice => "block-twice",
            Rule::PastTotal { .. } => "past-total",
            Rule::PastBlock { .. } => "past-block",
            Rule::Misaligned { .. } => "misaligned",
            Rule::Fill { .. } => "fill",
        }
    }

    /// Whether the peer broke the protocol. `false` for limits that are the
    /// caller's own, and for a stream that merely ended.
    pub const fn is_peer_fault(self) -> bool {
        !matches!(
            self,
            Rule::BitmapLimit { .. }
                | Rule::CutShort { .. }
                | Rule::NoRoom
                | Rule::Limit { .. }
                | Rule::HostPage { .. }
                | Rule::Unskippable { .. }
                | Rule::MappedRam
        )
    }
}

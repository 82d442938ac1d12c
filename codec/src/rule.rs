//! The rules of the protocol, and the name of each.

mod display;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A command does not start with byte 0x08.
    Lead,
    /// The message number is reserved.
    Reserved,
    /// No message has this number.
    Unknown {
        /// The number.
        number: u16,
    },
    /// A payload or a field is longer than its maximum.
    TooLong {
        /// Length in bytes.
        len: usize,
        /// Maximum in bytes.
        limit: usize,
    },
    /// The payload does not have a length that the message can have.
    Length {
        /// Length in bytes.
        len: usize,
        /// Minimum in bytes.
        min: usize,
        /// Maximum in bytes.
        max: usize,
    },
    /// The payload ends inside the field, or a list of ranges is empty.
    Short,
    /// Bytes follow the last field of the payload.
    Leftover {
        /// Number of bytes.
        count: usize,
    },
    /// The field has one legal value, and a different one was found.
    Value {
        /// The value found.
        got: u64,
        /// The legal value.
        want: u64,
    },
    /// A length is 0.
    Zero,
    /// Start plus length exceeds 2^64 - 1.
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
    /// The name is longer than 255 bytes.
    NameTooLong,
    /// The block name contains a NUL byte.
    NulInName,
    /// The size of a received bitmap is not a positive multiple of 8.
    BitmapSize {
        /// Size in bytes.
        size: u64,
    },
    /// A received bitmap is larger than the limit of the caller.
    BitmapLimit {
        /// Size in bytes.
        size: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// A received bitmap does not have the size that belongs to its block.
    BitmapMismatch {
        /// Size in bytes.
        size: u64,
        /// Size that belongs to the block, in bytes.
        want: u64,
    },
    /// A received bitmap has a bit set after the last page of the block.
    BitmapTail,
    /// A received bitmap does not end with the end mark.
    BitmapEnd {
        /// The bytes found instead.
        got: u64,
    },
    /// Bytes follow SHUT, which is the last message.
    AfterShut,
    /// The input ends inside a message.
    CutShort {
        /// Number of bytes of the message that are present.
        have: usize,
        /// How many more are needed at least.
        need: usize,
    },
    /// The output slice is too small.
    NoRoom,

    // The forward stream:
    /// The stream does not start with "QEVM".
    Magic {
        /// The first four bytes.
        got: u32,
    },
    /// The byte is not a section type that is allowed here.
    SectionType {
        /// The byte.
        byte: u8,
    },
    /// A part of a section that was not started.
    UnknownSection {
        /// Section id.
        id: u32,
    },
    /// The section id is already in use.
    SectionTwice {
        /// Section id.
        id: u32,
    },
    /// A part of a section after its SECTION_END.
    SectionEnded {
        /// Section id.
        id: u32,
    },
    /// A section whose payload this reader does not understand, and whose length
    /// is not in the stream.
    Unskippable {
        /// Section id.
        id: u32,
    },
    /// The section has no footer, although earlier sections had.
    NoFooter {
        /// The byte found instead.
        got: u8,
    },
    /// Unknown subsection of the configuration.
    UnknownSubsection,
    /// Unknown capability in the configuration.
    UnknownCapability,
    /// The pages are stored outside of the stream.
    MappedRam,
    /// An item that may appear once appears twice.
    Repeated,
    /// The target page size is not a power of two from 1024 to 65536.
    TargetPage {
        /// Size in bytes.
        size: u64,
    },
    /// A page size is not a power of two.
    HostPage {
        /// Size in bytes.
        size: u64,
    },
    /// The page sizes in POSTCOPY_ADVISE are empty or below the target page size.
    PageSummary {
        /// Bitwise OR of the page sizes, in bytes.
        summary: u64,
    },
    /// The page size of a RAM block was not announced by POSTCOPY_ADVISE.
    NotAdvised {
        /// Size in bytes.
        size: u64,
        /// Bitwise OR of the announced sizes, in bytes.
        summary: u64,
    },
    /// The page size of a block differs from the one in the options.
    BlockPage {
        /// Size in the stream, in bytes.
        got: u64,
        /// Size in the options, in bytes.
        want: u64,
    },
    /// The item is not allowed in this phase of the migration.
    OutOfTurn {
        /// The phase, in words.
        state: &'static str,
    },
    /// A PING before OPEN_RETURN_PATH.
    NoReturnPath,
    /// The item is not allowed inside a package.
    InPackage,
    /// The item is only allowed inside a package.
    NotInPackage,
    /// The package ends inside an item.
    PackageEnd,
    /// Bytes follow POSTCOPY_RUN in the package.
    AfterRun {
        /// Number of bytes.
        count: u64,
    },
    /// The package ends without POSTCOPY_RUN.
    NoRun,
    /// Bytes follow the end of the stream.
    AfterEnd,
    /// A number exceeds a limit of the caller.
    Limit {
        /// The number in the stream.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The flags do not identify a single RAM record.
    Flags {
        /// The flags.
        flags: u64,
    },
    /// The RAM record is not allowed here.
    Illegal {
        /// The position, in words.
        state: &'static str,
    },
    /// A record with the flag CONTINUE before any record of this channel that
    /// names a block.
    NoBlock,
    /// No RAM block has this name.
    UnknownBlock,
    /// The block list has two RAM blocks with the same name.
    BlockTwice,
    /// The lengths of the RAM blocks exceed the announced total.
    PastTotal {
        /// Length of the block in bytes.
        len: u64,
        /// Remaining part of the total, in bytes.
        left: u64,
    },
    /// A range or a page is not inside its RAM block.
    PastBlock {
        /// Start in bytes from the start of the block.
        start: u64,
        /// Length of the block in bytes.
        len: u64,
    },
    /// A number is not a multiple of the page size.
    Misaligned {
        /// The number.
        value: u64,
        /// Page size in bytes.
        page: u64,
    },
    /// A ZERO record fills its page with a byte other than 0.
    Fill {
        /// The byte.
        fill: u8,
    },
}

impl Rule {
    /// Returns a short name, such as `too-long`, that does not change between
    /// versions.
    ///
    /// The files in `corpus/malformed` and the table oracle use the same names.
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

    /// Returns whether the peer violated the protocol.
    ///
    /// `false` for limits of the caller, for an output slice that is too small,
    /// for input that ends early, and for legal streams that this crate does
    /// not support.
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

//! What a decoder expects next, and the sections that it knows.

use alloc::boxed::Box;

use crate::generated::section;

/// What the decoder expects next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// "QEVM" and the version.
    Header,
    /// CONFIGURATION, or what follows it.
    Configuration,
    /// A subsection of the configuration, or what follows the last one. The bits
    /// are the subsections so far.
    Subsections(u8),
    /// A section, a command, EOF.
    Item,
    /// A RAM record of this section.
    Ram { id: u32, start: bool },
    /// An entry of the block list; `left` is the remainder of the total, in bytes.
    List { id: u32, left: u64 },
    /// Device state.
    Device { id: u32 },
    /// The payload of a `dirty-bitmap` section; only the empty one is supported.
    DirtyBitmap { id: u32 },
    /// A payload of unknown format.
    Unskippable { id: u32 },
    /// A footer, or the next item if sections have no footers.
    Footer { id: u32 },
    /// A RAM record on a preempt channel.
    Preempt,
    /// A description, or the end, after EOF in precopy.
    Eof,
    /// The remaining bytes of the description.
    Description(u32),
    /// The end of the channel.
    End,
}

/// A section that was started.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) payload: Payload,
    /// Name, if the section has several parts.
    pub(super) name: Box<[u8]>,
    pub(super) ended: bool,
}

/// How the payload of a section is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Ram,
    DirtyBitmap,
    Device,
    Unknown,
}

impl Expected {
    /// Returns the name of the incomplete item.
    pub(super) fn inside(self, left: &[u8]) -> Option<&'static str> {
        match self {
            Expected::Header => Some("HEADER"),
            Expected::Configuration
            | Expected::Subsections(_)
            | Expected::Item
            | Expected::Eof
            | Expected::End => section::label(*left.first()?),
            Expected::Ram { .. } | Expected::Preempt => Some("RAM"),
            Expected::List { .. } => Some("BLOCK"),
            Expected::Device { .. } => Some("DEVICE_STATE"),
            Expected::DirtyBitmap { .. } | Expected::Unskippable { .. } => Some("SECTION"),
            Expected::Footer { .. } => Some("SECTION_FOOTER"),
            Expected::Description(_) => Some("VMDESCRIPTION"),
        }
    }
}

/// Converts a size in memory to a size on the wire.
pub(super) fn wide(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

//! Where in a stream a decoder is, and the sections it knows.

use alloc::boxed::Box;

use crate::generated::section;

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// "QEVM" and the version.
    Header,
    /// CONFIGURATION, or what comes after it.
    Configuration,
    /// A subsection of the configuration, or what comes after them. The
    /// subsections seen, as bits.
    Subsections(u8),
    /// A section, a command, EOF.
    Item,
    /// A RAM record, in a piece of this section.
    Ram { id: u32, start: bool },
    /// An entry of the list of RAM blocks, and the bytes left of the total.
    List { id: u32, left: u64 },
    /// State of a device.
    Device { id: u32 },
    /// The only payload of a `dirty-bitmap` section that can be read.
    DirtyBitmap { id: u32 },
    /// Payload that cannot be read.
    Unskippable { id: u32 },
    /// A footer, or the next item if there are none.
    Footer { id: u32 },
    /// A RAM record on a preempt channel.
    Preempt,
    /// Behind EOF in precopy.
    Eof,
    /// This many bytes of the description.
    Description(u32),
    /// The end.
    End,
}

/// A section that has been introduced.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) payload: Payload,
    /// Its name, if it comes in pieces.
    pub(super) name: Box<[u8]>,
    pub(super) ended: bool,
}

/// How a section's payload is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Ram,
    DirtyBitmap,
    Device,
    Unknown,
}

impl Place {
    /// What the channel is in the middle of.
    pub(super) fn inside(self, left: &[u8]) -> Option<&'static str> {
        match self {
            Place::Header => Some("HEADER"),
            Place::Configuration
            | Place::Subsections(_)
            | Place::Item
            | Place::Eof
            | Place::End => section::label(*left.first()?),
            Place::Ram { .. } | Place::Preempt => Some("RAM"),
            Place::List { .. } => Some("BLOCK"),
            Place::Device { .. } => Some("DEVICE_STATE"),
            Place::DirtyBitmap { .. } | Place::Unskippable { .. } => Some("SECTION"),
            Place::Footer { .. } => Some("SECTION_FOOTER"),
            Place::Description(_) => Some("VMDESCRIPTION"),
        }
    }
}

/// A number of bytes in memory, as one of bytes on the wire.
pub(super) fn wide(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

//! What a forward stream consists of.

use crate::command::{Command, Ranges};
use crate::forward::ram::Record;
use crate::generated::section;
use crate::name::Name;

/// What [`Decoder::next`](super::Decoder::next) found at the front of its
/// input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// No event comes before at least this many more bytes; never 0.
    Need(usize),
    /// Something, and what it took.
    Event {
        /// What it is.
        event: Event<'a>,
        /// Bytes of the input that it took; 0 only for
        /// [`Event::PackageEnd`].
        size: usize,
    },
}

/// One piece of a forward stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// "QEVM" and version 3, the start of a stream.
    Header,
    /// What the destination must be set up like.
    Configuration {
        /// The machine type's resolved name, such as `pc-i440fx-10.0`.
        machine: &'a [u8],
    },
    /// A subsection of the configuration.
    Subsection(Subsection<'a>),
    /// The start of a section's piece. Its payload follows, as records or
    /// device state, and then, with most machine types, its footer.
    Section {
        /// Which piece.
        kind: SectionKind,
        /// The section's number. The source chooses it; it differs between
        /// releases.
        id: u32,
        /// What the section is; with START and FULL only.
        identity: Option<Identity<'a>>,
    },
    /// The end of a section's piece.
    Footer {
        /// The section's number.
        id: u32,
    },
    /// A command. What follows PACKAGED, up to [`Event::PackageEnd`], stands
    /// in the package.
    Command(Command<Name<'a>, Ranges<'a>>),
    /// The package is over. Takes no bytes.
    PackageEnd,
    /// A RAM record, in a `ram` section or on the preempt channel.
    Record(Record<'a>),
    /// Payload of a section that is not RAM, as far as it is there.
    DeviceState {
        /// The section's number.
        id: u32,
        /// The next bytes of it.
        bytes: &'a [u8],
    },
    /// The end of the stream. In precopy a description may follow it.
    Eof,
    /// The start of the device states' description.
    Description {
        /// Its length in bytes.
        size: u32,
    },
    /// JSON, as far as it is there.
    DescriptionBytes(&'a [u8]),
}

/// Which piece of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionKind {
    /// The first of several.
    Start,
    /// A further one.
    Part,
    /// The last one.
    End,
    /// The only one.
    Full,
}

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// `ram`, or a device's path and the name of its state; never empty.
    pub idstr: &'a [u8],
    /// Number among sections of the same name.
    pub instance: u32,
    /// Version of the payload's format.
    pub version: u32,
}

/// A subsection of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsection<'a> {
    /// Binary logarithm of the target page size.
    TargetPageBits(u32),
    /// Capabilities that must be the same on both sides.
    Capabilities(Capabilities<'a>),
    /// The guest's UUID.
    Uuid([u8; 16]),
}

/// Names of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities<'a> {
    /// How many.
    pub(super) count: u32,
    /// Length and bytes of each, checked.
    pub(super) bytes: &'a [u8],
}

impl<'a> Capabilities<'a> {
    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut left = self.bytes;
        core::iter::from_fn(move || {
            let (&size, rest) = left.split_first()?;
            // All of them are there: that has been checked.
            let (name, rest) = rest.split_at(rest.len().min(size.into()));
            left = rest;
            Some(name)
        })
    }
}

impl SectionKind {
    /// The byte that opens the section.
    pub const fn byte(self) -> u8 {
        match self {
            SectionKind::Start => section::SECTION_START,
            SectionKind::Part => section::SECTION_PART,
            SectionKind::End => section::SECTION_END,
            SectionKind::Full => section::SECTION_FULL,
        }
    }

    /// Name that people use, such as `SECTION_START`.
    pub const fn label(self) -> &'static str {
        match self {
            SectionKind::Start => "SECTION_START",
            SectionKind::Part => "SECTION_PART",
            SectionKind::End => "SECTION_END",
            SectionKind::Full => "SECTION_FULL",
        }
    }
}

impl Event<'_> {
    /// Name that people use: a section's, a command's or a record's.
    pub fn label(&self) -> &'static str {
        match self {
            Event::Header => "HEADER",
            Event::Configuration { .. } => "CONFIGURATION",
            Event::Subsection(_) => "SUBSECTION",
            Event::Section { kind, .. } => kind.label(),
            Event::Footer { .. } => "SECTION_FOOTER",
            Event::Command(command) => command.label(),
            Event::PackageEnd => "PACKAGE_END",
            Event::Record(record) => record.label(),
            Event::DeviceState { .. } => "DEVICE_STATE",
            Event::Eof => "EOF",
            Event::Description { .. } | Event::DescriptionBytes(_) => "VMDESCRIPTION",
        }
    }
}

//! The events of a forward stream.

use crate::command::{Command, Ranges};
use crate::forward::ram::Record;
use crate::generated::section;
use crate::name::Name;

/// What [`Decoder::next`](super::Decoder::next) found at the start of its input.
///
/// As [`retpath_codec::Decoded`](crate::Decoded), for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The event is incomplete: at least this many more bytes are needed; never
    /// 0.
    Need(usize),
    /// One event.
    Event {
        /// The event.
        event: Event<'a>,
        /// Size of the event in bytes, at the start of the input; 0 only for
        /// [`Event::PackageEnd`].
        size: usize,
    },
}

/// One item of a forward stream.
///
/// Most are smaller than [`MAX_ITEM`](super::MAX_ITEM). Device state and
/// descriptions, which can be large, arrive as chunks of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The file header: "QEVM" and version 3.
    ///
    /// `savevm.c:qemu_savevm_send_header`
    Header,
    /// The configuration of the source, which the destination must match.
    ///
    /// `savevm.c:vmstate_configuration`
    Configuration {
        /// Resolved name of the machine type, such as `pc-i440fx-10.0`.
        machine: &'a [u8],
    },
    /// A subsection of the configuration.
    Subsection(Subsection<'a>),
    /// The header of a section. The payload follows, as [`Event::Record`] or
    /// [`Event::DeviceState`], then the footer, which machine types up to 2.3
    /// omit.
    ///
    /// `savevm.c:qemu_loadvm_section_start_full` and
    /// `savevm.c:qemu_loadvm_section_part_end`
    Section {
        /// The type of the section header.
        kind: SectionKind,
        /// Section id. The source chooses it; it differs between releases.
        id: u32,
        /// Name and versions; with START and FULL only.
        identity: Option<Identity<'a>>,
    },
    /// The end of a section.
    ///
    /// `savevm.c:check_section_footer`
    Footer {
        /// Section id.
        id: u32,
    },
    /// A command. What follows PACKAGED, up to [`Event::PackageEnd`], is the
    /// content of the package.
    ///
    /// `savevm.c:loadvm_process_command`
    Command(Command<Name<'a>, Ranges<'a>>),
    /// The end of a package. Has no bytes.
    PackageEnd,
    /// A RAM record, in a `ram` section or on the preempt channel.
    Record(Record<'a>),
    /// A chunk of the payload of a section other than `ram`.
    DeviceState {
        /// Section id.
        id: u32,
        /// The next bytes of the payload.
        bytes: &'a [u8],
    },
    /// The end of the stream. In precopy, a description may follow.
    Eof,
    /// The header of the description of the device state.
    Description {
        /// Length of the description in bytes.
        size: u32,
    },
    /// A chunk of the description, which is JSON.
    DescriptionBytes(&'a [u8]),
}

/// The type of a section header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionKind {
    /// The first part of a section with several.
    Start,
    /// A further part.
    Part,
    /// The last part.
    End,
    /// The only part.
    Full,
}

/// Name and versions of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// `ram`, or the path of a device and the name of its state; not empty.
    pub idstr: &'a [u8],
    /// Instance id, for sections of the same name.
    pub instance: u32,
    /// Version of the payload format.
    pub version: u32,
}

/// A subsection of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subsection<'a> {
    /// Binary logarithm of the target page size in bytes.
    TargetPageBits(u32),
    /// Capabilities that both sides must have.
    Capabilities(Capabilities<'a>),
    /// UUID of the guest.
    Uuid([u8; 16]),
}

/// A list of capability names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities<'a> {
    /// Number of names.
    pub(super) count: u32,
    /// Length byte and bytes of each name; checked.
    pub(super) bytes: &'a [u8],
}

impl<'a> Capabilities<'a> {
    /// Iterates over the names in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut left = self.bytes;
        core::iter::from_fn(move || {
            let (&size, rest) = left.split_first()?;
            // Cannot be cut short: the list has been checked.
            let (name, rest) = rest.split_at(rest.len().min(size.into()));
            left = rest;
            Some(name)
        })
    }
}

impl Subsection<'_> {
    /// Returns the name on the wire, such as `configuration/uuid`.
    pub const fn name(&self) -> &'static [u8] {
        match self {
            Subsection::TargetPageBits(_) => section::TARGET_PAGE_BITS,
            Subsection::Capabilities(_) => section::CAPABILITIES,
            Subsection::Uuid(_) => section::UUID,
        }
    }
}

impl SectionKind {
    /// Returns the byte that introduces the section.
    pub const fn byte(self) -> u8 {
        match self {
            SectionKind::Start => section::SECTION_START,
            SectionKind::Part => section::SECTION_PART,
            SectionKind::End => section::SECTION_END,
            SectionKind::Full => section::SECTION_FULL,
        }
    }

    /// Returns the name, such as `SECTION_START`.
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
    /// Returns the name of the section type, command or record, such as
    /// `SECTION_START`, `PING` or `ZERO`.
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

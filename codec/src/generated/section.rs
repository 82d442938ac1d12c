// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! The header of the forward stream, its section types, and the first bytes of
//! other channels.
//!
//! ```
//! use retpath_codec::wire::section;
//!
//! assert_eq!(section::MAGIC.to_be_bytes(), *b"QEVM");
//! assert_eq!(section::label(0x04), Some("SECTION_FULL"));
//! ```

/// End of the stream. In postcopy nothing follows; in precopy a VMDESCRIPTION
/// may follow.
///
/// `QEMU_VM_EOF`.
pub const EOF: u8 = 0x00;

/// First part of a section that is sent in several parts; for `ram` the list of
/// RAM blocks.
///
/// `QEMU_VM_SECTION_START`.
pub const SECTION_START: u8 = 0x01;

/// A further part; for `ram` pages.
///
/// `QEMU_VM_SECTION_PART`.
pub const SECTION_PART: u8 = 0x02;

/// The last part.
///
/// `QEMU_VM_SECTION_END`.
pub const SECTION_END: u8 = 0x03;

/// A section in one part: the state of a device.
///
/// `QEMU_VM_SECTION_FULL`.
pub const SECTION_FULL: u8 = 0x04;

/// Part of a device state or of the configuration, never a section of its own.
///
/// `QEMU_VM_SUBSECTION`.
pub const SUBSECTION: u8 = 0x05;

/// A description of all device states, as JSON. Behind EOF, in precopy only;
/// omitted by machine types 2.2 and earlier, and for Xen.
///
/// `QEMU_VM_VMDESCRIPTION`.
pub const VMDESCRIPTION: u8 = 0x06;

/// What the destination must be configured like. Directly behind the header,
/// with machine types 2.4 and later; subsections may follow, and nothing tells
/// how many.
///
/// `QEMU_VM_CONFIGURATION`.
pub const CONFIGURATION: u8 = 0x07;

/// A command; see the chapter on commands.
///
/// `QEMU_VM_COMMAND`.
pub const COMMAND: u8 = 0x08;

/// Ends a section, with machine types 2.4 and later.
///
/// `QEMU_VM_SECTION_FOOTER`.
pub const SECTION_FOOTER: u8 = 0x7e;

/// Binary logarithm of the target page size.
pub const TARGET_PAGE_BITS: &[u8] = b"configuration/target-page-bits";

/// Capabilities that must be equal on both sides.
pub const CAPABILITIES: &[u8] = b"configuration/capabilities";

/// The guest's UUID.
pub const UUID: &[u8] = b"configuration/uuid";

/// First four bytes of a forward stream: "QEVM".
pub const MAGIC: u32 = 0x5145564d;

/// Version of the stream.
pub const VERSION: u32 = 3;

/// First four bytes of a multifd channel.
pub const MULTIFD_MAGIC: u32 = 0x11223344;

/// Version of every subsection of the configuration.
pub const SUBSECTION_VERSION: u32 = 1;

/// Name of the `ram` section.
pub const RAM_NAME: &[u8] = b"ram";

/// Instance of the `ram` section.
pub const RAM_INSTANCE: u32 = 0;

/// Version of the `ram` section.
pub const RAM_VERSION: u32 = 4;

/// Name of the section with the dirty bitmaps of block devices.
pub const DIRTY_BITMAP_NAME: &[u8] = b"dirty-bitmap";

/// Payload of a `dirty-bitmap` section that has nothing to send.
pub const DIRTY_BITMAP_NOTHING: u8 = 0x01;

/// Label of a byte, if it has one.
pub fn label(byte: u8) -> Option<&'static str> {
    match byte {
        EOF => Some("EOF"),
        SECTION_START => Some("SECTION_START"),
        SECTION_PART => Some("SECTION_PART"),
        SECTION_END => Some("SECTION_END"),
        SECTION_FULL => Some("SECTION_FULL"),
        SUBSECTION => Some("SUBSECTION"),
        VMDESCRIPTION => Some("VMDESCRIPTION"),
        CONFIGURATION => Some("CONFIGURATION"),
        COMMAND => Some("COMMAND"),
        SECTION_FOOTER => Some("SECTION_FOOTER"),
        _ => None,
    }
}

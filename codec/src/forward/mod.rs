//! The forward stream: what the source of a migration sends.
//!
//! ```text
//!  "QEVM", version 3
//!  CONFIGURATION, subsections           not with machine types up to 2.3
//!  commands, sections                   in the order that [`Decoder`] checks
//!    SECTION_START ram                  list of RAM blocks
//!    SECTION_PART ram ...               RAM records
//!    COMMAND PACKAGED                   a nested stream: the device state
//!  EOF
//!  VMDESCRIPTION                        precopy only
//! ```
//!
//! A [`Decoder`] pulls one [`Event`] after the other from the front of a
//! slice. It does no I/O, holds no bytes of the stream and copies none: the
//! caller owns the buffer, keeps at least [`MAX_ITEM`] bytes of room in it, and
//! drops what an event has consumed. What has no length on the wire, device
//! state, comes in chunks of whatever is there, so a stream of any size is
//! decoded in constant memory.
//!
//! [`Event::encode`] is the mirror of [`Decoder::next`]; [`mod@write`] has the
//! pieces for a source that produces a stream.
//!
//! Nothing here panics, whatever the bytes. Memory grows only with RAM blocks
//! and sections that have arrived, up to the limits in [`Options`]. Judged here
//! is what the bytes alone show: order, lengths, names, offsets against the
//! RAM blocks. Whether every page has come, and none twice, is for the
//! destination to find.
//!
//! # Where device state ends
//!
//! The state of a device has no length: to skip it is to understand it. The
//! decoder understands none and looks for the footer that closes the section,
//! `7e` and the section's number, in front of something that may follow it.
//! Inside a package this only decides where one device ends and the next
//! begins; the package's own length is on the wire. In a precopy migration it
//! also decides where the stream ends, so a guest that can write these bytes
//! into a device could cut its own state short. Machine types without footers
//! (up to 2.3) leave nothing to look for: the rest of a package, up to the
//! PINGs and RUN at its end, or of a precopy stream, comes as the state of the
//! first device.

mod blocks;
mod command;
mod cursor;
mod decoder;
mod device;
#[cfg(feature = "encode")]
mod encode;
mod event;
mod fields;
mod head;
mod item;
mod options;
mod order;
mod owned;
mod package;
mod place;
pub mod ram;
mod record;
#[cfg(feature = "encode")]
pub mod write;

pub use blocks::{Block, BlockId};
pub use decoder::{Decoder, ResumeState};
pub use event::{Capabilities, Decoded, Event, Identity, SectionKind, Subsection};
pub use fields::EventView;
pub use options::Options;
pub use owned::EventBuf;

use crate::generated::MAX_NAME;
use crate::generated::ram::MAX_TARGET_PAGE;

/// Most bytes that an event other than a chunk takes, and most that must be in
/// the input for [`Decoder::next`] to make progress: a RAM record with the
/// longest name and a page of the largest size that was compressed in vain.
/// Holds for [`Options::max_machine_name`] up to 64 KiB.
pub const MAX_ITEM: usize = {
    assert!(MAX_TARGET_PAGE == 1 << 16, "the largest page, below");
    8 + 1 + MAX_NAME + 4 + ram::compress_bound(1 << 16)
};

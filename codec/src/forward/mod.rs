//! The forward stream, which the source of a migration sends.
//!
//! ```text
//!  "QEVM", version 3
//!  CONFIGURATION, subsections           not with machine types up to 2.3
//!  commands, sections                   in the order that Decoder checks
//!    SECTION_START ram                  block list
//!    SECTION_PART ram ...               RAM records
//!    COMMAND PACKAGED                   nested stream: the device state
//!  EOF
//!  VMDESCRIPTION                        precopy only
//! ```
//!
//! A [`Decoder`] returns one [`Event`] after the other from the start of a
//! slice. It does no I/O and stores no bytes of the stream: the caller owns the
//! buffer, which needs room for at least [`MAX_ITEM`] bytes, and removes the
//! bytes of each event. Device state, whose length is not in the stream, arrives
//! in chunks of any size, so memory does not grow with the stream.
//!
//! ```
//! use retpath_codec::DecodeError;
//! use retpath_codec::forward::{Decoded, Decoder, Event, Options, ram::Record};
//!
//! /// Counts the pages in a complete stream.
//! fn pages(mut stream: &[u8]) -> Result<u64, DecodeError> {
//!     let mut decoder = Decoder::new(Options::default());
//!     let mut pages = 0;
//!     while let Decoded::Event { event, size } = decoder.next(stream)? {
//!         if let Event::Record(Record::Page { .. } | Record::Zero { .. }) = event {
//!             pages += 1;
//!         }
//!         stream = &stream[size..];
//!     }
//!     decoder.finish(stream)?;
//!     Ok(pages)
//! }
//! # assert_eq!(pages(b"QEVM\0\0\0\x03\0"), Ok(0));
//! ```
//!
//! [`Event::encode`] is the reverse of [`Decoder::next`]; [`mod@write`] has
//! functions for a source that produces a stream. [`EventBuf`] is an event that
//! owns its bytes, [`EventView`] shows its fields.
//!
//! Nothing here panics. The decoder checks what the bytes alone show: order,
//! lengths, names, offsets within RAM blocks. It does not check that every page
//! arrives exactly once.
//!
//! Mirrors `savevm.c:qemu_loadvm_state_main` and `ram.c:ram_load`.
//!
//! # Memory and work
//!
//! Announced sizes and counts cause no allocation. What a peer can make a decoder
//! hold, with the default limits:
//!
//! | what | limit | memory at the limit |
//! |---|---|---|
//! | RAM blocks with names of 255 bytes | [`Options::max_blocks`] | 1.2 MB |
//! | sections | [`Options::max_sections`] | 3.7 MB |
//! | anything else | – | nothing |
//!
//! What the caller must hold for it is one incomplete item of at most [`MAX_ITEM`]
//! bytes; of device state at most 274 bytes, a footer and a section header that may
//! follow it. While an item is incomplete, each call examines its header again, less
//! than 1.1 KiB, but not its contents, so the work is linear in the size of the
//! stream. A record's block is found by binary search.
//!
//! # Where device state ends
//!
//! The payload of a device section has no length. The decoder does not interpret
//! it but searches for the footer of the section, `7e` and the section id,
//! followed by something that may follow a footer. In a package, this determines
//! only where one device ends and the next begins: the length of the package is
//! in the stream. In precopy it also determines where the stream ends, so a guest
//! that can put these bytes into the state of a device can truncate it. Machine
//! types up to 2.3 have no footers: the remainder of a package, up to PING and
//! POSTCOPY_RUN at its end, or of a precopy stream is returned as the state of
//! the first device.

mod blocks;
#[cfg(feature = "encode")]
mod buffer;
mod channel;
mod command;
mod cursor;
mod decoder;
mod device;
#[cfg(feature = "encode")]
mod encode;
mod event;
mod expected;
mod fields;
mod head;
mod item;
mod options;
mod order;
mod owned;
mod package;
pub mod ram;
mod record;
#[cfg(feature = "encode")]
pub mod write;

pub use blocks::{BlockIndex, StreamBlock};
pub use channel::ResumeState;
pub use decoder::Decoder;
pub use event::{Capabilities, Decoded, Event, Identity, SectionKind, Subsection};
pub use fields::EventView;
pub use options::Options;
pub use owned::EventBuf;

use crate::generated::MAX_NAME;
use crate::generated::ram::MAX_TARGET_PAGE;

/// Maximum size in bytes of an event that is not a chunk, and of the input that
/// [`Decoder::next`] needs to return an event.
///
/// It is the size of a RAM record with the longest name and an incompressible
/// page of the largest size. Holds for [`Options::max_machine_name`] up to 64 KiB.
pub const MAX_ITEM: usize = {
    assert!(MAX_TARGET_PAGE == 1 << 16, "the largest page, below");
    8 + 1 + MAX_NAME + 4 + ram::compress_bound(1 << 16)
};

//! An image: a machine at rest, as a folder that any tool can read.
//!
//! ```text
//!  NAME/
//!    manifest.json         what is here, and what was seen of the source
//!    ram-000-pc.ram.raw    one sparse file for each RAM block: byte n of the
//!    ram-001-....raw       file is byte n of the block, pages of zeros are holes
//!    device-state.bin      the devices' sections (SECTION_FULL with its head,
//!                          its state and its footer) as they stood in the stream
//!    early-state.bin       the same for those in front of the first page, if there are any
//!    description.json      QEMU's description of the device state, if there is one
//!    ram-000-pc.ram.sums   digests of a RAM block's pieces, one file for each
//! ```
//!
//! A [`Writer`] makes one, a [`Recorder`] feeds it from the events of a stream,
//! [`import()`] from a saved stream as a whole, and [`Image`] opens one to be
//! served.
//!
//! An image is made under a temporary name beside its own, `NAME.incomplete-PID`,
//! synced, and then renamed, so an image under its final name is complete. Data
//! received after the switch to postcopy stays in the temporary folder if the
//! process ends early, and another process can continue with it: see
//! [`Writer::make_resumable`]. A writer holds flock(2) on the folder and,
//! exclusively, on the RAM files; a reader holds the shared lock on the RAM files.
//!
//! An image has an identity, and digests of all its contents. Each piece of RAM is
//! compared with its digest before it is served, so changes to an image, at rest
//! or while it is served, are detected before a wrong byte is sent; [`verify()`]
//! compares all of it.
//!
//! Nothing here panics, whatever is in the files. A manifest is checked against
//! the limits of a machine before anything is allocated or opened by it.

mod backing_file;
mod digest;
mod error;
mod import;
mod manifest;
mod ram_file;
mod ram_reader;
mod reader;
mod recorder;
mod state_file;
mod sums;
mod tail;
mod temporary;
mod unfinished;
mod verify;
mod writer;

pub use digest::{Digest, Seal, SumsFile};
pub use error::Error;
pub use import::{ImportOptions, Imported, import};
pub use manifest::{Manifest, RamFile, Seen, Uuid};
pub use reader::Image;
pub use recorder::Recorder;
pub use temporary::{Leftover, LeftoverState, leftovers};
pub use unfinished::Unfinished;
pub use verify::{Difference, Verified, verify};
pub use writer::{Finished, Writer};

/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";

/// Name of the file with the devices' sections.
pub const DEVICE_STATE: &str = "device-state.bin";

/// Name of the file with the sections in front of the first page.
pub const EARLY_STATE: &str = "early-state.bin";

/// Name of the file with the description of the device state.
pub const DESCRIPTION: &str = "description.json";

/// Name of the file that makes an unfinished image one that can be finished.
const UNFINISHED: &str = "unfinished.json";

/// Version of the format that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

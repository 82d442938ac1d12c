//! Virtual machine images: a machine at rest, stored as a folder that any tool can read.
//!
//! ```text
//!  NAME/
//!    manifest.json         format version, RAM blocks, facts about the source
//!    ram-000-pc.ram.raw    one sparse file for each RAM block: byte n of the
//!    ram-001-....raw       file is byte n of the block; zero pages are holes
//!    device-state.bin      the device sections (SECTION_FULL with header, state and
//!                          footer) as encoded in the stream
//!    early-state.bin       the sections received before the first page, if any
//!    description.json      QEMU's description of the device state, if present
//!    ram-000-pc.ram.sums   digests of a RAM block's pieces, one file for each block with data
//! ```
//!
//! A [`Writer`] creates an image. A [`Recorder`] feeds it from the events of a live
//! stream, and [`import()`] from a saved stream. [`Image`] opens an image, for example to
//! serve it, and [`verify()`] checks one completely.
//!
//! # Examples
//!
//! Create an image with one page of data, verify it, and read the page back:
//!
//! ```
//! use std::path::Path;
//!
//! use retpath_codec::NameBuf;
//! use retpath_engine::blocks::Block;
//! use retpath_engine::source::PageSource;
//! use retpath_image::{Image, Recorder, Writer, verify};
//!
//! # fn example(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
//! let path = folder.join("vm");
//! let mut writer = Writer::new(&path)?;
//! let ram = Block { name: NameBuf::new("pc.ram")?, len: 1 << 20, page: 4096 };
//! let id = writer.block(&ram, 4096)?;
//! writer.write(id, 8192, &[7; 4096])?;
//! writer.finish(Recorder::new().facts())?;
//!
//! assert!(verify(&path, &mut |_done, _all| true)?.is_whole());
//!
//! let image = Image::open(&path)?;
//! let mut page = [0; 4096];
//! image.read(id, 8192, &mut page)?;
//! assert_eq!(page, [7; 4096]);
//! # Ok(())
//! # }
//! # let folder = tempfile::tempdir().unwrap();
//! # example(folder.path()).unwrap();
//! ```
//!
//! # Errors
//!
//! Every operation fails with [`Error`], which names the file and the cause. A changed
//! file is reported by [`Error::Changed`] or [`Error::Damaged`] instead of served.
//!
//! # Atomicity
//!
//! An image is written under a temporary name next to its own, `NAME.incomplete-PID`,
//! synced, and then renamed: an image under its final name is complete. Data received
//! after the switch to postcopy stays in the temporary folder if the process ends early,
//! and another process can continue with it: see [`Writer::make_resumable`]. A writer
//! holds flock(2) on the folder and, exclusively, on the RAM files; a reader holds the
//! shared lock on the RAM files. Beyond 128 RAM files, the others are open, and locked,
//! only while they are used, so that a few hundred descriptors are enough for any machine.
//!
//! # Access
//!
//! Guest memory is secret: folders have mode 0700 and files 0600, whatever the umask.
//! Files are opened under the folder's descriptor; a symbolic link, named pipe, device or
//! socket in the place of a file or a leftover folder is refused, or skipped, at once.
//!
//! # Integrity
//!
//! An image has an identity, and digests of all its contents. Each piece of RAM is
//! compared with its digest before it is served, so changes to an image, at rest or
//! while it is served, are detected before a wrong byte is sent.
//!
//! # Working sets
//!
//! A [`WorkingSet`] is a file beside an image: the order in which a machine that starts from it
//! first needs its pages. It is bound to the image's identity and has a checksum, and it only
//! saves time.
//!
//! # Limits
//!
//! Nothing here panics, whatever the files contain. A manifest is checked against the
//! limits of a machine before anything is allocated or opened because of it.

mod backing_file;
mod digest;
mod error;
mod folder;
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
mod working_set;
mod writer;

pub use digest::{Digest, Seal, SumsFile};
pub use error::{Error, shown};
pub use import::{ImportOptions, Imported, import};
pub use manifest::{Manifest, RamFile, Seen, Uuid};
pub use reader::Image;
pub use recorder::Recorder;
pub use sums::SumsFormat;
pub use temporary::{Leftover, LeftoverState, leftovers};
pub use unfinished::Unfinished;
pub use verify::{Difference, Verified, verify};
pub use working_set::{InvalidField, WorkingSet};
pub use writer::{Finished, Writer};

/// Maximum size in bytes of the device state, of the state received before the first
/// page, and of the description, each: the largest device state that a source can send.
///
/// A [`Writer`] refuses more with [`Error::StateLimit`], so that whatever was received or
/// imported can be served; so does [`Image::open`].
pub const MAX_DEVICE_STATE: u64 = retpath_engine::source::MAX_DEVICE_STATE;

/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";

/// Name of the file with the device sections.
pub const DEVICE_STATE: &str = "device-state.bin";

/// Name of the file with the device sections received before the first page.
pub const EARLY_STATE: &str = "early-state.bin";

/// Name of the file with the description of the device state.
pub const DESCRIPTION: &str = "description.json";

/// Name of the file that marks an unfinished image another process can finish.
const UNFINISHED: &str = "unfinished.json";

/// Format version, the only one that is written and read.
pub const VERSION: u64 = 1;

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! Interim.
mod error;
mod manifest;
mod reader;
pub use error::Error;
pub use manifest::{Manifest, RamFile, Seen, Uuid};
pub use reader::Image;
/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Name of the file with the devices' sections.
pub const DEVICE_STATE: &str = "device-state.bin";
/// Name of the file with the sections in front of RAM.
pub const EARLY_STATE: &str = "early-state.bin";
/// Name of the file with the description of the device state.
pub const DESCRIPTION: &str = "description.json";
/// Version of the format that is written, and the only one that is read.
pub const VERSION: u64 = 1;

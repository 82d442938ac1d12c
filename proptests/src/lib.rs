//! The properties of the engine, the image and the command, and strategies for those of the codec
//! beyond its own feature `proptest`.
//!
//! A property is a function over bytes, or over [`Choices`] made of bytes or a seed; it panics if
//! it does not hold. Tests and fuzz targets call it. No clock, no thread, and no file but those of
//! images.
//!
//! * [`destination`], [`source`]: a core against its model, and against any peer.
//! * [`link`]: both cores, joined by a bad link.
//! * [`image`], [`decode_cli`]: image folders, and what `retpath decode` prints.
//! * [`rows`]: values for the rows of the tables.
//! * [`misses`]: frames in which one thing is wrong.
//! * [`path`]: return paths of either dialect.
//! * [`guest`]: guests, and what a source makes of them.
//!
//! Everything here is for tests: what cannot be panics.

use proptest::test_runner::{Config, FileFailurePersistence};

mod choices;
mod decode;
pub mod destination;
pub mod guest;
mod image;
pub mod link;
pub mod misses;
pub mod path;
pub mod rows;
pub mod source;

pub use choices::Choices;
pub use decode::decode_cli;
pub use image::image;

/// How the properties are run: what fails once is kept in `file`, below this
/// package's folder, and tried first from then on.
pub fn config(file: &'static str) -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..Config::default()
    }
}

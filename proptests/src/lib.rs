//! Properties, models and strategies for the engine, the images and the command.
//!
//! A property is a function over bytes, or over [`Choices`] made of bytes or a
//! seed, that panics if it does not hold; tests and fuzz targets call it. The
//! properties use no clock, no thread, and no file except those of images. The
//! strategies extend the codec's own feature `proptest`.
//!
//! * [`destination`], [`source`]: a core against its model and against a hostile peer.
//! * [`link`]: both cores connected by an unreliable link.
//! * [`drivers`]: the loops around them, over simulated connections.
//! * [`image`], [`decode_cli`]: image folders, and the output of `retpath decode`.
//! * [`rows`]: field values for the rows of the message tables.
//! * [`mutate`]: frames with exactly one defect.
//! * [`path`]: return paths of either dialect.
//! * [`guest`]: guests and the events of their migration.

use proptest::test_runner::{Config, FileFailurePersistence};

mod choices;
mod decode;
pub mod destination;
pub mod drivers;
pub mod guest;
mod image;
pub mod link;
pub mod mutate;
pub mod path;
pub mod rows;
pub mod source;

pub use choices::Choices;
pub use decode::decode_cli;
pub use image::image;

/// Returns the proptest configuration: failing cases are stored in `file`,
/// relative to this package, and replayed first in later runs.
pub fn config(file: &'static str) -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..Config::default()
    }
}

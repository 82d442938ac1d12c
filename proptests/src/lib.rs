//! Strategies for the properties in `tests/`, beyond those that the codec's
//! feature `proptest` has for embedders.
//!
//! * [`rows`]: values for the rows of the tables.
//! * [`misses`]: frames in which one thing is wrong.
//! * [`path`]: return paths of either dialect.
//! * [`guest`]: guests, and what a source makes of them.
//!
//! Everything here is for tests: what cannot be panics.

use proptest::test_runner::{Config, FileFailurePersistence};

pub mod guest;
pub mod misses;
pub mod path;
pub mod rows;

/// How the properties are run: what fails once is kept in `file`, below this
/// package's folder, and tried first from then on.
pub fn config(file: &'static str) -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..Config::default()
    }
}

//! Support for tests against the kernel, other programs and QEMU: child processes with time limits,
//! hostile and well-behaved peers, saved streams, and a QEMU harness.
//!
//! Every wait is bounded; when it expires, the test fails with everything known about the program it
//! waited for.

#![allow(missing_docs)] // used only by this workspace's tests

use std::env;
use std::path::PathBuf;
use std::time::Duration;

pub mod clones;
pub mod harm;
pub mod harness;
pub mod kernel;
pub mod loops;
pub mod program;
pub mod qemu;
pub mod receiver;
pub mod recorded;
pub mod saved_stream;
pub mod sinks;
pub mod small_image;
pub mod wire;

/// Limit for operations that normally finish at once; generous for a loaded machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Returns the path of the `retpath` command built together with the running test.
pub fn retpath() -> PathBuf {
    let test = env::current_exe().expect("test executable has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    folder.join("retpath")
}

/// Returns the path of a file or folder in `corpus/`.
pub fn corpus(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../corpus")).join(path)
}

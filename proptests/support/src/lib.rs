//! What the tests against the kernel, against other programs and against QEMU share: child
//! processes under a time limit, hostile and honest peers, saved streams, and the ground on which
//! `retpath` meets real QEMU. Every wait is bounded, and fails with all that is known about the
//! program waited for.

#![allow(missing_docs)] // of use to this workspace's tests only

use std::env;
use std::path::PathBuf;
use std::time::Duration;

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

/// How long a test waits for something that takes a moment: far more than a busy machine needs.
pub const SOON: Duration = Duration::from_secs(60);

/// The `retpath` command that was built with the test that runs.
pub fn retpath() -> PathBuf {
    let test = env::current_exe().expect("the test knows its own path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    folder.join("retpath")
}

/// A file or folder of `corpus/`.
pub fn corpus(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../corpus")).join(path)
}

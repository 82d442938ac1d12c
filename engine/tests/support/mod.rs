//! What the tests that start other programs share: child processes under a time limit, and the
//! ground on which `retpath` meets real QEMU. Every wait is bounded, and fails with all that is
//! known about the program waited for.

#![allow(dead_code, unused_imports)] // each test program uses its part

#[cfg(feature = "image")]
pub(crate) mod harm;
pub(crate) mod program;
pub(crate) mod qemu;
#[cfg(feature = "image")]
pub(crate) mod recorded;
#[cfg(feature = "cli")]
pub(crate) mod sinks;
#[cfg(feature = "image")]
pub(crate) mod small_image;

use std::time::Duration;

/// How long a test waits for something that takes a moment: far more than a busy machine needs.
pub(crate) const SOON: Duration = Duration::from_secs(60);

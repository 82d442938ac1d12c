//! QEMU postcopy page service: both ends of the switch, as cores that decide
//! and loops that move bytes.
//!
//! A core has no file descriptor, no clock, no thread and no lock: events go
//! in, decisions come out, and tests turn its crank.

#![deny(unsafe_code)]
// They panic where an output is closed or full: see `cli::output`.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

#[cfg(all(feature = "driver", not(target_os = "linux")))]
compile_error!(
    "the features `driver` and `uffd` need Linux; the protocol cores build without them"
);

pub use retpath_codec as codec;

pub mod bits;
pub mod blocks;
#[cfg(feature = "driver")]
pub mod channel;
#[cfg(feature = "check")]
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod destination;
#[cfg(feature = "uffd")]
pub mod doctor;
#[cfg(feature = "image")]
pub mod image;
#[cfg(feature = "driver")]
#[allow(unsafe_code)]
pub mod memory;
pub mod pages;
pub mod release;
#[cfg(feature = "driver")]
pub mod run;
pub mod source;
pub mod stats;
#[cfg(feature = "uffd")]
#[allow(unsafe_code)]
pub mod uffd;
pub mod virtio_mem;
pub mod zero;

/// Converts a `usize` to `u64`. Lossless: no supported target has a wider `usize`.
pub(crate) fn wide(n: usize) -> u64 {
    n as u64
}

/// A connection of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The first one: the whole forward stream, and the return path backwards.
    Main,
    /// The one for urgent pages: bare RAM records, one way.
    Preempt,
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Channel::Main => "main",
            Channel::Preempt => "preempt",
        })
    }
}

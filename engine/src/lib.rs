//! QEMU postcopy page service: both ends of the switch, as cores that decide
//! and loops that move bytes.
//!
//! A core has no file descriptor, no clock, no thread and no lock: events go
//! in, decisions come out, and tests turn its crank.

#![deny(unsafe_code)]
// They panic where an output is closed or full.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

#[cfg(not(target_os = "linux"))]
compile_error!("retpath-engine needs Linux: userfaultfd, memfd and hugetlbfs are Linux's");

#[cfg(feature = "uffd")]
pub mod driver;
#[allow(unsafe_code)]
pub mod memory;
pub mod protocol;
pub mod socket;
#[cfg(feature = "uffd")]
#[allow(unsafe_code)]
pub mod uffd;

pub use protocol::{
    Channel, bits, blocks, destination, pages, release, source, stats, virtio_mem, zero,
};

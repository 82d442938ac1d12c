//! QEMU postcopy page service: both ends of the switch, as cores that decide
//! and loops that move bytes.
//!
//! A core has no file descriptor, no clock, no thread and no lock: events go
//! in, decisions come out, and tests turn its crank.

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("retpath-engine needs Linux: userfaultfd, memfd and hugetlbfs are Linux's");

pub mod bits;
pub mod blocks;
pub mod channel;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "uffd")]
pub mod doctor;
#[allow(unsafe_code)]
pub mod memory;
pub mod pages;
#[cfg(feature = "uffd")]
#[allow(unsafe_code)]
pub mod uffd;

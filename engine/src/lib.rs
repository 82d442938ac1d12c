//! QEMU postcopy page service: both ends of the switch, as cores that decide
//! and loops that move bytes.
//!
//! A core has no file descriptor, no clock, no thread and no lock: events go
//! in, decisions come out, and tests turn its crank.

pub mod bits;
pub mod blocks;
pub mod pages;
pub mod source;
pub mod zero;

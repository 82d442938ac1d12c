//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

pub mod qemu;
pub mod v7;
pub mod command;
#[allow(dead_code, reason = "not every constant of the table is used")]
pub mod capability;
#[allow(dead_code, reason = "not every constant of the table is used")]
pub mod ram;
#[allow(dead_code, reason = "not every constant of the table is used")]
pub mod section;
#[allow(dead_code, reason = "not every constant of the table is used")]
pub mod value;
#[cfg(feature = "arbitrary")]
mod arbitrary;
#[cfg(feature = "proptest")]
mod proptest;
#[cfg(feature = "serde")]
mod serde;

pub use value::{BITMAP_ALIGN, BITMAP_END};

/// Longest RAM block name, in bytes.
pub const MAX_NAME: usize = 255;

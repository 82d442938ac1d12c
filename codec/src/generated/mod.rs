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

/// Longest RAM block name, in bytes.
pub const MAX_NAME: usize = 255;

/// Last eight bytes of a received bitmap.
pub const BITMAP_END: u64 = 0x0123456789abcdef;

/// The size of a received bitmap is a multiple of this many bytes.
pub const BITMAP_ALIGN: u64 = 8;

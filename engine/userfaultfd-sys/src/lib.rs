//! The Linux userfaultfd ABI: numbers, flags and layouts, and nothing that runs.
//!
//! The crate of this name on crates.io makes the same items with bindgen while it is built, which
//! needs libclang and the kernel's headers. This one is written out, so that the crate
//! `userfaultfd` 0.9 builds unchanged wherever Rust does; the top `Cargo.toml` puts it in place
//! with `[patch.crates-io]`. It also knows the newer kernels: `MOVE`, `POISON`, `WP_ASYNC`.
//!
//! Every struct is in the byte order of the machine, as the kernel reads it. Sizes, field offsets
//! and ioctl numbers are asserted when the crate is compiled, and compared with a copy generated
//! from the kernel's headers in `tests/headers.rs`. Nothing here can fail or panic.
//!
//! The manual pages are userfaultfd(2) and ioctl_userfaultfd(2).

#![no_std]
#![forbid(unsafe_code)]
// The names are the kernel's, so that the manual pages and a search find them.
#![allow(non_camel_case_types, non_upper_case_globals)]

mod layout;
mod number;

pub use layout::*;
pub use number::*;

//! The Linux userfaultfd ABI: numbers, flags and layouts, and nothing that runs.
//!
//! A stand-in for the crate of this name on crates.io, which generates the same items with bindgen
//! and so needs libclang. The crate `userfaultfd` 0.9 builds unchanged on top of this one wherever
//! Rust does. A workspace selects it with `[patch.crates-io]`:
//!
//! ```toml
//! [patch.crates-io]
//! userfaultfd-sys = { git = "URL of the retpath repository" }
//! ```
//!
//! Every struct is in the byte order of the machine, as the kernel reads it. Sizes, field offsets
//! and ioctl numbers are asserted when the crate is compiled, and compared with a copy generated
//! from the kernel's headers in `tests/headers.rs`.
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

//! The properties of the codec, as functions of bytes.
//!
//! Fuzz targets, property tests and the tests of this crate call them. Each accepts
//! any bytes and panics if a property does not hold. They are deterministic.
//!
//! ```
//! use retpath_codec::{Qemu, check};
//!
//! check::frame::<Qemu>(&[0, 2, 0, 4, 0, 0, 0, 1]);
//! ```

mod forward;
mod frame;
mod oracle;
mod stream;
pub mod target;

#[cfg(test)]
mod tests;

pub use forward::{forward, split_forward};
pub use frame::{borrows, canonical, frame, prefixes, value};
pub use oracle::oracle;
pub use stream::{split, stream, trailer};

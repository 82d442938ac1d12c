//! The properties of the codec, as plain functions over bytes: fuzz targets,
//! proptests and the codec's own tests call them.
//!
//! Each takes any bytes whatever, and panics if a property does not hold for
//! them; that is its only result. No randomness, no state.

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

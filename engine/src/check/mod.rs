//! The properties of the engine, as plain functions over bytes: fuzz targets,
//! proptests and the engine's own tests call them.
//!
//! Each takes any bytes whatever, and panics if a property does not hold for
//! them; that is its only result. No randomness, no clock, no file.

#[cfg(feature = "cli")]
mod decode;

#[cfg(feature = "cli")]
pub use decode::decode_cli;

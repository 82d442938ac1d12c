//! The properties of the engine, as plain functions over bytes: fuzz targets,
//! proptests and the engine's own tests call them.
//!
//! Each takes any bytes whatever, or [`Choices`] made of bytes or a seed, and
//! panics if a property does not hold; that is its only result. No clock, no
//! thread, and no file but those of images.

mod choices;
#[cfg(feature = "cli")]
mod decode;
pub mod destination;
#[cfg(feature = "image")]
mod image;
pub mod link;
pub mod source;

pub use choices::Choices;
#[cfg(feature = "cli")]
pub use decode::decode_cli;
#[cfg(feature = "image")]
pub use image::image;

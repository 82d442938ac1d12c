//! One parser and one serializer for each kind of field in the tables.
//!
//! * [`parse`]: nom. A parser consumes exactly its field.
//! * [`write`]: cookie-factory. A serializer writes exactly its field.
//!
//! The two mirror each other, and only they know what a kind of field looks like
//! on the wire. [`input`], [`combinator`] and [`output`] fit the two libraries to
//! this crate: an input, an error and a sink of our own, and those combinators
//! again whose originals cost too much. Neither library appears in a public
//! signature.

pub(crate) mod combinator;
pub(crate) mod input;
#[cfg(feature = "encode")]
pub(crate) mod output;
pub(crate) mod parse;
#[cfg(feature = "encode")]
pub(crate) mod write;

#[cfg(test)]
mod tests;

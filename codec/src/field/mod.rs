//! One parser and one serializer for each kind of field in the tables.
//!
//! * [`parse`]: nom. A parser consumes exactly its field.
//! * [`write`]: cookie-factory. A serializer writes exactly its field.
//!
//! The two mirror each other; the wire format of a kind of field is defined only
//! there. [`input`], [`combinator`] and [`output`] adapt the two libraries to this
//! crate: its own input, error and sink types, and inlined versions of those
//! combinators that are too slow. Neither library appears in a public signature.

pub(crate) mod combinator;
pub(crate) mod input;
#[cfg(feature = "encode")]
pub(crate) mod output;
pub(crate) mod parse;
#[cfg(feature = "encode")]
pub(crate) mod write;

#[cfg(test)]
mod tests;

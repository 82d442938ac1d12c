//! Messages: encoding, decoding, errors, streams, serde and tokio.

#[path = "../samples/mod.rs"]
mod samples;

mod print;
mod refusals;
mod serde;
mod stream;
mod tokio;
mod values;
mod vectors;

//! Messages: written, read, refused, in pieces and in other forms.

#[path = "../samples/mod.rs"]
mod samples;

mod print;
mod refusals;
mod serde;
mod stream;
mod tokio;
mod values;
mod vectors;

//! Writes the committed outputs from the tables: one file here for each output.
//!
//! Everything is plain text in final form, so that its freshness does not
//! depend on a formatter's version.

#![forbid(unsafe_code)]

extern crate alloc;

pub mod codec;
pub mod dict;
pub mod messages;
pub mod section;
pub mod seed;
pub mod session;
pub mod stream;
pub mod text;
pub mod tree;
pub mod wireshark;

use alloc::string::String;
use alloc::vec::Vec;

/// One committed file.
pub struct Output {
    /// Path from the top of the repository.
    pub path: String,
    /// Its whole contents.
    pub bytes: Vec<u8>,
}

/// Every output, in order of its path.
pub fn outputs() -> Vec<Output> {
    let mut outputs = codec::outputs();
    outputs.extend(dict::outputs());
    outputs.extend(seed::outputs());
    outputs.push(messages::output());
    outputs.push(wireshark::output());
    outputs.extend(section::outputs());
    outputs.sort_by(|a, b| a.path.cmp(&b.path));
    outputs
}

/// The line that says where a file comes from, behind `comment`.
pub fn notice(comment: &str) -> String {
    alloc::format!(
        "{comment} Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.\n"
    )
}

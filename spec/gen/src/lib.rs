//! Generates the committed outputs from the tables, one module per output.
//!
//! Outputs are text in final form, so that a check for staleness does not depend
//! on the version of a formatter.

#![forbid(unsafe_code)]

pub mod codec;
pub mod constants;
pub mod dict;
pub mod messages;
pub mod seed;
pub mod session;
pub mod stream;
pub mod text;
pub mod tree;
pub mod wireshark;

/// One committed file.
pub struct Output {
    /// Path from the top of the repository.
    pub path: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// All outputs, in order of their paths.
pub fn outputs() -> Vec<Output> {
    let mut outputs = codec::outputs();
    outputs.extend(dict::outputs());
    outputs.extend(seed::outputs());
    outputs.push(messages::output());
    outputs.push(wireshark::output());
    outputs.extend(constants::outputs());
    outputs.sort_by(|a, b| a.path.cmp(&b.path));
    outputs
}

/// The line that names a file's origin, as a comment with this prefix.
pub fn notice(comment: &str) -> String {
    format!(
        "{comment} Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.\n"
    )
}

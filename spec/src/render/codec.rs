//! `codec/src/generated/*.rs`.

use alloc::vec::Vec;

use super::Output;

/// The generated part of the codec.
pub fn outputs() -> Vec<Output> {
    Vec::new()
}

//! The tables: every fact about the wire, as rows.

pub mod behavior;
pub mod capability;
pub mod command;
pub mod ram;
pub mod return_path;
pub mod stream;

use crate::model::Dialect;

/// Every set of framed messages.
pub const DIALECTS: &[&Dialect] = &[&return_path::QEMU, &return_path::V7, &command::COMMAND];

//! QEMU's migration return path, its command set and its RAM records, as data.
//!
//! Every fact about the wire is written once, in [`table`]; everything else in
//! the workspace that knows a number, a length or an order got it from there:
//! the codec (`codec/src/generated`), the reference (`spec/MESSAGES.md`), the
//! Wireshark dissector, the fuzzing dictionaries and the seed corpus are all
//! written by `cargo rp-gen` (`spec/gen`).
//!
//! [`oracle`] interprets a table directly. It shares no code with the codec,
//! which is tested against it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod invariants;
pub mod model;
pub mod oracle;
pub mod sample;
pub mod table;

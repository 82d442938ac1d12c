//! QEMU's migration return path, its commands and its RAM records, as tables.
//!
//! [`table`] states every fact about the wire once. `cargo rp-gen` (`spec/gen`)
//! generates everything else that needs a number, a length or an order: the
//! codec (`codec/src/generated`), the reference (`spec/MESSAGES.md`), the
//! Wireshark dissector, the fuzzing dictionaries and the seed corpus.
//!
//! [`oracle`] interprets the tables directly. It shares no code with the codec,
//! which is tested against it. [`sample`] derives sample values from the rows.
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

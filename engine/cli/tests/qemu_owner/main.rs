//! Who owns the guest: everything that can fail in a live migration, at every point where it makes
//! a difference. Each row of the table in SECURITY.md is a test here: it brings a real QEMU to that
//! point, lets the failure happen, compares the state that QEMU is in then, does what the row says
//! makes the guest run, and sees it run with its memory as it was.
//!
//! The rows are in `rows.rs`; the table is rendered from them:
//!
//!     RETPATH_BLESS=1 cargo test -p retpath --test qemu_owner table

mod doc;
mod receive;
mod rows;
mod serve;
mod table;

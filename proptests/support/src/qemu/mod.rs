//! Test harness for `retpath` with real QEMU.
//!
//! A [`Machine`] describes how QEMU is started, a [`Qemu`] is a running process, and a [`Relay`]
//! connects two sides of a migration. QEMU runs with `-accel tcg`, so no KVM is needed; it is
//! `qemu-system-x86_64` from `PATH`, or the program that `RETPATH_QEMU` names. The guest is the boot
//! sector `guest.S`, which checks its memory in a loop and reports on the serial port.
//!
//! Under TCG, a guest write that races with a scan of the dirty bitmap may be missing from the stream
//! (seen with 7.2 on a loaded machine: the stopped source has it, the stream does not). A later write
//! to the page repairs it. Tests that compare memory therefore stop the guest before precopy; before
//! postcopy, they let no precopy round end.
//!
//! Tests that use this module are ignored with a reason, so that a machine without QEMU reports what
//! it did not test; `.ci/run` installs QEMU and runs them.

pub mod ground;
pub mod guest;
mod hold;
pub mod image;
pub mod machine;
pub mod memory;
pub mod migration;
pub mod pair;
pub mod process;
pub mod qmp;
pub mod relay;
pub mod stream;
pub mod types;
pub mod virtio_mem;

pub use guest::Guest;
pub use image::Image;
pub use machine::{Backing, Machine, Ram};
pub use migration::Blocktime;
pub use pair::Pair;
pub use process::Qemu;
pub use relay::Relay;

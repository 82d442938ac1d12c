//! The ground on which `retpath` meets real QEMU.
//!
//! A [`Machine`] says what QEMU is started with, a [`Qemu`] is one that runs, a [`Relay`] stands
//! between two sides of a migration. QEMU runs with `-accel tcg`, so any machine will do; it is
//! `qemu-system-x86_64` from the path, or the program that `RETPATH_QEMU` names. The guest is a boot
//! sector of our own, `guest.S`, that checks its memory without end and says so on the serial port.
//!
//! A guest that runs on TCG may lose a write that meets a look at the dirty pages (seen with 7.2 on
//! a busy machine: the stopped source has it, the stream does not). It heals when the page is
//! written again before the guest stops. So stop the guest before a precopy that counts; before a
//! postcopy, let no round of precopy end.
//!
//! Tests that use it are ignored with a reason, so that a machine without QEMU says what it did
//! not test; `.ci/run` installs QEMU and runs them.

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

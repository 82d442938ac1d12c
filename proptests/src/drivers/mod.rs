//! The loops of both sides as they are, over simulated connections and in simulated time.
//!
//! ```text
//!   source's core ─┐                              ┌─ destination's core
//!   strangers     ─┼─▶ driver::receive   driver::serve ◀─┴─ hostile bytes
//!   hostile bytes ─┘
//! ```
//!
//! The other end of a loop is the core of the other side, so a run needs one thread only
//! and is repeated exactly by the same decisions. It acts between the turns of the loop, in
//! the loop's own poll(2): bytes arrive in pieces, connections break in several ways, and
//! time passes.

mod guest;
mod hostile;
mod net;
mod receive;
mod receiver;
mod sender;
mod serve;

use peak_alloc::PeakAlloc;

pub use receive::{receive, received};
pub use serve::{serve, served};

const SECOND: u64 = 1_000_000_000;

/// How long a loop may run once everything is closed, in nanoseconds: more than all of its
/// deadlines together.
const END: u64 = 60 * SECOND;

/// Maximum amount of RAM that a hostile source can announce, in bytes.
const MAX_RAM: u64 = 1 << 30;

/// Maximum number of bytes that a run allocates: 16 MiB, and 3 bits for each page. A
/// migration of this size needs 1.5 MB; floods fill up to 10 MiB of the simulated network.
pub const MEMORY: usize = (16 << 20) + ((MAX_RAM / 1024 * 3 / 8) as usize);

/// Runs a property, and asserts that it never allocates more than [`MEMORY`].
///
/// # Panics
///
/// Panics if it does, or if the property does not hold.
pub fn bounded(allocated: &PeakAlloc, run: impl FnOnce()) {
    let before = allocated.current_usage();
    allocated.reset_peak_usage();
    run();
    let peak = allocated.peak_usage().saturating_sub(before);
    assert!(peak <= MEMORY, "{peak} bytes were allocated");
}

fn done(resumes: u64) -> Outcome {
    match resumes {
        0 => Outcome::Done,
        _ => Outcome::Recovered,
    }
}

/// How a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The migration is complete.
    Done,
    /// The migration is complete, and was resumed before that.
    Recovered,
    /// The migration failed, and the guest has not run at the destination; or the peer was
    /// hostile.
    Failed,
}

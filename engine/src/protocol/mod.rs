//! The protocol's cores: what each end of a migration decides.
//!
//! Nothing here has a file descriptor, a clock, a thread or a lock: events go in, decisions come
//! out, and the embedder, or [`crate::driver`], carries them out. Time is a number of nanoseconds
//! that the caller passes.

pub mod bits;
pub mod blocks;
pub mod destination;
pub(crate) mod page_set;
pub mod pages;
pub mod release;
pub mod source;
pub mod stats;
pub mod virtio_mem;
pub mod zero;

/// A connection of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The first one: the whole forward stream, and the return path backwards.
    Main,
    /// The one for urgent pages: bare RAM records, one way.
    Preempt,
}

impl Channel {
    /// Its index in arrays of both.
    pub(crate) const fn index(self) -> usize {
        match self {
            Channel::Main => 0,
            Channel::Preempt => 1,
        }
    }
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Channel::Main => "main",
            Channel::Preempt => "preempt",
        })
    }
}

// Offsets in a block are `u64`, lengths in memory `usize`.
const _: () = assert!(usize::BITS <= u64::BITS);

/// A length in memory as a number of the wire: lossless, by the assertion above.
#[doc(hidden)]
pub const fn wide(len: usize) -> u64 {
    len as u64
}

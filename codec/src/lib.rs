//! Codec for QEMU's migration return path, and for what postcopy page service
//! needs of the forward stream.
//!
//! * [`decode`] reads one message from a slice and says [`Decoded::Need`] when
//!   the slice is too short. It needs neither std nor an allocator, and borrows
//!   block names from the input.
//! * [`stream`] (feature `alloc`) takes bytes in any split and yields the same
//!   messages, and the received bitmaps that follow RECV_BITMAP.
//! * [`forward`] (feature `alloc`) does the same for the forward stream:
//!   header, sections, commands, RAM records.
//! * [`Encode`] (feature `encode`) writes messages.
//!
//! The wire format is described in `spec/MESSAGES.md`. Two dialects of the
//! return path exist, and the bytes do not say which one is spoken: the caller
//! chooses [`Qemu`] or [`V7`].
//!
//! No input makes this crate panic, and no number that a peer sends makes it
//! allocate: memory grows with the data that has arrived, up to a limit that
//! the caller sets.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "encode")]
extern crate std;

pub mod bitmap;
mod error;
#[cfg(feature = "alloc")]
pub mod forward;
mod frame;
#[rustfmt::skip]
mod generated;
mod name;
mod prim;
mod ranges;
mod rule;
mod sentence;
#[cfg(feature = "alloc")]
pub mod stream;

#[cfg(feature = "encode")]
pub use error::EncodeError;
pub use error::{DecodeError, Rule};
#[cfg(feature = "encode")]
pub use frame::Encode;
pub use frame::{Decoded, Dialect, Trailer, Value, decode};
pub use generated::qemu::{Message, Qemu};
pub use generated::v7::{self, V7};
#[cfg(feature = "alloc")]
pub use name::NameBuf;
pub use name::{BlockName, Name};

pub mod command {
    //! The commands of the forward stream, framed like the return path's
    //! messages behind a section byte of 0x08.

    pub use crate::generated::command::{Command, Commands};
    #[cfg(feature = "alloc")]
    pub use crate::ranges::RangeBuf;
    pub use crate::ranges::{PageSizes, Range, RangeList, Ranges};
}

pub mod wire {
    //! Constants of the forward stream.

    pub use crate::generated::{ram, section};
}

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

#[cfg(feature = "arbitrary")]
pub mod arbitrary;
pub mod bitmap;
#[cfg(feature = "check")]
pub mod check;
mod error;
mod fit;
mod frame;
#[rustfmt::skip]
#[allow(unreachable_pub, reason = "this file says what of it is public")]
mod generated;
mod name;
#[cfg(feature = "encode")]
pub mod near;
mod num;
mod prim;
#[cfg(feature = "proptest")]
pub mod proptest;
mod ranges;
#[cfg(feature = "serde")]
mod serde;
#[cfg(feature = "alloc")]
pub mod stream;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use error::{DecodeError, EncodeError, Rule};
#[cfg(feature = "encode")]
pub use frame::Encode;
pub use frame::{Decoded, Dialect, decode};
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

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
//!
//! # One message
//!
//! ```
//! use retpath_codec::{Decoded, Encode, Message, Name, Qemu, decode};
//!
//! let block = Name::new(b"pc.ram")?;
//! let request = Message::ReqPagesId { start: 0x331_6000, len: 4096, block };
//! let mut bytes = Vec::new();
//! request.encode(&mut bytes)?;
//! assert_eq!(bytes[..4], [0, 3, 0, 19]);
//!
//! // Nineteen bytes of payload are announced, and not there.
//! assert_eq!(decode::<Qemu>(&bytes[..4]), Ok(Decoded::Need(19)));
//!
//! bytes.extend([0, 7, 0, 0]);
//! let Ok(Decoded::Message { message, rest }) = decode::<Qemu>(&bytes) else {
//!     panic!("a whole message");
//! };
//! assert_eq!(message, request);
//! assert_eq!(decode::<Qemu>(rest), Ok(Decoded::Message { message: Message::SwitchoverAck, rest: &[] }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A stream
//!
//! ```
//! use retpath_codec::stream::{Item, Stream};
//! use retpath_codec::{Message, Qemu};
//!
//! // No bitmap may be larger than that of 16 MiB in pages of 4 KiB.
//! let mut stream = Stream::<Qemu>::new(retpath_codec::bitmap::size(4096));
//! let mut messages = Vec::new();
//! for chunk in [&[0, 2, 0][..], &[4, 0, 0, 0, 1, 0], &[1, 0, 4, 0, 0, 0, 0]] {
//!     let mut input = chunk;
//!     while let Some(item) = stream.next(&mut input)? {
//!         match item {
//!             Item::Message { message, .. } => messages.push(message.into_owned()),
//!             Item::Bitmap { bitmap, .. } => println!("{bitmap:?}"),
//!         }
//!     }
//! }
//! stream.finish()?;
//! assert_eq!(messages, [Message::Pong { value: 1 }, Message::Shut { value: 0 }]);
//! # Ok::<(), retpath_codec::DecodeError>(())
//! ```
//!
//! # Bytes that are no message
//!
//! ```
//! use retpath_codec::{Qemu, decode};
//!
//! let error = decode::<Qemu>(&[0, 6, 0, 4, 0, 0, 0, 0]).unwrap_err();
//! assert_eq!((error.offset, error.field), (4, Some("value")));
//! assert_eq!(
//!     error.to_string(),
//!     "offset 4 (0x4), RESUME_ACK, field `value`: is 0, must be 1 [value]"
//! );
//! ```
//!
//! # Features
//!
//! | feature | what it adds | with it |
//! |---|---|---|
//! | `alloc` | owned values, incremental decoders | |
//! | `encode` (default) | writing, nearly valid frames | std, `alloc`, cookie-factory |
//! | `serde` | `Serialize`, `Deserialize` | `alloc`, serde |
//! | `arbitrary` | `Arbitrary` | std, `alloc`, arbitrary |
//! | `proptest` | strategies | std, `alloc`, proptest |
//! | `tokio` | a `Decoder` and `Encoder` of `tokio_util` | `encode`, tokio-util |
//! | `check` | the properties that the tests check | `encode`, `arbitrary`, retpath-spec |
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
#[cfg(feature = "alloc")]
pub mod forward;
mod frame;
#[rustfmt::skip]
#[allow(unreachable_pub, reason = "this file says what of it is public")]
mod generated;
mod field;
mod name;
#[cfg(feature = "encode")]
pub mod near;
mod num;
#[cfg(feature = "proptest")]
pub mod proptest;
mod ranges;
mod rule;
mod sentence;
#[cfg(feature = "serde")]
mod serde;
#[cfg(feature = "alloc")]
pub mod stream;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use error::{DecodeError, EncodeError, Rule};
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
    //! Constants of the protocol: names of capabilities, RAM record flags,
    //! section types, and values of messages.

    pub use crate::generated::{capability, ram, section, value};
}

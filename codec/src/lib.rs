//! Codec for QEMU's migration return path and for the forward stream of
//! postcopy migration.
//!
//! In a postcopy migration the guest runs on the destination before its memory
//! has arrived. The destination requests missing pages over the *return path*;
//! the source sends them, with the rest of the guest, over the *forward stream*.
//! This crate reads and writes both. It does no I/O.
//!
//! ```text
//!        source                                         destination
//!  ┌─────────────────────────┐   forward stream    ┌─────────────────────────┐
//!  │ forward::write, Command │ ──────────────────▶ │ forward::Decoder        │
//!  │                         │    RAM, devices     │     yields Event        │
//!  │ stream::Stream          │                     │                         │
//!  │     yields Item         │ ◀────────────────── │ Message, bitmap         │
//!  └─────────────────────────┘     return path     └─────────────────────────┘
//!                               requests, bitmaps
//! ```
//!
//! | to | use | feature |
//! |---|---|---|
//! | decode one message or command from a slice | [`decode`] | none: no std, no allocator |
//! | decode a return path that arrives in pieces | [`stream::Stream`] | `alloc` |
//! | decode a forward stream | [`forward::Decoder`] | `alloc` |
//! | encode messages, commands, bitmaps | [`Encode`], [`bitmap`] | `encode` |
//! | write a forward stream | [`forward::write`] | `encode` |
//! | use either with tokio | [`tokio`] | `tokio` |
//! | print or store messages as JSON | [`json`] | `serde` |
//! | print names and other text from a peer | [`escape::Escaped`] | none |
//!
//! The byte layout of each message, with the QEMU function that reads and writes
//! it, is in `spec/MESSAGES.md` in the repository.
//!
//! # Quick start
//!
//! ```
//! use retpath_codec::{Decoded, Encode, Message, Name, Qemu, decode};
//!
//! // A destination requests the page at 0x3316000 of the block "pc.ram".
//! let block = Name::new(b"pc.ram")?;
//! let mut bytes = Vec::new();
//! Message::req_pages_id(0x331_6000, 4096, block).encode(&mut bytes)?;
//!
//! // The source decodes it. `rest` is the input after the message.
//! let Decoded::Message { message, rest, .. } = decode::<Qemu>(&bytes)? else {
//!     panic!("the message is complete");
//! };
//! assert_eq!(message, Message::ReqPagesId { start: 0x331_6000, len: 4096, block });
//! assert!(rest.is_empty());
//!
//! // Incomplete input: 19 bytes of payload are missing.
//! assert_eq!(decode::<Qemu>(&bytes[..4])?, Decoded::Need(19));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A return path
//!
//! A [`Stream`](stream::Stream) takes input that is split anywhere, and reads the
//! received bitmap that follows a RECV_BITMAP:
//!
//! ```
//! use retpath_codec::stream::{Item, Stream};
//! use retpath_codec::{Message, Qemu, bitmap};
//!
//! // Accept bitmaps of up to 16 MiB of RAM in pages of 4 KiB.
//! let mut stream = Stream::<Qemu>::new(bitmap::size(4096));
//! let mut messages = Vec::new();
//! for chunk in [&[0, 2, 0][..], &[4, 0, 0, 0, 1, 0], &[1, 0, 4, 0, 0, 0, 0]] {
//!     let mut input = chunk;
//!     while let Some(item) = stream.next(&mut input)? {
//!         match item {
//!             Item::Message { message, .. } => messages.push(message.into_owned()),
//!             Item::Bitmap { bitmap, .. } => println!("{} pages received", bitmap.received()),
//!         }
//!     }
//! }
//! stream.finish()?;
//! assert_eq!(messages, [Message::Pong { value: 1 }, Message::Shut { value: 0 }]);
//! # Ok::<(), retpath_codec::DecodeError>(())
//! ```
//!
//! # Dialects
//!
//! [`Qemu`] is the return path of every released QEMU (2.5 to 11.1), [`V7`] that
//! of a draft of June 2015, and [`command::Commands`] the commands of the forward
//! stream. The bytes do not identify the dialect; the caller chooses it.
//!
//! # Errors
//!
//! Incomplete input is not an error but [`Decoded::Need`]. A [`DecodeError`] says
//! where the input is malformed; an [`EncodeError`] says which value the receiver
//! would refuse. Both carry the broken [`Rule`]:
//!
//! ```
//! use retpath_codec::{Qemu, Rule, decode};
//!
//! let error = decode::<Qemu>(&[0, 6, 0, 4, 0, 0, 0, 0]).unwrap_err();
//! assert_eq!(error.rule, Rule::Value { got: 0, want: 1 });
//! assert_eq!(
//!     error.to_string(),
//!     "offset 4 (0x4), RESUME_ACK, field `value`: is 0, must be 1 [value]"
//! );
//! ```
//!
//! The protocol cannot resynchronise. After an error, close the connection: the
//! incremental decoders return the same error from then on.
//! [`Rule::is_peer_fault`] separates protocol violations from limits of the
//! caller.
//!
//! # Guarantees
//!
//! * No input panics. The crate has no `unsafe` code.
//! * No number sent by a peer determines an allocation: memory grows with the
//!   data that has arrived, up to limits that the caller sets.
//! * Decoding is strict: what is decoded can be encoded, to the same bytes.
//!
//! # Features
//!
//! | feature | adds | requires |
//! |---|---|---|
//! | `alloc` | owned values, incremental decoders | an allocator |
//! | `encode` (default) | encoding | `alloc`, std, cookie-factory |
//! | `serde` | `Serialize`, `Deserialize` | `alloc`, serde |
//! | `tokio` | `Decoder` and `Encoder` of tokio-util | `encode`, tokio-util |
//! | `arbitrary` | `Arbitrary` for messages | `alloc`, std, arbitrary |
//! | `proptest` | strategies for messages | `alloc`, std, proptest |
//! | `mutate` | frames with a defect, for tests | `encode` |
//! | `check` | the properties that the tests and fuzz targets check | `mutate`, `arbitrary`, retpath-spec |
//!
//! Types of other crates appear only in the API of the feature named after them.
//! [`Message`] and [`command::Command`] are exhaustive on purpose: a new message
//! needs a decision of every program that handles messages.
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
#[cfg(feature = "encode")]
mod encode;
mod error;
pub mod escape;
#[cfg(feature = "alloc")]
pub mod forward;
mod frame;
#[rustfmt::skip]
#[allow(unreachable_pub, reason = "this file decides what is public")]
mod generated;
mod field;
#[cfg(feature = "mutate")]
pub mod mutate;
mod name;
mod num;
#[cfg(feature = "proptest")]
pub mod proptest;
mod ranges;
mod rule;
#[cfg(feature = "serde")]
mod serde;
#[cfg(feature = "alloc")]
pub mod stream;
#[cfg(feature = "tokio")]
pub mod tokio;
mod validate;

#[cfg(feature = "encode")]
pub use encode::Encode;
pub use error::{DecodeError, EncodeError, Rule};
pub use frame::{Decoded, Dialect, Trailer, Value, decode};
pub use generated::qemu::{Message, Qemu};
pub use generated::v7::{self, V7};
#[cfg(feature = "alloc")]
pub use name::NameBuf;
pub use name::{BlockName, Name};

pub mod command {
    //! Commands of the forward stream.
    //!
    //! ```text
    //!  offset  size  field
    //!       0  1     0x08
    //!       1  2     command number, big-endian
    //!       3  2     payload length in bytes, big-endian
    //!       5  ...   payload
    //! ```
    //!
    //! Commands are framed like messages, after the section byte 0x08. Mirrors
    //! `savevm.c:loadvm_process_command`.
    //!
    //! ```
    //! use retpath_codec::command::{Command, Commands, Range, Ranges};
    //! use retpath_codec::{Decoded, Encode, Name, decode};
    //!
    //! let ranges = [Range::new(0x1000, 0x2000)?];
    //! let block = Name::new(b"pc.ram")?;
    //! let discard = Command::postcopy_ram_discard(block, Ranges::new(&ranges)?);
    //! let mut bytes = Vec::new();
    //! discard.encode(&mut bytes)?;
    //!
    //! let decoded = decode::<Commands>(&bytes)?;
    //! assert!(matches!(decoded, Decoded::Message { message, .. } if message == discard));
    //! # Ok::<(), Box<dyn std::error::Error>>(())
    //! ```

    pub use crate::generated::command::{Command, Commands};
    #[cfg(feature = "alloc")]
    pub use crate::ranges::RangeBuf;
    pub use crate::ranges::{PageSizes, Range, RangeList, Ranges};
}

pub mod wire {
    //! Constants of the protocol, from the tables in `retpath-spec`: capability names,
    //! RAM record flags, section types, values of messages.
    //!
    //! ```
    //! use retpath_codec::wire::{ram, section};
    //!
    //! assert_eq!(section::MAGIC.to_be_bytes(), *b"QEVM");
    //! assert_eq!(ram::label(ram::ZERO), Some("ZERO"));
    //! ```

    pub use crate::generated::{capability, ram, section, value};
}

#[cfg(feature = "serde")]
#[doc = include_str!("../JSON.md")]
pub mod json {}

/// Tests the examples of the README.
#[cfg(all(doctest, feature = "encode"))]
#[doc = include_str!("../README.md")]
struct Readme;

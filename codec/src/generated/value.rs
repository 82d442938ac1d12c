// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! Values of messages and commands that have a name.
//!
//! ```
//! use retpath_codec::wire::value;
//! use retpath_codec::{Decoded, Message, Qemu, Trailer, decode};
//!
//! // SHUT without an error of the destination.
//! let shut = Decoded::Message {
//!     message: Message::Shut { value: value::SHUT_SUCCESS },
//!     trailer: Trailer::End,
//!     rest: &[],
//! };
//! assert_eq!(decode::<Qemu>(&[0, 1, 0, 4, 0, 0, 0, 0])?, shut);
//! # Ok::<(), retpath_codec::DecodeError>(())
//! ```

/// Every page arrived.
///
/// Value of SHUT.
pub const SHUT_SUCCESS: u32 = 0;

/// The destination failed; QEMU's source treats every value but 0 like this.
///
/// Value of SHUT.
pub const SHUT_FAILURE: u32 = 1;

/// The destination is ready.
///
/// Value of RESUME_ACK.
pub const RESUME_ACK_READY: u32 = 1;

/// Behind OPEN_RETURN_PATH.
///
/// Value of PING.
pub const PING_OPENED: u32 = 1;

/// In front of PACKAGED.
///
/// Value of PING.
pub const PING_BEFORE_PACKAGE: u32 = 2;

/// In the package, behind the device states.
///
/// Value of PING.
pub const PING_IN_PACKAGE: u32 = 3;

/// Behind the package.
///
/// Value of PING.
pub const PING_AFTER_PACKAGE: u32 = 4;

/// In the package, in front of POSTCOPY_RUN: its PONG confirms that the
/// destination has loaded the device states.
///
/// Value of PING. Since 10.2.
pub const PING_PACKAGE_LOADED: u32 = 0x42;

/// Last eight bytes of a received bitmap.
pub const BITMAP_END: u64 = 0x0123456789abcdef;

/// The size of a received bitmap is a multiple of this many bytes.
pub const BITMAP_ALIGN: u64 = 8;

/// Most ranges that QEMU writes into one POSTCOPY_RAM_DISCARD.
pub const DISCARD_RANGES: usize = 12;

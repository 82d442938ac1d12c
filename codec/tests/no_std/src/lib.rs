//! The parser in a program without std and allocator.
//!
//! `codec/tests/no_std.rs` builds this as a static library with `--cfg proof`.
//! Linking it fails with std, because of two panic handlers, and with alloc, because
//! of a missing allocator.
#![no_std]
#![forbid(unsafe_code)]

use retpath_codec::bitmap;
use retpath_codec::command::Commands;
use retpath_codec::{DecodeError, Decoded, Dialect, Qemu, V7, decode};

/// Decodes a message and counts its fields.
fn read<D: Dialect>(bytes: &[u8]) -> Result<(&'static str, usize), DecodeError> {
    match decode::<D>(bytes)? {
        Decoded::Need(_) => Ok(("", 0)),
        Decoded::Message { message, .. } => {
            let mut fields = 0;
            D::fields(&message, &mut |_, _| fields += 1);
            Ok((D::label(&message), fields))
        }
    }
}

/// `read` for each dialect, exported.
pub fn read_all(bytes: &[u8]) -> [Result<(&'static str, usize), DecodeError>; 3] {
    [
        read::<Qemu>(bytes),
        read::<V7>(bytes),
        read::<Commands>(bytes),
    ]
}

/// Counts the received pages of a bitmap.
pub fn received(bytes: &[u8]) -> Result<u64, DecodeError> {
    match bitmap::decode(bytes, u64::MAX)? {
        Decoded::Need(_) => Ok(0),
        Decoded::Message { message, .. } => Ok(message.received()),
    }
}

#[cfg(proof)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

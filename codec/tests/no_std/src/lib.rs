//! The parser in a program that has neither std nor an allocator.
//!
//! `codec/tests/no_std.rs` builds this as a static library with `--cfg proof`.
//! Such a library is final: with std anywhere below it there are two panic
//! handlers, with alloc there is no allocator, and either is an error.
#![no_std]
#![forbid(unsafe_code)]

use retpath_codec::bitmap;
use retpath_codec::command::Commands;
use retpath_codec::{DecodeError, Decoded, Dialect, Qemu, V7, decode};

/// What is at the start of the bytes, and how many fields it has.
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

/// As `read` of each dialect, for whoever links this.
pub fn read_all(bytes: &[u8]) -> [Result<(&'static str, usize), DecodeError>; 3] {
    [
        read::<Qemu>(bytes),
        read::<V7>(bytes),
        read::<Commands>(bytes),
    ]
}

/// How many pages the bitmap at the start of the bytes has.
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

//! Encoding messages into vectors, slices and writers.

use std::io;
use std::vec::Vec;

use crate::error::{EncodeError, Rule};
use crate::field::output::{Refused, Room, Sink, Written};
use crate::frame::{MAX_FRAME, sealed};

/// Writes messages.
///
/// Only the frame is written. A RECV_BITMAP must be followed by its bitmap
/// ([`bitmap::encode`](crate::bitmap::encode)), a PACKAGED by its package.
///
/// ```
/// use retpath_codec::{Encode, Message};
///
/// let pong = Message::pong(1);
///
/// let mut vec = Vec::new();
/// pong.encode(&mut vec)?;
///
/// let mut array = [0; 8];
/// assert_eq!(pong.encode_into(&mut array)?, 8);
/// assert_eq!(vec, array);
///
/// // A socket, a file or any other `std::io::Write`, in one write.
/// let mut socket = std::io::sink();
/// pong.encode_to(&mut socket)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Encode: sealed::Sealed {
    /// Appends the message's frame to `out`.
    ///
    /// # Errors
    ///
    /// Fails when a value breaks a rule that the receiver checks; `out` is then
    /// unchanged.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Writes the message's frame to the start of `out` and returns its size.
    ///
    /// # Errors
    ///
    /// As [`Encode::encode`], and [`Rule::NoRoom`] when `out` is too small, after
    /// which its contents are unspecified.
    fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError>;

    /// Writes the message's frame to `out` with one call of `write_all`.
    ///
    /// Does not flush. Frames of the return path are not allocated for.
    ///
    /// # Errors
    ///
    /// Fails with [`io::ErrorKind::InvalidInput`](std::io::ErrorKind) and an
    /// [`EncodeError`] as in [`Encode::encode`] before anything is written, or
    /// with the error of `out`.
    fn encode_to(&self, out: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        let mut frame = [0; MAX_FRAME];
        match self.encode_into(&mut frame) {
            Ok(size) => out.write_all(&frame[..size]),
            // Only discard ranges can make a frame longer.
            Err(EncodeError {
                rule: Rule::NoRoom, ..
            }) => {
                let mut frame = Vec::new();
                self.encode(&mut frame)?;
                out.write_all(&frame)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes to the start of a slice and returns the number of bytes written.
#[inline(always)]
pub(crate) fn into_slice<'a>(
    out: &'a mut [u8],
    write: impl FnOnce(Sink<Room<'a>>) -> Written<Room<'a>>,
) -> Result<usize, Refused> {
    let size = out.len();
    let left = write(Sink::from(Room(out)))?;
    Ok(size - left.write.0.len())
}

/// Makes the error for a message that was not written: the rule that it
/// breaks, or that the slice is too small.
#[cold]
#[inline(never)]
pub(crate) fn invalid<M, T>(
    message: &M,
    check: impl FnOnce(&M) -> Result<(), EncodeError>,
    label: impl FnOnce(&M) -> &'static str,
) -> Result<T, EncodeError> {
    check(message)?;
    Err(EncodeError::new(label(message), None, Rule::NoRoom))
}

//! The targets that a forward stream is written to.

use core::mem;
use std::io;
use std::vec::Vec;

use cookie_factory::SerializeFn;

use crate::encode::Encode;
use crate::error::{EncodeError, Rule};
use crate::field::output::Sink;

/// What the functions of [`write`](mod@super::write) append to.
///
/// A `Vec<u8>`, with the feature `tokio` also a `BytesMut`, a slice by means of
/// [`SliceBuffer`], or any [`std::io::Write`] by means of [`IoBuffer`].
pub trait Buffer: sealed::Sealed {
    /// Appends bytes, which may be a part of an item.
    #[doc(hidden)]
    fn put(&mut self, bytes: &[u8]);

    /// Ends an item.
    #[doc(hidden)]
    fn end_item(&mut self) {}

    /// Appends a command.
    #[doc(hidden)]
    fn command(&mut self, command: &impl Encode) -> Result<(), EncodeError> {
        let mut frame = Vec::new();
        command.encode(&mut frame)?;
        self.put(&frame);
        self.end_item();
        Ok(())
    }
}

pub(super) mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for Vec<u8> {}
impl Buffer for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn command(&mut self, command: &impl Encode) -> Result<(), EncodeError> {
        command.encode(self)
    }
}

#[cfg(feature = "tokio")]
impl sealed::Sealed for tokio_util::bytes::BytesMut {}
#[cfg(feature = "tokio")]
impl Buffer for tokio_util::bytes::BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A slice to write a forward stream to.
///
/// Whether all of it fitted is asked once, at the end:
///
/// ```
/// use retpath_codec::Rule;
/// use retpath_codec::forward::write::{self, SliceBuffer};
///
/// let mut bytes = [0; 9];
/// let mut out = SliceBuffer::new(&mut bytes);
/// write::header(&mut out);
/// write::eof(&mut out);
/// assert_eq!(out.finish(), Ok(9));
///
/// let mut out = SliceBuffer::new(&mut bytes[..8]);
/// write::header(&mut out);
/// write::eof(&mut out);
/// assert_eq!(out.finish(), Err(Rule::NoRoom));
/// ```
#[derive(Debug)]
#[must_use = "`finish` returns whether the slice was large enough"]
pub struct SliceBuffer<'a> {
    free: &'a mut [u8],
    written: usize,
    is_full: bool,
}

impl<'a> SliceBuffer<'a> {
    /// Makes a buffer that writes from the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self {
            free: out,
            written: 0,
            is_full: false,
        }
    }

    /// Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// [`Rule::NoRoom`] when the slice is too small; its contents are then
    /// unspecified.
    pub fn finish(self) -> Result<usize, Rule> {
        match self.is_full {
            true => Err(Rule::NoRoom),
            false => Ok(self.written),
        }
    }
}

impl sealed::Sealed for SliceBuffer<'_> {}
impl Buffer for SliceBuffer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if self.is_full || bytes.len() > self.free.len() {
            self.is_full = true;
            return;
        }
        let (to, free) = mem::take(&mut self.free).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        self.free = free;
        self.written += bytes.len();
    }
}

/// An [`io::Write`] to write a forward stream to.
///
/// Every item is written with one call of `write_all`, so a socket or a file needs
/// no buffer in between. The first error is kept and nothing is written after it:
///
/// ```
/// use retpath_codec::forward::write::{self, IoBuffer};
///
/// let mut out = IoBuffer::new(std::io::sink());
/// write::header(&mut out);
/// write::eof(&mut out);
/// out.finish()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "`finish` returns the error of writing"]
pub struct IoBuffer<W> {
    out: W,
    /// The item that is being appended.
    item: Vec<u8>,
    error: Option<io::Error>,
}

impl<W: io::Write> IoBuffer<W> {
    /// Makes a buffer that writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            item: Vec::new(),
            error: None,
        }
    }

    /// Returns the writer; does not flush it.
    ///
    /// # Errors
    ///
    /// The first error of the writer.
    pub fn finish(self) -> io::Result<W> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.out),
        }
    }
}

impl<W: io::Write> sealed::Sealed for IoBuffer<W> {}
impl<W: io::Write> Buffer for IoBuffer<W> {
    fn put(&mut self, bytes: &[u8]) {
        self.item.extend_from_slice(bytes);
    }

    fn end_item(&mut self) {
        if self.error.is_none() {
            self.error = self.out.write_all(&self.item).err();
        }
        self.item.clear();
    }
}

/// Makes a buffer fit cookie-factory. It takes all that is written to it.
pub(super) struct Put<'a, B>(&'a mut B);

impl<B: Buffer> io::Write for Put<'_, B> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends an item.
#[inline]
pub(super) fn append<'a, B: Buffer>(out: &'a mut B, item: impl SerializeFn<Put<'a, B>>) {
    let ended = item(Sink::from(Put(out))).map(|sink| sink.write.0.end_item());
    debug_assert!(ended.is_ok(), "a buffer takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_buffer_accepts_every_write_and_flush() {
        let mut bytes = Vec::new();
        let mut put = Put(&mut bytes);
        assert_eq!(put.write(&[1, 2]).unwrap(), 2);
        put.flush().unwrap();
        assert_eq!(bytes, [1, 2]);
    }
}

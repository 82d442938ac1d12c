//! Incremental decoder of a return path: input in any split in, messages out.
//!
//! A [`Stream`] does no I/O. It stores at most one incomplete frame, of up to 516
//! bytes, and the received bitmap that is arriving, of up to the limit that the
//! caller sets. The memory for a bitmap grows with the bytes that have arrived, not
//! with the announced size, and is freed by the call after the one that returned the
//! bitmap. The items do not depend on
//! how the input is split. After an error, every call returns the same error: the
//! protocol cannot resynchronise.
//!
//! ```
//! use retpath_codec::Qemu;
//! use retpath_codec::stream::{Item, Stream};
//!
//! let mut stream = Stream::<Qemu>::new(0);
//! let mut input = &[0, 2, 0, 4, 0, 0, 0, 1, 0, 6][..];
//! while let Some(item) = stream.next(&mut input)? {
//!     if let Item::Message { offset, message } = item {
//!         println!("{offset}: {message:?}");
//!     }
//! }
//! // The input ended inside the second message.
//! assert_eq!(stream.finish().unwrap_err().rule.name(), "cut-short");
//! # Ok::<(), retpath_codec::DecodeError>(())
//! ```

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem;

use crate::bitmap::{self, Bitmap};
use crate::error::{DecodeError, Rule};
use crate::frame::{Decoded, Dialect, MAX_FRAME, Trailer, decode};
use crate::num::wide;

/// Incremental decoder of a return path.
#[derive(Clone, Debug)]
pub struct Stream<D> {
    progress: Progress,
    /// The first bytes of an incomplete frame.
    held: [u8; MAX_FRAME],
    len: usize,
    /// Minimum number of bytes that are missing from that frame.
    missing: usize,
    /// The received part of size field, bitmap and end mark.
    trailer: Vec<u8>,
    limit: u64,
    dialect: PhantomData<D>,
}

/// The position in the stream.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Offset of the current item, in bytes.
    offset: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a frame.
    Fresh,
    /// Inside a frame.
    Held,
    /// Before or inside the size field of a bitmap.
    Size,
    /// Inside a trailer of `whole` bytes, after its size field.
    Bitmap { whole: usize },
    /// Before a frame, after a bitmap that was returned.
    Seen,
    /// After the last message.
    Ended,
    /// After an error.
    Broken(DecodeError),
}

/// An item of a return path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a, M> {
    /// A message. After RECV_BITMAP, the next item is its bitmap.
    Message {
        /// Offset of the frame, in bytes from the start of the stream.
        offset: u64,
        /// The message.
        message: M,
    },
    /// The bitmap of the preceding RECV_BITMAP.
    Bitmap {
        /// Offset of the size field, in bytes from the start of the stream.
        offset: u64,
        /// The bitmap.
        bitmap: Bitmap<'a>,
    },
}

/// An [`Item`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBuf<M> {
    /// A message. After RECV_BITMAP, the next item is its bitmap.
    Message {
        /// Offset of the frame, in bytes from the start of the stream.
        offset: u64,
        /// The message.
        message: M,
    },
    /// The bitmap of the preceding RECV_BITMAP.
    Bitmap {
        /// Offset of the size field, in bytes from the start of the stream.
        offset: u64,
        /// The bytes of the bitmap, for [`Bitmap::new`].
        bytes: Vec<u8>,
    },
}

impl<D: Dialect> Stream<D> {
    /// Makes a decoder for a return path from its beginning. Received bitmaps of
    /// more than `limit` bytes are refused; see [`Stream::limit_bitmap`].
    pub fn new(limit: u64) -> Self {
        const {
            assert!(
                D::HEADER + D::MAX_PAYLOAD <= MAX_FRAME,
                "not a dialect of the return path"
            )
        };
        Self {
            progress: Progress {
                offset: 0,
                state: State::Fresh,
            },
            held: [0; MAX_FRAME],
            len: 0,
            missing: 0,
            trailer: Vec::new(),
            limit,
            dialect: PhantomData,
        }
    }

    /// Sets the maximum size of bitmaps in bytes, from the next size field on.
    ///
    /// A caller that knows the RAM block sets [`bitmap::size`] of its pages when
    /// it receives the RECV_BITMAP.
    pub fn limit_bitmap(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Returns the number of bytes consumed, including those of an incomplete
    /// item; after an error, the offset in the error.
    pub fn offset(&self) -> u64 {
        let partial = match self.progress.state {
            State::Held => self.len,
            State::Size | State::Bitmap { .. } => self.trailer.len(),
            State::Broken(error) => return error.offset,
            State::Fresh | State::Seen | State::Ended => 0,
        };
        self.progress.offset + wide(partial)
    }

    /// Decodes the next item and advances `input` past its bytes. Returns `None`
    /// when `input` is consumed and more is needed.
    ///
    /// # Errors
    ///
    /// Fails when the input is malformed. Every later call returns the same
    /// error.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        match self.progress.state {
            State::Fresh => self.fresh(input),
            State::Held => self.held(input),
            State::Size => self.size(input),
            State::Bitmap { whole } => self.bitmap(whole, input),
            State::Seen => {
                self.trailer = Vec::new();
                self.progress.state = State::Fresh;
                self.fresh(input)
            }
            State::Ended if input.is_empty() => Ok(None),
            State::Ended => {
                Err(self
                    .progress
                    .broken(DecodeError::new(0, None, None, Rule::AfterShut)))
            }
            State::Broken(error) => Err(error),
        }
    }

    /// As [`Stream::next`], with an item that owns its bytes.
    ///
    /// # Errors
    ///
    /// As [`Stream::next`].
    pub fn next_owned(
        &mut self,
        input: &mut &[u8],
    ) -> Result<Option<ItemBuf<D::Owned>>, DecodeError> {
        Ok(self.next(input)?.map(|item| match item {
            Item::Message { offset, message } => ItemBuf::Message {
                offset,
                message: D::into_owned(message),
            },
            Item::Bitmap { offset, bitmap } => ItemBuf::Bitmap {
                offset,
                bytes: bitmap.as_bytes().into(),
            },
        }))
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    ///
    /// [`Rule::CutShort`] when the stream ends inside an item, or the error of
    /// [`Stream::next`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        let (message, have, need) = match self.progress.state {
            State::Fresh | State::Seen | State::Ended => return Ok(()),
            State::Broken(error) => return Err(error),
            State::Held => (None, self.len, self.missing),
            State::Size => {
                let have = self.trailer.len();
                (Some(bitmap::LABEL), have, bitmap::SIZE_FIELD - have)
            }
            State::Bitmap { whole } => {
                let have = self.trailer.len();
                (Some(bitmap::LABEL), have, whole - have)
            }
        };
        Err(DecodeError::new(
            self.progress.offset,
            message,
            None,
            Rule::CutShort { have, need },
        ))
    }

    /// Decodes a frame from its first byte, usually without copying it.
    fn fresh<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        let whole: &'a [u8] = input;
        let decoded = decode::<D>(whole);
        match decoded {
            Ok(Decoded::Message { rest, .. }) => *input = &input[whole.len() - rest.len()..],
            Ok(Decoded::Need(_)) if whole.is_empty() => {}
            Ok(Decoded::Need(need)) => {
                self.progress.state = State::Held;
                self.missing = whole.len();
                self.hold(input);
                self.missing = need;
            }
            Err(_) => {}
        }
        self.progress.settle::<D>(decoded, whole)
    }

    /// Decodes a frame whose first bytes were stored.
    fn held<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        loop {
            self.hold(input);
            if self.missing > 0 {
                return Ok(None);
            }
            match decode::<D>(&self.held[..self.len]) {
                Ok(Decoded::Need(need)) => self.missing = need,
                _ => break,
            }
        }
        // Decoded again because the loop cannot lend the frame to the caller.
        let frame = &self.held[..mem::take(&mut self.len)];
        self.progress.settle::<D>(decode::<D>(frame), frame)
    }

    /// Moves missing bytes from the input to the stored frame.
    fn hold(&mut self, input: &mut &[u8]) {
        let (now, later) = input.split_at(self.missing.min(input.len()));
        self.held[self.len..self.len + now.len()].copy_from_slice(now);
        self.len += now.len();
        self.missing -= now.len();
        *input = later;
    }

    /// Reads the size field of a bitmap.
    fn size<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        if !self.collect(bitmap::SIZE_FIELD, input) {
            return Ok(None);
        }
        match bitmap::measure(&self.trailer, self.limit) {
            Ok(whole) => {
                self.progress.state = State::Bitmap { whole };
                self.bitmap(whole, input)
            }
            Err(error) => Err(self.progress.broken(error)),
        }
    }

    /// Reads a trailer of `whole` bytes.
    fn bitmap<'a, 'i: 'a>(
        &'a mut self,
        whole: usize,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        if !self.collect(whole, input) {
            return Ok(None);
        }
        match bitmap::open(&self.trailer) {
            Ok(bitmap) => {
                let offset = self.progress.offset;
                self.progress.offset += wide(whole);
                self.progress.state = State::Seen;
                Ok(Some(Item::Bitmap { offset, bitmap }))
            }
            Err(error) => Err(self.progress.broken(error)),
        }
    }

    /// Moves bytes from the input to the trailer until it has `whole` bytes, and
    /// returns whether it has. Its memory at most doubles, up to `whole` bytes.
    fn collect(&mut self, whole: usize, input: &mut &[u8]) -> bool {
        let trailer = &mut self.trailer;
        let (now, later) = input.split_at((whole - trailer.len()).min(input.len()));
        if trailer.capacity() - trailer.len() < now.len() {
            let room = (trailer.capacity() * 2).clamp(trailer.len() + now.len(), whole);
            trailer.reserve_exact(room - trailer.len());
        }
        trailer.extend_from_slice(now);
        *input = later;
        trailer.len() == whole
    }
}

impl Progress {
    /// Turns a decoded frame into an item and moves past it.
    fn settle<'a, D: Dialect>(
        &mut self,
        decoded: Result<Decoded<'a, D::Message<'a>>, DecodeError>,
        whole: &[u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        match decoded {
            Ok(Decoded::Message {
                message,
                trailer,
                rest,
            }) => {
                self.state = match trailer {
                    Trailer::Bitmap => State::Size,
                    Trailer::End => State::Ended,
                    Trailer::None | Trailer::Package(_) => State::Fresh,
                };
                let offset = self.offset;
                self.offset += wide(whole.len() - rest.len());
                Ok(Some(Item::Message { offset, message }))
            }
            Ok(Decoded::Need(_)) => Ok(None),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Stores an error, with its offset in the stream.
    #[cold]
    fn broken(&mut self, error: DecodeError) -> DecodeError {
        let error = error.based(self.offset);
        self.state = State::Broken(error);
        error
    }
}

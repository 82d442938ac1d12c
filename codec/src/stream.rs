//! The return path as a stream: bytes in any split in, messages out.
//!
//! Sans-IO. A [`Stream`] holds at most one incomplete frame, and the received
//! bitmap that is arriving. The bitmap's memory grows with the bytes that have
//! arrived, never with the size that the peer announces, never beyond the
//! limit, and is given back once the bitmap has been looked at. How the input
//! is split makes no difference to what comes out. After an error the stream
//! stays broken: the protocol offers no way to find the next message.

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
    place: Place,
    /// The start of a frame whose rest has not arrived.
    held: [u8; MAX_FRAME],
    len: usize,
    /// At least this many bytes of that frame have not arrived.
    missing: usize,
    /// Size field, bitmap and end mark, as far as they have arrived.
    trailer: Vec<u8>,
    limit: u64,
    dialect: PhantomData<D>,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Bytes in front of the item that is arriving.
    offset: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A frame is next.
    Fresh,
    /// The start of a frame is held.
    Held,
    /// A bitmap's size field is next, or has arrived in part.
    Size,
    /// The size field, and perhaps more, of a trailer of `whole` bytes has
    /// arrived.
    Bitmap { whole: usize },
    /// A bitmap has been handed out; a frame is next.
    Seen,
    /// Nothing may follow.
    Ended,
    /// The peer broke the protocol.
    Broken(DecodeError),
}

/// What a return path consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a, M> {
    /// A message. The bitmap of a RECV_BITMAP is the next item.
    Message {
        /// Where its frame starts, in bytes from the start of the stream.
        offset: u64,
        /// The message.
        message: M,
    },
    /// The bitmap that belongs to the message before.
    Bitmap {
        /// Where its size field is, in bytes from the start of the stream.
        offset: u64,
        /// The bitmap.
        bitmap: Bitmap<'a>,
    },
}

/// An [`Item`] that owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBuf<M> {
    /// A message. The bitmap of a RECV_BITMAP is the next item.
    Message {
        /// Where its frame starts, in bytes from the start of the stream.
        offset: u64,
        /// The message.
        message: M,
    },
    /// The bitmap that belongs to the message before.
    Bitmap {
        /// Where its size field is, in bytes from the start of the stream.
        offset: u64,
        /// The bitmap's bytes, for [`Bitmap::new`].
        bytes: Vec<u8>,
    },
}

impl<D: Dialect> Stream<D> {
    /// Starts at the beginning of a stream. A received bitmap may have at most
    /// `limit` bytes; see [`Stream::limit_bitmap`].
    pub fn new(limit: u64) -> Self {
        const { assert!(D::HEADER + D::MAX_PAYLOAD <= MAX_FRAME, "no return path") };
        Self {
            place: Place {
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

    /// Sets the limit, in bytes, for bitmaps whose size has not been read yet.
    /// A caller that knows the block sets [`bitmap::size`] of its pages when
    /// it gets the RECV_BITMAP message.
    pub fn limit_bitmap(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Bytes of the stream consumed so far, those of an incomplete item
    /// included; after an error the offset that the error names.
    pub fn offset(&self) -> u64 {
        let partial = match self.place.state {
            State::Held => self.len,
            State::Size | State::Bitmap { .. } => self.trailer.len(),
            State::Broken(error) => return error.offset,
            State::Fresh | State::Seen | State::Ended => 0,
        };
        self.place.offset + wide(partial)
    }

    /// The next item, taken from the front of `input`; `None` when `input` has
    /// been used up and more is needed.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol; every later call fails the same way.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        match self.place.state {
            State::Fresh => self.fresh(input),
            State::Held => self.held(input),
            State::Size => self.size(input),
            State::Bitmap { whole } => self.bitmap(whole, input),
            State::Seen => {
                self.trailer = Vec::new();
                self.place.state = State::Fresh;
                self.fresh(input)
            }
            State::Ended if input.is_empty() => Ok(None),
            State::Ended => {
                Err(self
                    .place
                    .broken(DecodeError::new(0, None, None, Rule::AfterShut)))
            }
            State::Broken(error) => Err(error),
        }
    }

    /// As [`Stream::next`], with a copy of what the item borrows.
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

    /// Says that the stream has ended.
    ///
    /// # Errors
    ///
    /// It ended inside an item, with [`Rule::CutShort`], or had already failed.
    pub fn finish(&self) -> Result<(), DecodeError> {
        let (message, have, need) = match self.place.state {
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
            self.place.offset,
            message,
            None,
            Rule::CutShort { have, need },
        ))
    }

    /// A frame of which nothing has been seen: most are read where they are.
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
                self.place.state = State::Held;
                self.missing = whole.len();
                self.hold(input);
                self.missing = need;
            }
            Err(_) => {}
        }
        self.place.settle::<D>(decoded, whole)
    }

    /// A frame whose start is held.
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
        // Once more, now that the frame may be lent to the caller.
        let frame = &self.held[..mem::take(&mut self.len)];
        self.place.settle::<D>(decode::<D>(frame), frame)
    }

    /// Moves bytes that are missing from the input to the frame that is held.
    fn hold(&mut self, input: &mut &[u8]) {
        let (now, later) = input.split_at(self.missing.min(input.len()));
        self.held[self.len..self.len + now.len()].copy_from_slice(now);
        self.len += now.len();
        self.missing -= now.len();
        *input = later;
    }

    /// A bitmap whose size is not known yet.
    fn size<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        if !self.collect(bitmap::SIZE_FIELD, input) {
            return Ok(None);
        }
        match bitmap::measure(&self.trailer, self.limit) {
            Ok(whole) => {
                self.place.state = State::Bitmap { whole };
                self.bitmap(whole, input)
            }
            Err(error) => Err(self.place.broken(error)),
        }
    }

    /// A bitmap whose trailer has `whole` bytes.
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
                let offset = self.place.offset;
                self.place.offset += wide(whole);
                self.place.state = State::Seen;
                Ok(Some(Item::Bitmap { offset, bitmap }))
            }
            Err(error) => Err(self.place.broken(error)),
        }
    }

    /// Moves bytes from the input to the trailer until it has `whole`, and
    /// says whether it has. Memory at most doubles, up to `whole`.
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

impl Place {
    /// Passes what is at the start of `whole` on.
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

    /// Remembers an error, with its offset in the stream.
    #[cold]
    fn broken(&mut self, error: DecodeError) -> DecodeError {
        let error = error.based(self.offset);
        self.state = State::Broken(error);
        error
    }
}

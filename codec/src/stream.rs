//! The return path as a stream: bytes in any split in, messages out.
//!
//! Sans-IO. A [`Stream`] holds at most one incomplete frame, and the received
//! bitmap that is arriving; the bitmap's memory grows with the bytes that have
//! arrived, never with the size that the peer announces, and never beyond the
//! limit. How the input is split makes no difference to what comes out. After
//! an error the stream stays broken: the protocol offers no way to find the
//! next message.

use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::bitmap::{self, Bitmap};
use crate::error::{DecodeError, Rule};
use crate::frame::{Decoded, Dialect, Trailer, decode};

/// Longest frame of any return path: header and 512 bytes of payload.
const MAX_FRAME: usize = 4 + 512;

/// Incremental decoder of a return path.
#[derive(Debug)]
pub struct Stream<D> {
    /// Bytes of the stream that have been consumed.
    offset: u64,
    /// The start of a frame whose rest has not arrived.
    held: [u8; MAX_FRAME],
    len: usize,
    state: State,
    /// Size field, bitmap and end mark, as far as they have arrived.
    trailer: Vec<u8>,
    limit: u64,
    dialect: PhantomData<D>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Frame,
    Trailer,
    Ended,
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

/// How much of a message is at the start of a slice.
enum Probe {
    Need(usize),
    Whole(usize),
}

fn probe<D: Dialect>(input: &[u8]) -> Result<Probe, DecodeError> {
    Ok(match decode::<D>(input)? {
        Decoded::Need(need) => Probe::Need(need),
        Decoded::Message { rest, .. } => Probe::Whole(input.len() - rest.len()),
    })
}

impl<D: Dialect> Stream<D> {
    /// Starts at the beginning of a stream. A received bitmap may have at most
    /// `limit` bytes; see [`Stream::limit_bitmap`].
    pub fn new(limit: u64) -> Self {
        const { assert!(D::HEADER + D::MAX_PAYLOAD <= MAX_FRAME, "no return path") };
        Self {
            offset: 0,
            held: [0; MAX_FRAME],
            len: 0,
            state: State::Frame,
            trailer: Vec::new(),
            limit,
            dialect: PhantomData,
        }
    }

    /// Sets the limit for bitmaps whose size has not been read yet. A caller
    /// that knows the block sets [`bitmap::size`] of its pages when it gets
    /// the RECV_BITMAP message.
    pub fn limit_bitmap(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Bytes consumed so far, those of an incomplete message included.
    pub fn offset(&self) -> u64 {
        let trailer = match self.state {
            State::Trailer => self.trailer.len(),
            _ => 0,
        };
        self.offset + self.len as u64 + trailer as u64
    }

    /// The next item, taken from the front of `input`; `None` when `input` is
    /// empty and more is needed.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol; every later call fails the same way.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        match self.state {
            State::Frame => self.frame(input),
            State::Trailer => self.bitmap(input),
            State::Ended if input.is_empty() => Ok(None),
            State::Ended => {
                let rule = Rule::AfterShut;
                Err(self.broken(DecodeError {
                    offset: 0,
                    message: None,
                    field: None,
                    rule,
                }))
            }
            State::Broken(error) => Err(error),
        }
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    ///
    /// It ended inside a message, or had already failed.
    pub fn finish(&self) -> Result<(), DecodeError> {
        let (message, have, need) = match self.state {
            State::Broken(error) => return Err(error),
            State::Frame if self.len > 0 => {
                let need = match probe::<D>(&self.held[..self.len]) {
                    Ok(Probe::Need(need)) => need,
                    _ => 0,
                };
                (None, self.len, need)
            }
            State::Trailer => {
                let need = match bitmap::decode(&self.trailer, self.limit) {
                    Ok(Decoded::Need(need)) => need,
                    _ => 0,
                };
                (Some(bitmap::LABEL), self.trailer.len(), need)
            }
            State::Frame | State::Ended => return Ok(()),
        };
        let rule = Rule::CutShort { have, need };
        Err(DecodeError {
            offset: self.offset,
            message,
            field: None,
            rule,
        })
    }

    fn frame<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        let frame: &'a [u8] = if self.len == 0 {
            // Nothing is held: most messages are read where they are.
            match probe::<D>(input) {
                Ok(Probe::Whole(size)) => {
                    let (frame, rest) = input.split_at(size);
                    *input = rest;
                    frame
                }
                Ok(Probe::Need(_)) => {
                    self.hold(input, input.len());
                    return Ok(None);
                }
                Err(error) => return Err(self.broken(error)),
            }
        } else {
            loop {
                match probe::<D>(&self.held[..self.len]) {
                    Ok(Probe::Whole(_)) => break,
                    Ok(Probe::Need(_)) if input.is_empty() => return Ok(None),
                    Ok(Probe::Need(need)) => self.hold(input, need),
                    Err(error) => return Err(self.broken(error)),
                }
            }
            let len = core::mem::take(&mut self.len);
            &self.held[..len]
        };
        let offset = self.offset;
        self.offset += frame.len() as u64;
        match decode::<D>(frame)? {
            Decoded::Message { message, .. } => {
                self.state = match D::trailer(&message) {
                    Trailer::Bitmap => {
                        self.trailer.clear();
                        State::Trailer
                    }
                    Trailer::End => State::Ended,
                    Trailer::None | Trailer::Package(_) => State::Frame,
                };
                Ok(Some(Item::Message { offset, message }))
            }
            Decoded::Need(_) => Ok(None),
        }
    }

    fn bitmap<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a, D::Message<'a>>>, DecodeError> {
        loop {
            match bitmap::decode(&self.trailer, self.limit) {
                Ok(Decoded::Message { .. }) => break,
                Ok(Decoded::Need(_)) if input.is_empty() => return Ok(None),
                Ok(Decoded::Need(need)) => {
                    let (now, later) = input.split_at(need.min(input.len()));
                    self.trailer.extend_from_slice(now);
                    *input = later;
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
        let offset = self.offset;
        self.offset += self.trailer.len() as u64;
        self.state = State::Frame;
        let bytes = &self.trailer[8..self.trailer.len() - 8];
        Ok(Some(Item::Bitmap {
            offset,
            bitmap: Bitmap::new(bytes),
        }))
    }

    /// Moves up to `most` bytes from the input to the incomplete frame.
    fn hold(&mut self, input: &mut &[u8], most: usize) {
        let room = &mut self.held[self.len..];
        let size = most.min(input.len()).min(room.len());
        let (now, later) = input.split_at(size);
        room[..size].copy_from_slice(now);
        self.len += size;
        *input = later;
    }

    /// Remembers an error, with its offset in the stream.
    #[cold]
    fn broken(&mut self, error: DecodeError) -> DecodeError {
        let error = error.based(self.offset);
        self.state = State::Broken(error);
        error
    }
}

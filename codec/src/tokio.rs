//! The return path for `tokio_util::codec`: a `Decoder` and an `Encoder`.
//!
//! What comes out are [`Item`]s: messages, and the received bitmap that
//! follows a RECV_BITMAP, each of them owned. What goes in are messages, a
//! [`Bitmap`], or an [`Item`]. The protocol has no way to go on after a
//! malformed message, and neither has this codec: after an error drop it and
//! the connection. Never panics; memory is bounded as [`Stream`] says.

use std::{fmt, io};

use alloc::vec::Vec;
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::bitmap::{self, Bitmap};
use crate::error::{DecodeError, EncodeError};
use crate::frame::{Dialect, Encode};
use crate::generated::{qemu, v7};
use crate::name::BlockName;
use crate::stream::{ItemBuf, Stream};

/// What a return path of dialect `D` consists of.
pub type Item<D> = ItemBuf<<D as Dialect>::Owned>;

/// Decodes and encodes a return path.
#[derive(Clone, Debug)]
pub struct ReturnPath<D> {
    stream: Stream<D>,
    /// Reused by the encoder.
    frame: Vec<u8>,
}

/// Why a return path fails.
#[derive(Debug)]
pub enum Error {
    /// The peer broke the protocol, or the stream ended inside an item.
    Decode(DecodeError),
    /// The value can be no message.
    Encode(EncodeError),
    /// Reading or writing failed.
    Io(io::Error),
}

impl<D: Dialect> ReturnPath<D> {
    /// Starts at the beginning of a return path. A received bitmap may have
    /// at most `limit` bytes; see [`Stream::limit_bitmap`].
    pub fn new(limit: u64) -> Self {
        Self {
            stream: Stream::new(limit),
            frame: Vec::new(),
        }
    }

    /// As [`Stream::limit_bitmap`].
    pub fn limit_bitmap(&mut self, limit: u64) {
        self.stream.limit_bitmap(limit);
    }

    /// Writes a message as one piece.
    fn put(&mut self, message: &impl Encode, to: &mut BytesMut) -> Result<(), Error> {
        self.frame.clear();
        message.encode(&mut self.frame)?;
        to.extend_from_slice(&self.frame);
        Ok(())
    }

    fn put_bitmap(&mut self, bitmap: Bitmap<'_>, to: &mut BytesMut) -> Result<(), Error> {
        let mut trailer = Vec::new();
        bitmap::encode(bitmap, &mut trailer).map_err(|rule| EncodeError {
            message: bitmap::LABEL,
            field: Some(bitmap::FIELD),
            rule,
        })?;
        to.extend_from_slice(&trailer);
        Ok(())
    }
}

impl<D: Dialect> Decoder for ReturnPath<D> {
    type Item = Item<D>;
    type Error = Error;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Item<D>>, Error> {
        let mut input: &[u8] = from;
        let item = self.stream.next_owned(&mut input)?;
        let used = from.len() - input.len();
        from.advance(used);
        Ok(item)
    }

    fn decode_eof(&mut self, from: &mut BytesMut) -> Result<Option<Item<D>>, Error> {
        match self.decode(from)? {
            Some(item) => Ok(Some(item)),
            None => Ok(self.stream.finish().map(|()| None)?),
        }
    }
}

impl<N: BlockName> Encoder<qemu::Message<N>> for ReturnPath<qemu::Qemu> {
    type Error = Error;

    fn encode(&mut self, message: qemu::Message<N>, to: &mut BytesMut) -> Result<(), Error> {
        self.put(&message, to)
    }
}

impl<N: BlockName> Encoder<v7::Message<N>> for ReturnPath<v7::V7> {
    type Error = Error;

    fn encode(&mut self, message: v7::Message<N>, to: &mut BytesMut) -> Result<(), Error> {
        self.put(&message, to)
    }
}

/// The bitmap that belongs behind the RECV_BITMAP just written.
impl<D: Dialect> Encoder<Bitmap<'_>> for ReturnPath<D> {
    type Error = Error;

    fn encode(&mut self, bitmap: Bitmap<'_>, to: &mut BytesMut) -> Result<(), Error> {
        self.put_bitmap(bitmap, to)
    }
}

/// What was decoded, with its offset ignored.
impl<D: Dialect> Encoder<ItemBuf<D::Owned>> for ReturnPath<D> {
    type Error = Error;

    fn encode(&mut self, item: Item<D>, to: &mut BytesMut) -> Result<(), Error> {
        match item {
            ItemBuf::Message { message, .. } => self.put(&message, to),
            ItemBuf::Bitmap { bytes, .. } => self.put_bitmap(Bitmap::new(&bytes), to),
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "malformed return path: {error}"),
            Self::Encode(error) => error.fmt(f),
            Self::Io(error) => write!(f, "return path: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

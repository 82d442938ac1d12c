//! Both directions for `tokio_util::codec`.
//!
//! [`ReturnPath`] decodes and encodes a return path. Its items are messages, and
//! the received bitmap that follows a RECV_BITMAP. It encodes messages, a
//! [`Bitmap`], or such an item.
//!
//! [`Forward`] decodes and encodes a channel of a forward stream. Its items are
//! [`ForwardItem`]s: events that own their bytes. It encodes commands, events, or
//! such an item.
//!
//! The protocol cannot resynchronise: after an error, drop the codec and close
//! the connection. Nothing here panics. Memory is bounded as [`Stream`] and
//! [`forward`](crate::forward#memory-and-work) describe. The read buffer of a framed
//! connection holds at most one incomplete item besides what one read returned:
//! [`ReturnPath`] leaves nothing in it, [`Forward`] at most
//! [`MAX_ITEM`](forward::MAX_ITEM) bytes.
//!
//! ```
//! use futures_util::StreamExt;
//! use retpath_codec::forward::{Event, Options};
//! use retpath_codec::tokio::Forward;
//! use tokio_util::codec::FramedRead;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = &b"QEVM\0\0\0\x03\0"[..]; // any tokio::io::AsyncRead
//! let mut channel = FramedRead::new(socket, Forward::new(Options::default()));
//! while let Some(item) = channel.next().await {
//!     let item = item?;
//!     match item.event.as_event() {
//!         Event::Header => assert_eq!(item.offset, 0),
//!         event => println!("{} {}", item.offset, event.label()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A source that sends a forward stream:
//!
//! ```
//! use futures_util::SinkExt;
//! use retpath_codec::command::Command;
//! use retpath_codec::forward::{Event, Options};
//! use retpath_codec::tokio::Forward;
//! use tokio_util::codec::FramedWrite;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = Vec::new(); // any tokio::io::AsyncWrite
//! let mut channel = FramedWrite::new(socket, Forward::new(Options::default()));
//! channel.send(Event::Header).await?;
//! channel.send(Command::open_return_path()).await?;
//! channel.send(Event::Eof).await?;
//! assert_eq!(channel.get_ref(), b"QEVM\0\0\0\x03\x08\0\x01\0\0\0");
//! # Ok(())
//! # }
//! ```

use std::{fmt, io};

use alloc::vec::Vec;
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::bitmap::{self, Bitmap};
use crate::command::{Command, RangeList};
use crate::encode::Encode;
use crate::error::{DecodeError, EncodeError};
use crate::forward::ram::Record;
use crate::forward::write::Buffer;
use crate::forward::{self, Decoded, Event, EventBuf, StreamBlock};
use crate::frame::Dialect;
use crate::generated::{qemu, v7};
use crate::name::BlockName;
use crate::stream::{ItemBuf, Stream};

/// An item of a return path of dialect `D`.
pub type Item<D> = ItemBuf<<D as Dialect>::Owned>;

/// Decodes and encodes a return path.
#[derive(Clone, Debug)]
pub struct ReturnPath<D> {
    stream: Stream<D>,
    /// Buffer of the encoder.
    frame: Vec<u8>,
}

/// Decodes and encodes a channel of a forward stream.
///
/// The RAM blocks that decoded records refer to are
/// [`decoder().blocks()`](forward::Decoder::blocks). Those of encoded records are
/// the blocks that the decoder knew when the codec was made, followed by those
/// whose BLOCK records were encoded; [`Forward::set_blocks`] replaces them. The
/// encoder checks each item by itself, not the order of items.
#[derive(Clone, Debug)]
pub struct Forward {
    decoder: forward::Decoder,
    /// The blocks that encoded records refer to.
    blocks: Vec<StreamBlock>,
}

/// An event of a forward stream, and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardItem {
    /// Offset in bytes from the start of the channel.
    pub offset: u64,
    /// The event.
    pub event: EventBuf,
}

/// Errors of the codecs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer violated the protocol, or the channel ended inside an item.
    Decode(DecodeError),
    /// The value cannot be encoded.
    Encode(EncodeError),
    /// Reading or writing failed.
    Io(io::Error),
}

impl<D: Dialect> ReturnPath<D> {
    /// Makes a codec for a return path from its beginning. Received bitmaps of
    /// more than `limit` bytes are refused; see [`Stream::limit_bitmap`].
    pub fn new(limit: u64) -> Self {
        Self {
            stream: Stream::new(limit),
            frame: Vec::new(),
        }
    }

    /// Sets the limit for bitmaps; see [`Stream::limit_bitmap`].
    pub fn limit_bitmap(&mut self, limit: u64) {
        self.stream.limit_bitmap(limit);
    }

    fn put(&mut self, message: &impl Encode, to: &mut BytesMut) -> Result<(), Error> {
        self.frame.clear();
        message.encode(&mut self.frame)?;
        to.extend_from_slice(&self.frame);
        Ok(())
    }

    fn put_bitmap(&mut self, bitmap: Bitmap<'_>, to: &mut BytesMut) -> Result<(), Error> {
        let mut trailer = Vec::new();
        bitmap::encode(bitmap, &mut trailer)
            .map_err(|rule| EncodeError::new(bitmap::LABEL, Some(bitmap::FIELD), rule))?;
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

impl Forward {
    /// Makes a codec for the first channel of a migration.
    pub fn new(options: forward::Options) -> Self {
        forward::Decoder::new(options).into()
    }

    /// Borrows the decoder.
    pub fn decoder(&self) -> &forward::Decoder {
        &self.decoder
    }

    /// Sets the RAM blocks that encoded records refer to, for a channel that starts
    /// without a block list, such as a preempt channel.
    pub fn set_blocks(&mut self, blocks: Vec<StreamBlock>) {
        self.blocks = blocks;
    }

    /// Returns the decoder, for example to make that of a resumed channel.
    pub fn into_decoder(self) -> forward::Decoder {
        self.decoder
    }
}

/// Makes a codec for any channel.
impl From<forward::Decoder> for Forward {
    fn from(decoder: forward::Decoder) -> Self {
        Self {
            blocks: decoder.blocks().to_vec(),
            decoder,
        }
    }
}

impl Decoder for Forward {
    type Item = ForwardItem;
    type Error = Error;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<ForwardItem>, Error> {
        let offset = self.decoder.offset();
        match self.decoder.next(from)? {
            Decoded::Need(need) => {
                from.reserve(need.min(forward::MAX_ITEM));
                Ok(None)
            }
            Decoded::Event { event, size } => {
                let event = event.to_buf();
                from.advance(size);
                Ok(Some(ForwardItem { offset, event }))
            }
        }
    }

    fn decode_eof(&mut self, from: &mut BytesMut) -> Result<Option<ForwardItem>, Error> {
        self.decoder.close();
        match self.decode(from)? {
            Some(item) => Ok(Some(item)),
            None => Ok(self.decoder.finish(from).map(|()| None)?),
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

/// Encodes the bitmap that must follow a RECV_BITMAP.
impl<D: Dialect> Encoder<Bitmap<'_>> for ReturnPath<D> {
    type Error = Error;

    fn encode(&mut self, bitmap: Bitmap<'_>, to: &mut BytesMut) -> Result<(), Error> {
        self.put_bitmap(bitmap, to)
    }
}

/// Encodes what was decoded; its offset is ignored.
impl<D: Dialect> Encoder<ItemBuf<D::Owned>> for ReturnPath<D> {
    type Error = Error;

    fn encode(&mut self, item: Item<D>, to: &mut BytesMut) -> Result<(), Error> {
        match item {
            ItemBuf::Message { message, .. } => self.put(&message, to),
            ItemBuf::Bitmap { bytes, .. } => self.put_bitmap(Bitmap::new(&bytes), to),
        }
    }
}

impl Encoder<Event<'_>> for Forward {
    type Error = Error;

    fn encode(&mut self, event: Event<'_>, to: &mut BytesMut) -> Result<(), Error> {
        event.encode(&self.blocks, to)?;
        if let Event::Record(Record::Block {
            name,
            len,
            page_size,
            ..
        }) = event
        {
            // Only the name is needed again.
            let page_size = page_size.unwrap_or(self.decoder.target_page());
            let block = StreamBlock::new(name.to_buf(), Some(len), page_size);
            self.blocks.push(block);
        }
        Ok(())
    }
}

/// Encodes what was decoded; its offset is ignored.
impl Encoder<ForwardItem> for Forward {
    type Error = Error;

    fn encode(&mut self, item: ForwardItem, to: &mut BytesMut) -> Result<(), Error> {
        Encoder::<Event<'_>>::encode(self, item.event.as_event(), to)
    }
}

impl<N: BlockName, R: RangeList> Encoder<Command<N, R>> for Forward {
    type Error = Error;

    fn encode(&mut self, command: Command<N, R>, to: &mut BytesMut) -> Result<(), Error> {
        Ok(to.command(&command)?)
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
            Self::Decode(error) => write!(f, "malformed input at {error}"),
            Self::Encode(error) => error.fmt(f),
            Self::Io(error) => write!(f, "connection failed: {error}"),
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

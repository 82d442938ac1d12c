//! Why a loop ended early.

use std::{fmt, io};

use retpath_codec::{DecodeError, NameBuf};

use crate::blocks::BlockError;
use crate::socket::ChannelError;
use crate::{destination, memory, source, uffd};

/// Why a loop ended early.
#[derive(Debug)]
pub enum RunError {
    /// The peer's bytes break the protocol.
    Decode(DecodeError),
    /// The destination core refuses what the source does, or cannot go on.
    Destination(destination::Error),
    /// The source core refuses what the destination does, or cannot go on.
    Source(source::Error),
    /// userfaultfd cannot be used.
    Uffd(uffd::Error),
    /// A page cannot be placed.
    Place(uffd::PlaceError),
    /// Memory cannot be used.
    Memory(memory::Error),
    /// The embedder refuses.
    Guest(String),
    /// The embedder's memory is smaller than its block.
    TooSmall {
        /// The block.
        name: NameBuf,
        /// Bytes of memory.
        have: u64,
        /// Bytes of the block.
        need: u64,
    },
    /// The embedder's source of pages does not give a page.
    NoPage {
        /// The block.
        name: NameBuf,
        /// First byte, from the start of the block.
        offset: u64,
        /// Why.
        error: io::Error,
    },
    /// A channel cannot be opened.
    Channel(ChannelError),
    /// A link is broken.
    Link {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        error: io::Error,
    },
    /// The peer closed a link too early.
    Closed,
    /// Nothing has moved on a link for too long.
    Stalled {
        /// Seconds that were waited.
        seconds: u64,
    },
    /// A new link did not get a broken migration going again.
    NotRecovered {
        /// Seconds that it had.
        seconds: u64,
    },
    /// The source waits for an answer, and its stream does not tell whether it
    /// is over.
    NoEnd {
        /// Seconds in which nothing came.
        seconds: u64,
    },
    /// The source closed the link inside the device state of a stream without
    /// footers, and no description proves that this is its end: the link of a
    /// source that was killed closes, too.
    UnprovenEnd,
    /// The source sends its pages over channels of their own.
    Multifd,
    /// The link broke, and none came to replace it.
    Abandoned {
        /// Seconds that were waited.
        seconds: u64,
        /// Why it broke.
        cause: Option<Box<RunError>>,
    },
    /// A core named a block that it never announced.
    Block(BlockError),
    /// poll(2) failed.
    Poll(io::Error),
    /// [`Control::stop`](super::Control::stop) was called.
    Stopped,
}

impl RunError {
    /// Whether a new link can mend it, once pages are being served.
    pub(super) fn is_link(&self) -> bool {
        matches!(
            self,
            Self::Link { .. }
                | Self::Closed
                | Self::Stalled { .. }
                | Self::NotRecovered { .. }
                | Self::Decode(_)
        )
    }
}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for RunError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from! {
    DecodeError => Decode,
    destination::Error => Destination,
    source::Error => Source,
    uffd::Error => Uffd,
    uffd::PlaceError => Place,
    memory::Error => Memory,
    ChannelError => Channel,
    BlockError => Block,
    io::Error => Poll,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "the peer's stream is malformed: {error}"),
            Self::Destination(error) => error.fmt(f),
            Self::Source(error) => error.fmt(f),
            Self::Uffd(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Guest(error) => f.write_str(error),
            Self::TooSmall { name, have, need } => write!(
                f,
                "RAM block {name} has {need} bytes, but the memory given for it has {have}"
            ),
            Self::NoPage {
                name,
                offset,
                error,
            } => write!(
                f,
                "the page at 0x{offset:x} of RAM block {name} cannot be had: {error}"
            ),
            Self::Channel(error) => error.fmt(f),
            Self::Link { what, error } => write!(f, "the link broke while {what}: {error}"),
            Self::Closed => f.write_str("the peer closed the link before the migration was over"),
            Self::Stalled { seconds } => write!(
                f,
                "nothing has moved on the link for {seconds} s, and it is the peer's turn"
            ),
            Self::NotRecovered { seconds } => write!(
                f,
                "the new link did not get the migration going again within {seconds} s"
            ),
            Self::NoEnd { seconds } => write!(
                f,
                "nothing has come for {seconds} s, and the stream of such an old machine type \
                 does not tell whether that was the end of its device state: switch to postcopy, \
                 or turn the capabilities return-path and postcopy-ram off at the source, which \
                 then closes the connection at the end"
            ),
            Self::UnprovenEnd => f.write_str(
                "the source closed the link, and nothing proves that it had sent everything: its \
                 machine type (2.3 or older) marks no end of its device state, and no \
                 description followed. Look at `info migrate` there: if it says completed, this \
                 was the end",
            ),
            Self::Multifd => f.write_str(
                "the source sends its pages over other channels: turn the capability multifd off \
                 there",
            ),
            Self::Abandoned {
                seconds,
                cause: None,
            } => {
                write!(f, "no link for {seconds} s: the migration cannot go on")
            }
            Self::Abandoned {
                seconds,
                cause: Some(cause),
            } => {
                write!(
                    f,
                    "{cause}; no new link for {seconds} s: the migration cannot go on"
                )
            }
            Self::Block(error) => error.fmt(f),
            Self::Poll(error) => write!(f, "waiting for links and faults: {error}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Link { error, .. } | Self::NoPage { error, .. } | Self::Poll(error) => {
                Some(error)
            }
            Self::Abandoned {
                cause: Some(cause), ..
            } => Some(&**cause),
            _ => None,
        }
    }
}

//! Errors that end a loop.

use std::{fmt, io};

use retpath_codec::{DecodeError, NameBuf};

use crate::Channel;
use crate::blocks::BlockError;
use crate::socket::ChannelError;
#[cfg(feature = "uffd")]
use crate::uffd;
use crate::{destination, memory, source};

/// An error of the embedder's own.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// An error that ended a loop.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The peer's bytes break the protocol.
    Decode(DecodeError),
    /// The destination core refused what the source did, or cannot continue.
    Destination(destination::Error),
    /// The source core refused what the destination did, or cannot continue.
    Source(source::Error),
    /// userfaultfd cannot be used.
    #[cfg(feature = "uffd")]
    Uffd(uffd::Error),
    /// A page cannot be placed.
    #[cfg(feature = "uffd")]
    Place(uffd::PlaceError),
    /// Memory cannot be used.
    Memory(memory::Error),
    /// A method of the embedder's handler failed.
    Handler(HandlerError),
    /// The handler's memory is smaller than its block.
    TooSmall {
        /// The block.
        name: NameBuf,
        /// Bytes of the memory.
        have: u64,
        /// Bytes of the block.
        need: u64,
    },
    /// The [`PageSource`](source::PageSource) cannot read a page.
    NoPage {
        /// The block.
        name: NameBuf,
        /// Offset of the page in the block.
        offset: u64,
        /// The cause.
        error: io::Error,
    },
    /// A channel cannot be opened.
    Channel(ChannelError),
    /// A connection broke.
    Link {
        /// The operation that failed, such as `reading`.
        operation: &'static str,
        /// The channel that the connection carries.
        channel: Channel,
        /// The cause.
        error: io::Error,
    },
    /// The peer closed a connection too early.
    Closed,
    /// Nothing has moved on a connection for too long.
    Stalled {
        /// Seconds without progress.
        seconds: u64,
    },
    /// A new connection did not resume the migration in time.
    NotRecovered {
        /// Seconds that it had.
        seconds: u64,
    },
    /// The source is silent, and its stream does not tell whether it is complete.
    NoEnd {
        /// Seconds of silence.
        seconds: u64,
    },
    /// The source closed the connection inside the device state of a stream without footers, and
    /// no description proves that the stream ends there: the connection of a source that was killed
    /// closes, too.
    UnprovenEnd,
    /// The source sends its pages over multifd channels.
    Multifd,
    /// A connection broke, and none replaced it.
    Abandoned {
        /// Seconds that a new connection was waited for.
        seconds: u64,
        /// Why the last one broke.
        cause: Option<Box<RunError>>,
    },
    /// A core named a block that it never announced.
    Block(BlockError),
    /// Waiting for descriptors with poll(2) failed.
    Poll(io::Error),
    /// [`Control::stop`](super::Control::stop) was called.
    Stopped,
}

impl RunError {
    /// Wraps an error of an operation on a channel's connection.
    pub(super) fn link(
        operation: &'static str,
        channel: Channel,
    ) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::Link {
            operation,
            channel,
            error,
        }
    }

    /// Whether a new connection can recover from it, once pages are being served.
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
    memory::Error => Memory,
    ChannelError => Channel,
    BlockError => Block,
}

#[cfg(feature = "uffd")]
from! {
    uffd::Error => Uffd,
    uffd::PlaceError => Place,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "the peer's stream is malformed: {error}"),
            Self::Destination(error) => error.fmt(f),
            Self::Source(error) => error.fmt(f),
            #[cfg(feature = "uffd")]
            Self::Uffd(error) => error.fmt(f),
            #[cfg(feature = "uffd")]
            Self::Place(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Handler(error) => error.fmt(f),
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
                "cannot read the page at 0x{offset:x} of RAM block {name}: {error}"
            ),
            Self::Channel(error) => error.fmt(f),
            Self::Link {
                operation,
                channel,
                error,
            } => write!(f, "{operation} the {channel} channel: {error}"),
            Self::Closed => {
                f.write_str("the peer closed the connection before the migration was complete")
            }
            Self::Stalled { seconds } => write!(
                f,
                "no bytes have moved for {seconds} s while the peer had to act"
            ),
            Self::NotRecovered { seconds } => write!(
                f,
                "the new connection did not resume the migration within {seconds} s"
            ),
            Self::NoEnd { seconds } => write!(
                f,
                "no data for {seconds} s, and the stream of such an old machine type does not \
                 mark the end of its device state: switch to postcopy, or turn the capabilities \
                 return-path and postcopy-ram off at the source, which then closes the connection \
                 at the end"
            ),
            Self::UnprovenEnd => f.write_str(
                "the source closed the connection, and nothing proves that it had sent everything: \
                 its machine type (2.3 or older) does not mark the end of its device state, and no \
                 description followed. If `info migrate` there says completed, the stream is \
                 complete",
            ),
            Self::Multifd => f.write_str(
                "the source sends its pages over multifd channels: turn the capability multifd off \
                 there",
            ),
            Self::Abandoned {
                seconds,
                cause: None,
            } => {
                write!(f, "no link for {seconds} s: the migration cannot continue")
            }
            Self::Abandoned {
                seconds,
                cause: Some(cause),
            } => {
                write!(
                    f,
                    "{cause}; no new link for {seconds} s: the migration cannot continue"
                )
            }
            Self::Block(error) => error.fmt(f),
            Self::Poll(error) => write!(
                f,
                "waiting for connections and faults with poll(2): {error}"
            ),
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
            Self::Abandoned { cause, .. } => cause.as_deref().map(|cause| cause as _),
            // These show the inner error as it is.
            Self::Handler(error) => error.source(),
            Self::Channel(error) => error.source(),
            Self::Memory(error) => error.source(),
            #[cfg(feature = "uffd")]
            Self::Uffd(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn names_the_operation_and_the_channel_and_keeps_the_cause() {
        let cause = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = RunError::link("reading", Channel::Preempt)(cause);
        assert_eq!(
            error.to_string(),
            "reading the preempt channel: connection reset"
        );
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        let kind = cause.map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn returns_the_handlers_own_error() {
        let own = memory::Error::NotPrivate;
        let text = own.to_string();
        let error = RunError::Handler(own.into());
        assert_eq!(error.to_string(), text);
        let RunError::Handler(own) = error else {
            panic!("{error}")
        };
        assert!(own.is::<memory::Error>());
    }
}

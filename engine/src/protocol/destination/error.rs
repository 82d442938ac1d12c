//! Errors of the destination: what failed, where, who has to act, and what to do.
//!
//! [`Destination::phase`](super::Destination::phase) is the state of the migration after an
//! error: [`Phase::Paused`] after an error of the peer if the guest may be running (recover
//! with a new connection), and [`Phase::Failed`] before that. An error of the caller
//! changes nothing.

use std::fmt;

use retpath_codec::{Name, NameBuf};

use super::{Destination, Phase};
use crate::Channel;
use crate::blocks::{BlockError, BlockId};

/// An error of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// What failed.
    pub kind: ErrorKind,
    /// Where in RAM, if that is known.
    pub location: Option<Location>,
    /// The channel that caused the error, if one did.
    pub channel: Option<Channel>,
    /// The phase before the error.
    pub phase: Phase,
}

/// A location in RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The RAM block.
    pub block: NameBuf,
    /// Offset in the block, in bytes.
    pub offset: Option<u64>,
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The source violates the protocol, or uses an unsupported feature.
    Peer,
    /// A connection ended too early.
    Link,
    /// The settings of this destination do not match the migration.
    Settings,
    /// The program that drives the core.
    Caller,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The item is not allowed in this phase.
    OutOfTurn {
        /// The item.
        what: &'static str,
    },
    /// The item is only allowed on the main channel.
    OnPreempt {
        /// The item.
        what: &'static str,
    },
    /// The item needs an answer, but OPEN_RETURN_PATH has not come.
    NoReturnPath {
        /// The item.
        what: &'static str,
    },
    /// The source uses an unsupported feature.
    Unsupported {
        /// The feature.
        what: &'static str,
    },
    /// The source violates another rule of the protocol.
    Violation(&'static str),
    /// Invalid RAM block, or invalid range in one; or no block has this name or number.
    Block(BlockError),
    /// A RAM block has a different page size at the source.
    PageSize {
        /// Page size here, in bytes.
        ours: u64,
        /// Page size there, in bytes.
        theirs: u64,
    },
    /// POSTCOPY_ADVISE contradicts the page sizes of the RAM blocks.
    PageSummary {
        /// OR of all page sizes here, in bytes.
        ours: u64,
        /// OR of all page sizes there, in bytes.
        theirs: u64,
    },
    /// A block's page is too large for the length field of a request.
    PageTooLarge {
        /// The page size in bytes.
        page: u64,
    },
    /// The RAM of all blocks exceeds the limit.
    TooMuchRam {
        /// RAM announced so far, in bytes.
        total: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// There are more RAM blocks than [`MAX_BLOCKS`](super::MAX_BLOCKS).
    TooManyBlocks,
    /// The source began a host page while another one is incomplete on this channel.
    Interleaved {
        /// Offset of the incomplete host page in its block, in bytes.
        open: u64,
    },
    /// The stream ended with pages missing.
    Incomplete {
        /// Number of missing target pages.
        missing: u64,
    },
    /// The stream ended, but the device state was lost with an earlier connection.
    DevicesLost,
    /// The stream ended without a switch to postcopy, which the settings require.
    NoSwitch,
    /// A connection was lost before the guest may run here.
    LinkLost,
    /// The program that drives the core made a call that is not allowed now.
    Misuse(&'static str),
}

impl ErrorKind {
    /// Who has to act on it.
    pub fn blame(self) -> Blame {
        self.remedy().0
    }

    /// Who has to act on it, and what to do.
    fn remedy(self) -> (Blame, &'static str) {
        match self {
            ErrorKind::PageSize { .. }
            | ErrorKind::PageSummary { .. }
            | ErrorKind::PageTooLarge { .. } => (
                Blame::Settings,
                "configure the page sizes of the source's RAM blocks here",
            ),
            ErrorKind::TooMuchRam { .. } => (
                Blame::Settings,
                "raise the limit if the machine really has this much RAM",
            ),
            ErrorKind::TooManyBlocks => (
                Blame::Settings,
                "no machine has this many: check what is connecting here",
            ),
            ErrorKind::NoSwitch => (
                Blame::Settings,
                "start postcopy at the source before precopy ends",
            ),
            ErrorKind::LinkLost => (
                Blame::Link,
                "the guest is still at the source: start the migration again",
            ),
            ErrorKind::DevicesLost => (
                Blame::Link,
                "the source was told that it may run its guest again",
            ),
            ErrorKind::Misuse(_) => (
                Blame::Caller,
                "a bug in the calling program: please report it",
            ),
            ErrorKind::Unsupported { .. } => (Blame::Peer, "disable this capability at the source"),
            ErrorKind::Block(BlockError::HostPage { .. } | BlockError::Length { .. }) => (
                Blame::Peer,
                "configure the page size of the source's RAM block here",
            ),
            ErrorKind::Incomplete { .. } => (
                Blame::Peer,
                "the source was told; do not run a guest on this memory",
            ),
            _ => (
                Blame::Peer,
                "the source violates the protocol; check that the right peer is connected",
            ),
        }
    }
}

impl Error {
    /// Whether the source violates the protocol, or uses an unsupported feature.
    pub fn is_peer_fault(&self) -> bool {
        self.kind.blame() == Blame::Peer
    }
}

/// The cause of an [`Error`], before its channel and phase are known.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) kind: ErrorKind,
    pub(super) location: Option<Location>,
}

impl From<ErrorKind> for Cause {
    fn from(kind: ErrorKind) -> Self {
        let location = None;
        Self { kind, location }
    }
}

impl From<BlockError> for ErrorKind {
    fn from(error: BlockError) -> Self {
        Self::Block(error)
    }
}

impl From<BlockError> for Cause {
    fn from(error: BlockError) -> Self {
        ErrorKind::Block(error).into()
    }
}

impl Cause {
    /// The cause of an error in the block with this name.
    pub(super) fn in_block(name: Name<'_>, kind: impl Into<ErrorKind>) -> Self {
        let (block, offset) = (name.to_buf(), None);
        Self {
            kind: kind.into(),
            location: Some(Location { block, offset }),
        }
    }
}

impl Destination {
    /// Runs a call, and applies the effects of its error.
    pub(super) fn guard<T>(
        &mut self,
        channel: Option<Channel>,
        call: impl FnOnce(&mut Self) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        call(self).map_err(|cause| self.give_up(channel, cause))
    }

    /// The cause of an error at an offset in a block.
    pub(super) fn at(&self, id: BlockId, offset: u64, kind: impl Into<ErrorKind>) -> Cause {
        let kind = kind.into();
        let location = self.blocks.block(id).ok().map(|block| Location {
            block: block.name.clone(),
            offset: Some(offset),
        });
        Cause { kind, location }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ErrorKind::OutOfTurn { what } => write!(f, "unexpected {what}"),
            ErrorKind::OnPreempt { what } => {
                write!(f, "{what} is only allowed on the main channel")
            }
            ErrorKind::NoReturnPath { what } => write!(f, "{what} came before OPEN_RETURN_PATH"),
            ErrorKind::Unsupported { what } => write!(f, "{what} is not supported"),
            ErrorKind::Block(error) => error.fmt(f),
            ErrorKind::PageSize { ours, theirs } => write!(
                f,
                "the block's page size is {theirs} bytes at the source, but {ours} bytes here"
            ),
            ErrorKind::PageSummary { ours, theirs } => write!(
                f,
                "the page sizes of all blocks are 0x{theirs:x} at the source, but 0x{ours:x} here"
            ),
            ErrorKind::PageTooLarge { page } => write!(
                f,
                "the page size of {page} bytes is too large to be requested"
            ),
            ErrorKind::TooMuchRam { total, limit } => {
                write!(f, "{total} bytes of RAM exceed the limit of {limit} bytes")
            }
            ErrorKind::TooManyBlocks => write!(f, "more than {} RAM blocks", super::MAX_BLOCKS),
            ErrorKind::Interleaved { open } => {
                write!(f, "the host page at 0x{open:x} must be completed first")
            }
            ErrorKind::Incomplete { missing } => {
                write!(
                    f,
                    "the stream ended, but {missing} target pages are missing"
                )
            }
            ErrorKind::DevicesLost => f.write_str(
                "the stream ended, but the device state was lost with an earlier connection",
            ),
            ErrorKind::NoSwitch => f.write_str("the stream ended without a switch to postcopy"),
            ErrorKind::LinkLost => {
                f.write_str("the connection was lost before the guest may run here")
            }
            ErrorKind::Violation(what) | ErrorKind::Misuse(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "block {}", location.block)?;
            if let Some(offset) = location.offset {
                write!(f, " at 0x{offset:x}")?;
            }
            f.write_str(": ")?;
        }
        if let ErrorKind::Incomplete { .. } = self.kind {
            write!(f, "{} (this is the first)", self.kind)?;
        } else {
            write!(f, "{}", self.kind)?;
        }
        f.write_str(" [")?;
        if let Some(channel) = self.channel {
            write!(f, "{channel} channel, ")?;
        }
        write!(f, "{}]: {}", self.phase, self.kind.remedy().1)
    }
}

impl std::error::Error for Error {}

//! Errors of the destination: what failed, where, who has to act, and what to do.
//!
//! [`Destination::phase`](super::Destination::phase) is the state of the migration after an
//! error: [`Phase::Paused`] after an error of the peer if the guest may be running (recover
//! with a new connection), and [`Phase::Failed`] before that. An error of the caller
//! changes nothing.

use std::fmt;

use retpath_codec::NameBuf;

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
    /// No RAM block has this name or number.
    UnknownBlock,
    /// Invalid RAM block, or invalid range in one.
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
    /// The source sent a page that has been received or is being placed.
    PageTwice,
    /// The source sent a target page twice within one host page.
    TargetPageTwice,
    /// The source began a host page while another one is incomplete on this channel.
    Interleaved {
        /// Offset of the incomplete host page in its block, in bytes.
        open: u64,
    },
    /// The source sent parts of a host page on both channels.
    OnBothChannels,
    /// A host page is only partly received at the switch.
    Torn,
    /// The source requested a block's received bitmap twice in one recovery.
    BitmapTwice,
    /// POSTCOPY_RESUME came before this block's received bitmap was requested.
    BitmapNotAsked,
    /// The source sends PINGs faster than it reads PONGs.
    Flood,
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
    /// An event came while the connection is down.
    LinkDown,
    /// The migration has already failed.
    Over,
    /// No preempt channel was agreed.
    NoPreempt,
    /// No such page.
    NoSuchPage,
    /// Pages cannot be requested before POSTCOPY_LISTEN.
    NotListening,
    /// RAM blocks are not numbered in the order of their announcement.
    BlockNumber {
        /// The next number.
        next: BlockId,
    },
    /// The data of a target page has the wrong length.
    PageLength {
        /// Its length in bytes.
        len: usize,
    },
    /// The range was not handed out for placement.
    NotHandedOut,
    /// [`MAX_RUNS`](super::MAX_RUNS) ranges of this channel are already being placed.
    TooManyRuns,
    /// A range is still being placed.
    StillPlacing,
    /// The device state is not complete.
    NothingToSave,
    /// The migration is not complete.
    NothingToConfirm,
    /// The migration is not paused.
    NotPaused,
}

impl ErrorKind {
    /// Who has to act on it.
    pub fn blame(self) -> Blame {
        match self {
            ErrorKind::OutOfTurn { .. }
            | ErrorKind::OnPreempt { .. }
            | ErrorKind::NoReturnPath { .. }
            | ErrorKind::Unsupported { .. }
            | ErrorKind::UnknownBlock
            | ErrorKind::Block(_)
            | ErrorKind::PageTwice
            | ErrorKind::TargetPageTwice
            | ErrorKind::Interleaved { .. }
            | ErrorKind::OnBothChannels
            | ErrorKind::Torn
            | ErrorKind::BitmapTwice
            | ErrorKind::BitmapNotAsked
            | ErrorKind::Flood
            | ErrorKind::Incomplete { .. } => Blame::Peer,
            ErrorKind::LinkLost | ErrorKind::DevicesLost => Blame::Link,
            ErrorKind::PageSize { .. }
            | ErrorKind::PageSummary { .. }
            | ErrorKind::PageTooLarge { .. }
            | ErrorKind::TooMuchRam { .. }
            | ErrorKind::TooManyBlocks
            | ErrorKind::NoSwitch => Blame::Settings,
            ErrorKind::LinkDown
            | ErrorKind::Over
            | ErrorKind::NoPreempt
            | ErrorKind::NoSuchPage
            | ErrorKind::NotListening
            | ErrorKind::BlockNumber { .. }
            | ErrorKind::PageLength { .. }
            | ErrorKind::NotHandedOut
            | ErrorKind::TooManyRuns
            | ErrorKind::StillPlacing
            | ErrorKind::NothingToSave
            | ErrorKind::NothingToConfirm
            | ErrorKind::NotPaused => Blame::Caller,
        }
    }

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            ErrorKind::Unsupported { .. } => "disable this capability at the source",
            ErrorKind::PageSize { .. }
            | ErrorKind::PageSummary { .. }
            | ErrorKind::PageTooLarge { .. } => {
                "configure the page sizes of the source's RAM blocks here"
            }
            ErrorKind::Block(BlockError::HostPage { .. } | BlockError::Length { .. }) => {
                "configure the page size of the source's RAM block here"
            }
            ErrorKind::TooMuchRam { .. } => {
                "raise the limit if the machine really has this much RAM"
            }
            ErrorKind::TooManyBlocks => "no machine has this many: check what is connecting here",
            ErrorKind::NoSwitch => "start postcopy at the source before precopy ends",
            ErrorKind::LinkLost => "the guest is still at the source: start the migration again",
            ErrorKind::DevicesLost => "the source was told that it may run its guest again",
            ErrorKind::Incomplete { .. } => {
                "the source was told; do not run a guest on this memory"
            }
            _ => match self.blame() {
                Blame::Caller => "a bug in the calling program: please report it",
                _ => "the source violates the protocol; check that the right peer is connected",
            },
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

impl Destination {
    /// The cause of an error at an offset in a block.
    pub(super) fn at(&self, id: BlockId, offset: u64, kind: ErrorKind) -> Cause {
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
            ErrorKind::UnknownBlock => f.write_str("no RAM block has this name"),
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
            ErrorKind::PageTwice => f.write_str("the page was sent twice"),
            ErrorKind::TargetPageTwice => {
                f.write_str("the target page was sent twice within its host page")
            }
            ErrorKind::Interleaved { open } => {
                write!(f, "the host page at 0x{open:x} must be completed first")
            }
            ErrorKind::OnBothChannels => f.write_str("the host page is split across both channels"),
            ErrorKind::Torn => f.write_str("the host page was only partly received or discarded"),
            ErrorKind::BitmapTwice => f.write_str("the received bitmap was requested twice"),
            ErrorKind::BitmapNotAsked => {
                f.write_str("POSTCOPY_RESUME came before the received bitmap was requested")
            }
            ErrorKind::Flood => f.write_str("the source sends PINGs faster than it reads PONGs"),
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
            ErrorKind::LinkDown => f.write_str("an event came while the connection is down"),
            ErrorKind::Over => f.write_str("the migration has already failed"),
            ErrorKind::NoPreempt => f.write_str("no preempt channel was agreed"),
            ErrorKind::NoSuchPage => f.write_str("no such page"),
            ErrorKind::NotListening => {
                f.write_str("pages cannot be requested before POSTCOPY_LISTEN")
            }
            ErrorKind::BlockNumber { next } => write!(f, "this RAM block must have number {next}"),
            ErrorKind::PageLength { len } => write!(f, "the target page has {len} bytes of data"),
            ErrorKind::NotHandedOut => f.write_str("the range was not handed out for placement"),
            ErrorKind::TooManyRuns => {
                write!(f, "{} ranges are already being placed", super::MAX_RUNS)
            }
            ErrorKind::StillPlacing => f.write_str("a range is still being placed"),
            ErrorKind::NothingToSave => f.write_str("the device state is not complete"),
            ErrorKind::NothingToConfirm => f.write_str("the migration is not complete"),
            ErrorKind::NotPaused => f.write_str("the migration is not paused"),
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
        write!(f, "{}]: {}", self.phase, self.kind.advice())
    }
}

impl std::error::Error for Error {}

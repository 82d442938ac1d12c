//! Why something cannot go on, or was refused: what, where, whose fault, and
//! what to do.
//!
//! [`Destination::phase`](super::Destination::phase) says what has become of
//! the migration: after a fault of the peer it is [`Phase::Paused`] if the
//! guest may be running (recover it with a new connection) and
//! [`Phase::Failed`] before that. A fault of the caller changes nothing.

use std::fmt;

use retpath_codec::NameBuf;

use super::Phase;
use crate::Channel;
use crate::blocks::{BlockError, BlockId};

/// An error of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub what: What,
    /// In which block and where in it, if that is known.
    pub place: Option<Place>,
    /// On which channel, if one is to blame.
    pub channel: Option<Channel>,
    /// In which phase it was found.
    pub phase: Phase,
}

/// A place in RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The RAM block.
    pub block: NameBuf,
    /// Offset in it, in bytes.
    pub offset: Option<u64>,
}

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The source broke the protocol, or does what this destination cannot.
    Peer,
    /// A connection ended too early.
    Link,
    /// The settings of this destination do not fit the migration.
    Settings,
    /// The program that drives the core.
    Caller,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Something that may not come in this phase.
    OutOfTurn {
        /// What came.
        what: &'static str,
    },
    /// Something only the main channel may carry.
    OnPreempt {
        /// What came.
        what: &'static str,
    },
    /// It needs an answer, but OPEN_RETURN_PATH has not come.
    NoReturnPath {
        /// What came.
        what: &'static str,
    },
    /// The source uses something that this destination does not do.
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// No RAM block has this name or number.
    UnknownBlock,
    /// A RAM block, or a range of one, breaks a rule.
    Block(BlockError),
    /// A RAM block has another page size at the source.
    PageSize {
        /// Page size here, in bytes.
        ours: u64,
        /// Page size there, in bytes.
        theirs: u64,
    },
    /// POSTCOPY_ADVISE does not fit the page sizes of the RAM blocks.
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
    /// There is more RAM than allowed.
    TooMuchRam {
        /// How much, in bytes, as far as announced.
        total: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// There are more RAM blocks than [`MAX_BLOCKS`](super::MAX_BLOCKS).
    TooManyBlocks,
    /// A page that has been received, or is being placed, comes again.
    PageTwice,
    /// A target page comes twice inside one host page.
    TargetPageTwice,
    /// A host page is still incomplete on this channel, and another one
    /// begins.
    Interleaved {
        /// Offset of the incomplete one in its block, in bytes.
        open: u64,
    },
    /// A host page comes in parts on two channels.
    OnBothChannels,
    /// The switch leaves a host page of which only a part has been received.
    Torn,
    /// A block's received bitmap is asked for twice in one recovery.
    BitmapTwice,
    /// POSTCOPY_RESUME comes before this block's received bitmap was asked
    /// for.
    BitmapNotAsked,
    /// The source sends more PINGs than it reads answers.
    Flood,
    /// The stream has ended, and pages are missing.
    Incomplete {
        /// How many target pages.
        missing: u64,
    },
    /// The stream has ended, but the device state was lost with an earlier
    /// link.
    DevicesLost,
    /// The stream ended without a switch, which the settings refuse.
    NoSwitch,
    /// A connection was lost before the guest may run.
    LinkLost,
    /// The connection is down: nothing may come from it.
    LinkDown,
    /// The migration has failed before.
    Over,
    /// No preempt channel was agreed.
    NoPreempt,
    /// There is no such page.
    NoSuchPage,
    /// Pages are not requested yet.
    NotListening,
    /// RAM blocks are not numbered in the order in which they come.
    BlockNumber {
        /// The number that comes next.
        next: BlockId,
    },
    /// The target page's data has another length than a target page.
    PageLength {
        /// Its length in bytes.
        len: usize,
    },
    /// The range was not handed out for placement.
    NotHandedOut,
    /// [`MAX_RUNS`](super::MAX_RUNS) ranges of this channel are being placed.
    TooManyRuns,
    /// A range is still being placed.
    StillPlacing,
    /// The device state is not complete.
    NothingToSave,
    /// The end has not come.
    NothingToConfirm,
    /// There is nothing to recover.
    NotPaused,
}

impl What {
    /// Who has to do something about it.
    pub fn blame(self) -> Blame {
        match self {
            What::OutOfTurn { .. }
            | What::OnPreempt { .. }
            | What::NoReturnPath { .. }
            | What::Unsupported { .. }
            | What::UnknownBlock
            | What::Block(_)
            | What::PageTwice
            | What::TargetPageTwice
            | What::Interleaved { .. }
            | What::OnBothChannels
            | What::Torn
            | What::BitmapTwice
            | What::BitmapNotAsked
            | What::Flood
            | What::Incomplete { .. } => Blame::Peer,
            What::LinkLost | What::DevicesLost => Blame::Link,
            What::PageSize { .. }
            | What::PageSummary { .. }
            | What::PageTooLarge { .. }
            | What::TooMuchRam { .. }
            | What::TooManyBlocks
            | What::NoSwitch => Blame::Settings,
            What::LinkDown
            | What::Over
            | What::NoPreempt
            | What::NoSuchPage
            | What::NotListening
            | What::BlockNumber { .. }
            | What::PageLength { .. }
            | What::NotHandedOut
            | What::TooManyRuns
            | What::StillPlacing
            | What::NothingToSave
            | What::NothingToConfirm
            | What::NotPaused => Blame::Caller,
        }
    }

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            What::Unsupported { .. } => "turn that capability off at the source",
            What::PageSize { .. } | What::PageSummary { .. } | What::PageTooLarge { .. } => {
                "tell this side the page sizes that the source's RAM blocks have"
            }
            What::Block(BlockError::HostPage { .. } | BlockError::Length { .. }) => {
                "tell this side the page size that the source's RAM block has"
            }
            What::TooMuchRam { .. } => "raise the limit if the machine really has that much",
            What::TooManyBlocks => "no machine has that many: look at what is connecting here",
            What::NoSwitch => "start postcopy at the source before precopy ends",
            What::LinkLost => "the source still has the guest: start the migration again",
            What::DevicesLost => "the source has been told that it has its guest back",
            What::Incomplete { .. } => {
                "the source has been told; do not run a guest on this memory"
            }
            _ => match self.blame() {
                Blame::Caller => "a fault of the program, please report it",
                _ => "the source is faulty, or not the one that is meant",
            },
        }
    }
}

impl Error {
    /// Whether the source broke the protocol, or does what this destination
    /// cannot.
    pub fn is_peer_fault(&self) -> bool {
        self.what.blame() == Blame::Peer
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            What::OutOfTurn { what } => write!(f, "{what} may not come now"),
            What::OnPreempt { what } => write!(f, "{what} may come on the main channel only"),
            What::NoReturnPath { what } => write!(f, "{what} came before OPEN_RETURN_PATH"),
            What::Unsupported { what } => write!(f, "{what} is not supported"),
            What::UnknownBlock => f.write_str("no RAM block has this name"),
            What::Block(error) => error.fmt(f),
            What::PageSize { ours, theirs } => write!(
                f,
                "the block has pages of {theirs} bytes at the source, {ours} here"
            ),
            What::PageSummary { ours, theirs } => write!(
                f,
                "the page sizes of all blocks are 0x{theirs:x} at the source, 0x{ours:x} here"
            ),
            What::PageTooLarge { page } => write!(f, "pages of {page} bytes cannot be requested"),
            What::TooMuchRam { total, limit } => {
                write!(f, "{total} bytes of RAM, but {limit} is the limit")
            }
            What::TooManyBlocks => write!(f, "more than {} RAM blocks", super::MAX_BLOCKS),
            What::PageTwice => f.write_str("the page comes a second time"),
            What::TargetPageTwice => f.write_str("the target page comes twice in its host page"),
            What::Interleaved { open } => {
                write!(f, "the host page at 0x{open:x} is not complete yet")
            }
            What::OnBothChannels => f.write_str("the host page is split over both channels"),
            What::Torn => f.write_str("only a part of the host page was received or discarded"),
            What::BitmapTwice => f.write_str("the received bitmap is asked for twice"),
            What::BitmapNotAsked => {
                f.write_str("POSTCOPY_RESUME came before the received bitmap was asked for")
            }
            What::Flood => f.write_str("PINGs come faster than the PONGs are read"),
            What::Incomplete { missing } => {
                write!(
                    f,
                    "the stream has ended, but {missing} target pages are missing"
                )
            }
            What::DevicesLost => f.write_str(
                "the stream has ended, but the link broke before the device state was received",
            ),
            What::NoSwitch => f.write_str("the stream has ended without a switch to postcopy"),
            What::LinkLost => f.write_str("the connection was lost before the guest may run"),
            What::LinkDown => f.write_str("the connection is down, nothing can come from it"),
            What::Over => f.write_str("the migration has failed before"),
            What::NoPreempt => f.write_str("no preempt channel was agreed"),
            What::NoSuchPage => f.write_str("there is no such page"),
            What::NotListening => f.write_str("pages are not requested before POSTCOPY_LISTEN"),
            What::BlockNumber { next } => write!(f, "the number of this RAM block is {next}"),
            What::PageLength { len } => write!(f, "a target page with {len} bytes of data"),
            What::NotHandedOut => f.write_str("the range was not handed out for placement"),
            What::TooManyRuns => {
                write!(f, "{} ranges are being placed already", super::MAX_RUNS)
            }
            What::StillPlacing => f.write_str("a range is still being placed"),
            What::NothingToSave => f.write_str("the device state is not complete"),
            What::NothingToConfirm => f.write_str("the end has not come"),
            What::NotPaused => f.write_str("there is nothing to recover"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "block {}", place.block)?;
            if let Some(offset) = place.offset {
                write!(f, " at 0x{offset:x}")?;
            }
            f.write_str(": ")?;
        }
        if let What::Incomplete { .. } = self.what {
            write!(f, "{} (this is the first)", self.what)?;
        } else {
            write!(f, "{}", self.what)?;
        }
        f.write_str(" [")?;
        if let Some(channel) = self.channel {
            write!(f, "{channel} channel, ")?;
        }
        write!(f, "{}]: {}", self.phase, self.what.advice())
    }
}

impl std::error::Error for Error {}

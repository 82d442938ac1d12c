//! Errors of a source.

use std::fmt;

use retpath_codec::{DecodeError, NameBuf, Rule};

use crate::blocks::BlockError;

use super::state::SourcePhase;

/// An error that stops a source, or that a call returns.
///
/// [`Error::is_peer_fault`] tells the destination's faults from the caller's. After a
/// fault of the destination, and after a lost link, the [`SourcePhase`] says whether the
/// migration can continue: `Paused` can be recovered over a new link, `Failed` cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The return path is malformed.
    Malformed(DecodeError),
    /// A well-formed message is refused.
    Refused {
        /// Offset of the message in the return path, in bytes.
        offset: u64,
        /// The message's label, such as `REQ_PAGES`.
        message: &'static str,
        /// Why it is refused.
        cause: Cause,
    },
    /// The destination reported a failure.
    GaveUp {
        /// The value of its SHUT.
        value: u32,
    },
    /// The link broke before the switch; the guest is still at the source.
    LinkLost,
    /// The call is not possible in this phase.
    Phase {
        /// The call.
        call: &'static str,
        /// The phase.
        phase: SourcePhase,
    },
    /// Invalid block or range.
    Blocks(BlockError),
    /// No stream can express the configuration or the device state; the text says why.
    Config(String),
}

/// The cause for which a well-formed message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The message is not expected in this phase.
    Phase(SourcePhase),
    /// The message was not requested, or has been received already.
    Unasked,
    /// No RAM block has this name.
    UnknownBlock(NameBuf),
    /// REQ_PAGES before any REQ_PAGES_ID named a block.
    NoBlock,
    /// The requested range is invalid.
    Range {
        /// The block.
        block: NameBuf,
        /// The violated rule.
        error: BlockError,
    },
    /// A message in place of a bitmap, or the reverse.
    Order,
    /// The bitmap does not match its block.
    Bitmap {
        /// The block.
        block: NameBuf,
        /// The violated rule.
        rule: Rule,
    },
    /// The bitmap marks a page as received that was never sent.
    NeverSent {
        /// The block.
        block: NameBuf,
        /// The page's offset in bytes.
        offset: u64,
    },
    /// The bitmap marks a part of a host page as received; host pages are placed whole.
    HalfPage {
        /// The block.
        block: NameBuf,
        /// The host page's offset in bytes.
        offset: u64,
    },
    /// SHUT before all pages have been sent.
    EarlyShut {
        /// Bytes that have not been sent.
        left: u64,
    },
}

impl Error {
    /// Whether the destination broke the protocol or failed.
    pub const fn is_peer_fault(&self) -> bool {
        match self {
            Self::Malformed(error) => error.is_peer_fault(),
            Self::Refused { .. } | Self::GaveUp { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "return path, {error}"),
            Self::Refused {
                offset,
                message,
                cause,
            } => {
                write!(
                    f,
                    "return path, offset {offset} (0x{offset:x}), {message}: {cause}"
                )
            }
            Self::GaveUp { value } => write!(
                f,
                "the destination failed (SHUT {value}): see its own messages for the cause"
            ),
            Self::LinkLost => f.write_str(
                "the link broke before the switch: the guest is still at the source; \
                 start the migration again",
            ),
            Self::Phase { call, phase } => write!(f, "`{call}` is not possible while {phase}"),
            Self::Blocks(error) => error.fmt(f),
            Self::Config(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => write!(f, "not expected while {phase}"),
            Self::Unasked => f.write_str("not requested, or received already"),
            Self::UnknownBlock(name) => write!(f, "unknown RAM block \"{name}\""),
            Self::NoBlock => f.write_str("no REQ_PAGES_ID has named a RAM block yet"),
            Self::Range { block, error } => write!(f, "block \"{block}\": {error}"),
            Self::Order => f.write_str("RECV_BITMAP must be followed by its bitmap"),
            Self::Bitmap { block, rule } => write!(f, "block \"{block}\": {rule}"),
            Self::NeverSent { block, offset } => write!(
                f,
                "block \"{block}\": page 0x{offset:x} is marked received but was never sent; \
                 check that this is the same destination"
            ),
            Self::HalfPage { block, offset } => write!(
                f,
                "block \"{block}\": the host page at 0x{offset:x} is marked partly received"
            ),
            Self::EarlyShut { left } => {
                write!(
                    f,
                    "the destination ended the migration, but {left} bytes have not been sent"
                )
            }
        }
    }
}

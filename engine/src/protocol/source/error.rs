//! What can go wrong at a source.

use std::fmt;

use retpath_codec::{DecodeError, NameBuf, Rule};

use crate::blocks::BlockError;

use super::phase::SourcePhase;

/// Cause a source stops, or refuses what it is told.
///
/// [`Error::is_peer_fault`] tells the destination's faults from ours. After a
/// fault of the destination, and after a lost link, [`SourcePhase`] says what is
/// left: `Paused` can be recovered over a new link, `Failed` cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The return path's bytes are no message.
    Malformed(DecodeError),
    /// A message is well formed but wrong here.
    Refused {
        /// Where it starts, in bytes from the start of the return path.
        offset: u64,
        /// Its label, such as `REQ_PAGES`.
        message: &'static str,
        /// Cause.
        cause: Cause,
    },
    /// The destination says that it has failed.
    GaveUp {
        /// The value of its SHUT.
        value: u32,
    },
    /// The link broke while the guest was still here.
    LinkLost,
    /// The caller asks for something that this phase does not allow.
    Phase {
        /// What.
        call: &'static str,
        /// The phase.
        phase: SourcePhase,
    },
    /// A block, or a range of it, is none.
    Blocks(BlockError),
    /// The blocks' lengths add up to more than 2^64 - 1.
    TooMuch,
    /// The machine type is empty or too long.
    Machine {
        /// Its length in bytes.
        len: usize,
    },
    /// The configured run is smaller than a target page.
    Run {
        /// It, in bytes.
        run: u64,
        /// Target page size in bytes.
        target: u64,
    },
    /// The device state is too long for a package.
    DeviceState {
        /// Its length in bytes.
        len: usize,
    },
}

/// Cause a well-formed message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It is not expected in this phase.
    Phase(SourcePhase),
    /// It is not expected: nothing asked for it, or it has come already.
    Unasked,
    /// No RAM block has this name.
    UnknownBlock(NameBuf),
    /// No request has named a block yet.
    NoBlock,
    /// The range wanted is none.
    Range {
        /// The block.
        block: NameBuf,
        /// What is wrong.
        error: BlockError,
    },
    /// A message stands where a bitmap must, or the other way round.
    Order,
    /// The bitmap does not fit its block.
    Bitmap {
        /// The block.
        block: NameBuf,
        /// What is wrong.
        rule: Rule,
    },
    /// The bitmap claims a page that has not been sent.
    NeverSent {
        /// The block.
        block: NameBuf,
        /// The page's offset in bytes.
        offset: u64,
    },
    /// The bitmap claims a part of a host page, which are placed whole.
    HalfPage {
        /// The block.
        block: NameBuf,
        /// The host page's offset in bytes.
        offset: u64,
    },
    /// SHUT, but pages are still to be sent.
    EarlyShut {
        /// How much, in bytes.
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
                "the destination has failed (SHUT {value}): its own messages say why"
            ),
            Self::LinkLost => f.write_str(
                "the link broke before the switch: the guest is still here, start again",
            ),
            Self::Phase { call, phase } => write!(f, "`{call}` is not possible while {phase}"),
            Self::Blocks(error) => error.fmt(f),
            Self::TooMuch => f.write_str("the RAM blocks' lengths add up to more than 2^64 - 1"),
            Self::Machine { len } => {
                write!(f, "a machine type of {len} bytes: 1 to 255 fit")
            }
            Self::Run { run, target } => write!(
                f,
                "runs of {run} bytes do not hold a target page of {target} bytes"
            ),
            Self::DeviceState { len } => write!(
                f,
                "a device state of {len} bytes does not fit a package of at most 2^32 - 1"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => write!(f, "not expected while {phase}"),
            Self::Unasked => f.write_str("nothing asked for it, or it has come already"),
            Self::UnknownBlock(name) => write!(f, "no RAM block is called \"{name}\""),
            Self::NoBlock => f.write_str("no request has named a RAM block yet"),
            Self::Range { block, error } => write!(f, "block \"{block}\": {error}"),
            Self::Order => f.write_str("a bitmap must follow RECV_BITMAP, and nothing else"),
            Self::Bitmap { block, rule } => write!(f, "block \"{block}\": {rule}"),
            Self::NeverSent { block, offset } => write!(
                f,
                "block \"{block}\": page 0x{offset:x} is called received but was never sent; \
                 is this the same destination?"
            ),
            Self::HalfPage { block, offset } => write!(
                f,
                "block \"{block}\": only a part of the host page at 0x{offset:x} is called received"
            ),
            Self::EarlyShut { left } => {
                write!(
                    f,
                    "the destination says that it is done, but {left} bytes are not sent"
                )
            }
        }
    }
}

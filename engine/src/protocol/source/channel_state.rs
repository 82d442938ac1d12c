//! What a source knows about its link: both channels and how far the destination is.
//!
//! All of it is reset when the link breaks.

use crate::Channel;
use crate::blocks::BlockId;

use super::preempt::Connection;
use super::recovery::Recovery;
use crate::blocks::Span;

/// The state of one link.
#[derive(Debug, Default)]
pub(super) struct LinkState {
    /// When the source resumed over this link.
    pub(super) since: u64,
    pub(super) main: ChannelState,
    pub(super) preempt: ChannelState,
    pub(super) connection: Connection,
    /// Whether pages for the preempt channel may not have been written yet.
    pub(super) preempt_busy: bool,
    /// When the open section of `ram` was opened.
    pub(super) section: Option<u64>,
    /// Where the background sweep continues.
    pub(super) cursor: (BlockId, u64),
    /// Where it continues instead, because pages nearby were requested.
    pub(super) hint: Option<(BlockId, u64)>,
    /// The device state, from the call of `switch` until the package.
    pub(super) device_state: Vec<u8>,
    /// Where the discard list continues, once the switch has begun.
    pub(super) discards: Option<(BlockId, u64)>,
    pub(super) recovery: Recovery,
    pub(super) heard: Heard,
}

/// How far the destination has read, as its PONGs show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    #[default]
    Nothing,
    /// It has read the beginning of the stream.
    Start,
    /// It has read past the package or, over a later link, past POSTCOPY_RESUME.
    Listening,
}

/// The state of one channel.
#[derive(Debug, Default)]
pub(super) struct ChannelState {
    /// Block of the last record: the next one need not name it.
    pub(super) last: Option<BlockId>,
    /// What is left of a host page that is larger than a run.
    pub(super) rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) part: Span,
    /// Whether it was requested: then it is not paced.
    pub(super) urgent: bool,
}

impl LinkState {
    pub(super) fn channel(&mut self, channel: Channel) -> &mut ChannelState {
        match channel {
            Channel::Main => &mut self.main,
            Channel::Preempt => &mut self.preempt,
        }
    }
}

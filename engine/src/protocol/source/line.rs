//! The channels of a source, as far as it must remember them.

use crate::blocks::BlockId;

use super::dirty::Part;

/// The state of one channel.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Block of the last record: the next one need not name it.
    pub(super) last: Option<BlockId>,
    /// A host page that is larger than a run, and partly handed out.
    pub(super) open: Option<Open>,
    /// Whether something may not have been written yet.
    pub(super) busy: bool,
    /// Whether the channel's end has been handed out.
    pub(super) ended: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) part: Part,
    /// Start of what is not handed out.
    pub(super) at: u64,
    /// Somebody waits for it: it is not held back.
    pub(super) urgent: bool,
}

/// The preempt channel's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Down,
    Asked,
    /// Connected, but the destination may still close it. Nothing is sent on it.
    Unproven {
        /// PINGs that have to be answered until it counts as kept.
        left: u8,
        /// Whether one of them is under way.
        asked: bool,
    },
    Up,
}

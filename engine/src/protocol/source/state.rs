//! The state of a source: its phase, and what it knows about its link.

use std::fmt;

use crate::Channel;
use crate::blocks::{BlockId, Span};

use super::order::OrderCursor;
use super::preempt::Connection;
use super::recovery::Recovery;

/// The phase of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourcePhase {
    /// Nothing has been sent.
    Fresh,
    /// Pages are sent while the guest runs here.
    Precopy,
    /// The guest has stopped; the discard list is sent.
    Switching,
    /// The guest may run at the destination; every page is sent once.
    Postcopy,
    /// Everything has been sent; SHUT is missing.
    Completing,
    /// The link broke, or the destination broke the protocol. The migration needs a
    /// new link.
    Paused,
    /// A new link is connected; the received bitmaps are missing.
    Recovering,
    /// The pages to send are known again; RESUME_ACK is missing.
    Resuming,
    /// The destination has confirmed that it has all pages.
    Completed,
    /// The migration failed. The guest is at the source unless
    /// [`Source::guest_left`](super::Source::guest_left).
    Failed,
}

/// Where the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// At the source.
    Here,
    /// In a package that was handed out: it may run at the destination.
    Sent,
    /// The destination has loaded its devices.
    Loaded,
}

impl SourcePhase {
    /// Whether the phase is final.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    /// Whether there is a link, which carries messages in both directions.
    pub(super) const fn has_link(self) -> bool {
        !matches!(self, Self::Fresh | Self::Paused) && !self.is_over()
    }
}

/// The name of the variant in lower case.
impl fmt::Display for SourcePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// The state of one link, with both channels; reset when the link breaks.
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
    /// What has been sent of [`Config::order`](super::Config::order).
    pub(super) ordered: OrderCursor,
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
    pub(super) span: Span,
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

#[cfg(test)]
mod tests {
    use retpath_codec::Message;
    use retpath_codec::stream::Item;

    use super::super::testing::blocks;
    use super::super::{Config, Source};
    use super::*;

    const PHASES: [SourcePhase; 10] = [
        SourcePhase::Fresh,
        SourcePhase::Precopy,
        SourcePhase::Switching,
        SourcePhase::Postcopy,
        SourcePhase::Completing,
        SourcePhase::Paused,
        SourcePhase::Recovering,
        SourcePhase::Resuming,
        SourcePhase::Completed,
        SourcePhase::Failed,
    ];

    fn source(phase: SourcePhase) -> Source {
        let blocks = blocks(&[(1, 4096)]);
        let mut source = Source::new(Config::new("pc"), blocks).expect("valid configuration");
        source.phase = phase;
        if matches!(
            phase,
            SourcePhase::Postcopy
                | SourcePhase::Completing
                | SourcePhase::Paused
                | SourcePhase::Recovering
                | SourcePhase::Resuming
        ) {
            source.guest = Guest::Sent;
        }
        source
    }

    fn say(source: &mut Source, message: Message<retpath_codec::Name<'_>>) {
        let _ = source.message(Item::Message { offset: 0, message }, 0);
    }

    #[test]
    fn final_phases_ignore_every_event() {
        for phase in [SourcePhase::Completed, SourcePhase::Failed] {
            let mut source = source(phase);
            let _ = source.next(crate::Channel::Main, 0, &mut Vec::new());
            for value in 0..2 {
                say(&mut source, Message::Shut { value });
            }
            say(&mut source, Message::ResumeAck);
            assert!(source.switch(Vec::new()).is_err() && source.resume(0).is_err());
            assert_eq!(source.link_lost(), Ok(()));
            assert_eq!(source.phase(), phase);
        }
    }

    #[test]
    fn pauses_only_after_the_guest_may_have_left() {
        for phase in PHASES {
            let left = matches!(
                phase,
                SourcePhase::Postcopy
                    | SourcePhase::Completing
                    | SourcePhase::Recovering
                    | SourcePhase::Resuming
            );
            let mut source = source(phase);
            let lost = source.link_lost();
            let paused = source.phase() == SourcePhase::Paused;
            assert_eq!(paused, left || phase == SourcePhase::Paused, "{phase}");
            let fails = source.phase() == SourcePhase::Failed && phase != SourcePhase::Failed;
            assert_eq!(lost.is_err(), fails, "{phase}");
        }
    }

    #[test]
    fn completes_only_when_everything_has_been_sent() {
        for phase in PHASES {
            let mut source = source(phase);
            say(&mut source, Message::Shut { value: 0 });
            let completed = source.phase() == SourcePhase::Completed;
            let may = matches!(phase, SourcePhase::Completing | SourcePhase::Completed);
            assert_eq!(completed, may, "{phase}");
        }
    }
}

//! The phases of a source and the transitions between them.

use std::fmt;

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

/// An event that changes the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The header is sent.
    Begun,
    /// The embedder has stopped the guest.
    Switch,
    /// The package is sent: from now on the guest may run at the destination.
    Packaged,
    /// Every page has been handed out and written.
    AllSent,
    /// A new main channel is connected.
    Reconnected,
    /// All received bitmaps have been received.
    Known,
    /// The destination has answered POSTCOPY_RESUME.
    Resumed,
    /// The link broke or the destination broke the protocol.
    Broken,
    /// SHUT with 0.
    Finished,
    /// SHUT with another value.
    GaveUp,
}

impl SourcePhase {
    /// The phase after `event`; `None` if it is not possible in this phase.
    pub(super) const fn after(self, event: Event) -> Option<Self> {
        use Event as E;
        use SourcePhase as P;
        Some(match (self, event) {
            (P::Fresh, E::Begun) => P::Precopy,
            (P::Precopy, E::Switch) => P::Switching,
            (P::Switching, E::Packaged) => P::Postcopy,
            (P::Postcopy, E::AllSent) => P::Completing,
            (P::Completing, E::Finished) => P::Completed,
            // The guest leaves with the package.
            (P::Fresh | P::Precopy | P::Switching, E::Broken) => P::Failed,
            (P::Postcopy | P::Completing | P::Recovering | P::Resuming, E::Broken) => P::Paused,
            (P::Paused, E::Reconnected) => P::Recovering,
            (P::Recovering, E::Known) => P::Resuming,
            (P::Resuming, E::Resumed) => P::Postcopy,
            (P::Completed | P::Failed | P::Paused | P::Fresh, E::GaveUp) => return None,
            (_, E::GaveUp) => P::Failed,
            _ => return None,
        })
    }

    /// Whether the phase is final.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl fmt::Display for SourcePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Precopy => "precopy",
            Self::Switching => "switching",
            Self::Postcopy => "postcopy",
            Self::Completing => "completing",
            Self::Paused => "paused",
            Self::Recovering => "recovering",
            Self::Resuming => "resuming",
            Self::Completed => "completed",
            Self::Failed => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn final_phases_ignore_every_event() {
        let events = [
            Event::Begun,
            Event::Switch,
            Event::Packaged,
            Event::AllSent,
            Event::Reconnected,
            Event::Known,
            Event::Resumed,
            Event::Broken,
            Event::Finished,
            Event::GaveUp,
        ];
        for event in events {
            assert_eq!(SourcePhase::Completed.after(event), None);
            assert_eq!(SourcePhase::Failed.after(event), None);
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
            assert_eq!(
                phase.after(Event::Broken) == Some(SourcePhase::Paused),
                left
            );
        }
    }

    #[test]
    fn completes_only_when_everything_has_been_sent() {
        for phase in PHASES {
            let completes = phase.after(Event::Finished).is_some();
            assert_eq!(completes, phase == SourcePhase::Completing);
        }
    }
}

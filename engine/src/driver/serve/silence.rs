//! Timeouts for a destination that owes an answer; a policy without a clock.
//!
//! Where a destination always answers immediately, silence most likely means that
//! it waits for more connections; see [`Awaited`]. After [`OFFER`] a preempt channel
//! is opened, if that can help; after [`SAY`] the embedder is told, once for each
//! kind of answer. Time is in nanoseconds; nothing here fails.

use crate::source::{Awaited, Preempt};

/// Silence after which a preempt channel is opened. A QEMU without the capability
/// closes it.
const OFFER: u64 = 2_000_000_000;

/// Silence after which the embedder is told.
const SAY: u64 = 5_000_000_000;

/// Whether a source opens a preempt channel, without being configured to, when
/// the destination seems to wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// Never.
    #[default]
    Never,
    /// Yes, of the machine type's kind.
    Kind(Preempt),
    /// Yes; the machine type does not say which kind, so it is derived from what is
    /// awaited.
    Either,
}

/// What a destination's silence most likely means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suspicion {
    /// The missing answer.
    pub awaited: Awaited,
    /// Whether a preempt channel is connected, so that the destination does not wait
    /// for one.
    pub preempt: bool,
    /// How long the destination has been silent, in seconds.
    pub seconds: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Open a preempt channel.
    Open(Preempt),
    /// Tell the embedder.
    Say(Suspicion),
}

/// Watches one destination.
#[derive(Debug)]
pub(super) struct Silence {
    offer: Offer,
    /// The missing answer, and since when no byte has moved.
    since: Option<(Awaited, u64)>,
    /// Whether a preempt channel was offered on this link.
    offered: bool,
    said: Vec<Awaited>,
}

impl Silence {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            offer,
            since: None,
            offered: false,
            said: Vec::new(),
        }
    }

    /// There is a new main link.
    pub(super) fn relink(&mut self) {
        self.since = None;
        self.offered = false;
    }

    /// `awaited` is the missing answer, if the source can do nothing else before it
    /// arrives; `moved`, whether bytes were sent or received since the last call;
    /// `preempt`, whether a preempt channel is connected.
    pub(super) fn handle(
        &mut self,
        now: u64,
        awaited: Option<Awaited>,
        moved: bool,
        preempt: bool,
    ) -> Option<Step> {
        let Some(awaited) = awaited else {
            self.since = None;
            return None;
        };
        let since = match self.since {
            Some((same, since)) if same == awaited && !moved => since,
            _ => self.since.insert((awaited, now)).1,
        };
        let quiet = now.saturating_sub(since);
        if quiet >= OFFER
            && !preempt
            && !self.offered
            && let Some(kind) = self.kind(awaited)
        {
            self.offered = true;
            return Some(Step::Open(kind));
        }
        if quiet < SAY || self.said.contains(&awaited) {
            return None;
        }
        self.said.push(awaited);
        let seconds = quiet / 1_000_000_000;
        Some(Step::Say(Suspicion {
            awaited,
            preempt,
            seconds,
        }))
    }

    /// The latest time for the next call of [`Silence::handle`].
    pub(super) fn poll_deadline(&self) -> Option<u64> {
        let (awaited, since) = self.since?;
        let offers = !self.offered && self.kind(awaited).is_some();
        let says = !self.said.contains(&awaited);
        let after = [(offers, OFFER), (says, SAY)];
        let first = after.iter().find(|(open, _)| *open)?;
        Some(since.saturating_add(first.1))
    }

    /// The preempt channel that a destination may wait for.
    fn kind(&self, awaited: Awaited) -> Option<Preempt> {
        match (awaited, self.offer) {
            (_, Offer::Never) => None,
            // QEMU 7.1 and 7.2, which have no later machine types. A preempt
            // channel stops the monitor of a QEMU that waits for multifd.
            (Awaited::Answer | Awaited::Bitmaps, Offer::Kind(Preempt::Late)) => None,
            (Awaited::Answer | Awaited::Bitmaps, _) => Some(Preempt::Early),
            (Awaited::Listening | Awaited::End, Offer::Kind(kind)) => Some(kind),
            (Awaited::Listening | Awaited::End, Offer::Either) => Some(Preempt::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn quiet(silence: &mut Silence, second: u64, awaited: Awaited) -> Option<Step> {
        silence.handle(second * SECOND, Some(awaited), false, false)
    }

    #[test]
    fn opens_a_channel_first_and_tells_later() {
        let mut silence = Silence::new(Offer::Kind(Preempt::Late));
        let awaited = Awaited::Listening;
        assert_eq!(quiet(&mut silence, 0, awaited), None);
        assert_eq!(silence.poll_deadline(), Some(OFFER));
        assert_eq!(quiet(&mut silence, 1, awaited), None);
        let open = Some(Step::Open(Preempt::Late));
        assert_eq!(quiet(&mut silence, 2, awaited), open);
        assert_eq!(quiet(&mut silence, 3, awaited), None);
        assert_eq!(silence.poll_deadline(), Some(SAY));
        let suspicion = Suspicion {
            awaited,
            preempt: false,
            seconds: 6,
        };
        let say = Some(Step::Say(suspicion));
        assert_eq!(quiet(&mut silence, 6, awaited), say);
        assert_eq!(quiet(&mut silence, 60, awaited), None, "said once");
        assert_eq!(silence.poll_deadline(), None);
    }

    #[test]
    fn says_nothing_while_anything_moves_or_nothing_is_awaited() {
        let mut silence = Silence::new(Offer::Either);
        for second in 0..60 {
            let now = second * SECOND;
            let moved = silence.handle(now, Some(Awaited::Listening), second % 2 == 0, false);
            assert_eq!(moved, None);
            let mut other = Silence::new(Offer::Either);
            assert_eq!(other.handle(now, None, false, false), None);
            assert_eq!(other.poll_deadline(), None);
        }
        assert_eq!(silence.handle(100 * SECOND, None, false, false), None);
        assert_eq!(quiet(&mut silence, 101, Awaited::Listening), None);
    }

    #[test]
    fn counts_anew_for_another_thing_that_is_awaited() {
        let mut silence = Silence::new(Offer::Never);
        assert_eq!(quiet(&mut silence, 0, Awaited::Answer), None);
        assert!(quiet(&mut silence, 5, Awaited::Answer).is_some());
        assert_eq!(quiet(&mut silence, 9, Awaited::Bitmaps), None);
        assert_eq!(quiet(&mut silence, 13, Awaited::Bitmaps), None);
        assert!(quiet(&mut silence, 14, Awaited::Bitmaps).is_some());
    }

    #[test]
    fn opens_no_channel_where_multifd_is_the_likely_cause() {
        for (offer, awaited, kind) in [
            (Offer::Never, Awaited::Listening, None),
            (Offer::Kind(Preempt::Late), Awaited::Answer, None),
            (Offer::Kind(Preempt::Late), Awaited::Bitmaps, None),
            (
                Offer::Kind(Preempt::Early),
                Awaited::Answer,
                Some(Preempt::Early),
            ),
            (
                Offer::Kind(Preempt::Early),
                Awaited::Listening,
                Some(Preempt::Early),
            ),
            (Offer::Either, Awaited::Answer, Some(Preempt::Early)),
            (Offer::Either, Awaited::Listening, Some(Preempt::Late)),
        ] {
            let mut silence = Silence::new(offer);
            quiet(&mut silence, 0, awaited);
            let step = quiet(&mut silence, 3, awaited);
            assert_eq!(step, kind.map(Step::Open), "{offer:?}, {awaited:?}");
        }
    }

    #[test]
    fn opens_no_second_channel_but_for_a_new_link() {
        let mut silence = Silence::new(Offer::Kind(Preempt::Late));
        let there = |silence: &mut Silence, second: u64| {
            silence.handle(second * SECOND, Some(Awaited::Listening), false, true)
        };
        assert_eq!(there(&mut silence, 0), None);
        assert_eq!(there(&mut silence, 3), None);
        assert!(matches!(
            there(&mut silence, 6),
            Some(Step::Say(Suspicion { preempt: true, .. }))
        ));
        silence.relink();
        assert_eq!(quiet(&mut silence, 7, Awaited::Listening), None);
        assert!(matches!(
            quiet(&mut silence, 9, Awaited::Listening),
            Some(Step::Open(_))
        ));
    }
}

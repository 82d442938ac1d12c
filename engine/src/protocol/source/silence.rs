//! Detects a silent and a stalled destination; policies without a clock.
//!
//! Where a destination always answers immediately, silence most likely means that
//! it waits for more connections; see [`Awaited`]. After [`OFFER`] a preempt channel
//! is opened, if that can help; after [`REPORT`] the embedder is told, once for each
//! kind of answer. Times are in nanoseconds. Nothing here fails or panics.

use super::{Awaited, Preempt};

/// Silence after which a preempt channel is opened. A QEMU without the capability
/// closes it.
const OFFER: u64 = 2_000_000_000;

/// Silence after which the embedder is told.
const REPORT: u64 = 5_000_000_000;

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

/// What to do about a silent destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SilenceAction {
    /// Open a preempt channel.
    OpenPreempt(Preempt),
    /// Tell the embedder.
    Report(Suspicion),
}

/// Measures how long a destination has owed an answer.
#[derive(Debug)]
pub(crate) struct Silence {
    offer: Offer,
    /// The missing answer, and since when no byte has moved.
    since: Option<(Awaited, u64)>,
    /// Bytes that the links had carried at the end of the last turn.
    moved: u64,
    /// Whether a preempt channel is connected.
    preempt: bool,
    /// Whether one was offered on this link.
    offered: bool,
    reported: Vec<Awaited>,
}

impl Silence {
    pub(crate) fn new(offer: Offer) -> Self {
        Self {
            offer,
            since: None,
            moved: 0,
            preempt: false,
            offered: false,
            reported: Vec::new(),
        }
    }

    /// There is a new main link.
    pub(crate) fn new_link(&mut self) {
        (self.since, self.offered) = (None, false);
    }

    /// Handles the end of a turn of the loop. `awaited` is the missing answer, if the
    /// source can do nothing else before it arrives; `moved` are the bytes that the links
    /// have carried in both directions; `preempt` says whether a preempt channel is
    /// connected.
    pub(crate) fn turn(
        &mut self,
        now: u64,
        awaited: Option<Awaited>,
        moved: u64,
        preempt: bool,
    ) -> Option<SilenceAction> {
        let is_silent = std::mem::replace(&mut self.moved, moved) == moved;
        self.preempt = preempt;
        self.since = match (self.since, awaited) {
            (Some((same, since)), Some(awaited)) if same == awaited && is_silent => {
                Some((awaited, since))
            }
            _ => awaited.map(|awaited| (awaited, now)),
        };
        let (awaited, since) = self.since?;
        let silence = now.saturating_sub(since);
        if silence >= OFFER
            && let Some(kind) = self.offer(awaited)
        {
            self.offered = true;
            return Some(SilenceAction::OpenPreempt(kind));
        }
        if silence < REPORT || self.reported.contains(&awaited) {
            return None;
        }
        self.reported.push(awaited);
        Some(SilenceAction::Report(Suspicion {
            awaited,
            preempt,
            seconds: silence / 1_000_000_000,
        }))
    }

    /// The latest time for the next call of [`Silence::turn`].
    pub(crate) fn poll_deadline(&self) -> Option<u64> {
        let (awaited, since) = self.since?;
        let offers = self.offer(awaited).is_some();
        let reports = !self.reported.contains(&awaited);
        let after = [(offers, OFFER), (reports, REPORT)];
        let (_, first) = after.iter().find(|(due, _)| *due)?;
        Some(since.saturating_add(*first))
    }

    /// The preempt channel that a destination may wait for.
    fn offer(&self, awaited: Awaited) -> Option<Preempt> {
        match (awaited, self.offer) {
            _ if self.preempt || self.offered => None,
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

/// Bytes that a destination has to read in the time after which it counts as stalled:
/// one that reads a byte a second is of no more use than one that reads none.
const LEAST_READ: u64 = 4096;

/// Measures how long nothing has moved although it is the destination's turn. After a
/// configured time the link counts as broken.
#[derive(Debug)]
pub(crate) struct Stall {
    /// `None`: never stalled.
    timeout: Option<u64>,
    since: Option<u64>,
    /// Bytes that the links had taken at `since`.
    written: u64,
}

impl Stall {
    /// For one link.
    pub(crate) fn new(timeout: Option<u64>) -> Self {
        Self {
            timeout,
            since: None,
            written: 0,
        }
    }

    /// The destination sent something that it cannot repeat forever. A request shows in
    /// what is written, unless its page has been sent already.
    pub(crate) fn progress(&mut self) {
        self.since = None;
    }

    /// Handles the end of a turn of the loop: the links have taken `written` bytes in
    /// all. Only the destination can go on if `idle`, because everything has been
    /// written, or if `blocked`, because it does not read. Returns whether it has stalled.
    pub(crate) fn turn(&mut self, now: u64, written: u64, idle: bool, blocked: bool) -> bool {
        let least = if blocked { LEAST_READ } else { 1 };
        if !(idle || blocked) || written.saturating_sub(self.written) >= least {
            (self.since, self.written) = (None, written);
        } else {
            self.since.get_or_insert(now);
        }
        self.poll_deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When the destination counts as stalled.
    pub(crate) fn poll_deadline(&self) -> Option<u64> {
        Some(self.since?.saturating_add(self.timeout?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn silent(silence: &mut Silence, second: u64, awaited: Awaited) -> Option<SilenceAction> {
        silence.turn(second * SECOND, Some(awaited), 0, false)
    }

    #[test]
    fn opens_a_late_preempt_channel_before_it_reports() {
        let mut silence = Silence::new(Offer::Kind(Preempt::Late));
        let awaited = Awaited::Listening;
        assert_eq!(silent(&mut silence, 0, awaited), None);
        assert_eq!(silence.poll_deadline(), Some(OFFER));
        assert_eq!(silent(&mut silence, 1, awaited), None);
        let open = Some(SilenceAction::OpenPreempt(Preempt::Late));
        assert_eq!(silent(&mut silence, 2, awaited), open);
        assert_eq!(silent(&mut silence, 3, awaited), None);
        assert_eq!(silence.poll_deadline(), Some(REPORT));
        let suspicion = Suspicion {
            awaited,
            preempt: false,
            seconds: 6,
        };
        let report = Some(SilenceAction::Report(suspicion));
        assert_eq!(silent(&mut silence, 6, awaited), report);
        assert_eq!(silent(&mut silence, 60, awaited), None, "reported once");
        assert_eq!(silence.poll_deadline(), None);
    }

    #[test]
    fn is_not_silent_while_bytes_move_or_no_answer_is_due() {
        let mut silence = Silence::new(Offer::Either);
        for second in 0..60 {
            let now = second * SECOND;
            let (awaited, moved) = (Some(Awaited::Listening), second.div_ceil(2));
            assert_eq!(silence.turn(now, awaited, moved, false), None);
            let mut other = Silence::new(Offer::Either);
            assert_eq!(other.turn(now, None, 0, false), None);
            assert_eq!(other.poll_deadline(), None);
        }
        assert_eq!(silence.turn(100 * SECOND, None, 30, false), None);
        assert_eq!(silent(&mut silence, 101, Awaited::Listening), None);
    }

    #[test]
    fn counts_each_missing_answer_separately() {
        let mut silence = Silence::new(Offer::Never);
        assert_eq!(silent(&mut silence, 0, Awaited::Answer), None);
        assert!(silent(&mut silence, 5, Awaited::Answer).is_some());
        assert_eq!(silent(&mut silence, 9, Awaited::Bitmaps), None);
        assert_eq!(silent(&mut silence, 13, Awaited::Bitmaps), None);
        assert!(silent(&mut silence, 14, Awaited::Bitmaps).is_some());
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
            silent(&mut silence, 0, awaited);
            let action = silent(&mut silence, 3, awaited);
            assert_eq!(
                action,
                kind.map(SilenceAction::OpenPreempt),
                "{offer:?}, {awaited:?}"
            );
        }
    }

    #[test]
    fn offers_one_preempt_channel_per_link() {
        let mut silence = Silence::new(Offer::Kind(Preempt::Late));
        let there = |silence: &mut Silence, second: u64| {
            silence.turn(second * SECOND, Some(Awaited::Listening), 0, true)
        };
        assert_eq!(there(&mut silence, 0), None);
        assert_eq!(silence.poll_deadline(), Some(REPORT));
        assert_eq!(there(&mut silence, 3), None);
        assert!(matches!(
            there(&mut silence, 6),
            Some(SilenceAction::Report(Suspicion { preempt: true, .. }))
        ));
        silence.new_link();
        assert_eq!(silent(&mut silence, 7, Awaited::Listening), None);
        assert!(matches!(
            silent(&mut silence, 9, Awaited::Listening),
            Some(SilenceAction::OpenPreempt(_))
        ));
    }

    #[test]
    fn waits_forever_without_a_timeout() {
        let mut stall = Stall::new(None);
        assert!((0..9).all(|day| !stall.turn(day * 86_400 * SECOND, 0, true, false)));
        assert_eq!(stall.poll_deadline(), None);
    }

    #[test]
    fn counts_from_the_last_progress() {
        let mut stall = Stall::new(Some(5 * SECOND));
        for (second, written, waiting) in
            [(0, 7, true), (10, 8, true), (20, 8, false), (30, 8, true)]
        {
            let stalled = stall.turn(second * SECOND, written, waiting, false);
            assert!(!stalled, "{second} s");
        }
        stall.progress();
        for second in [36, 40] {
            assert!(!stall.turn(second * SECOND, 8, true, false), "{second} s");
        }
        assert_eq!(stall.poll_deadline(), Some(41 * SECOND));
        assert!(!stall.turn(41 * SECOND - 1, 8, true, false));
        assert!(stall.turn(41 * SECOND, 8, true, false));
    }

    #[test]
    fn a_reader_of_one_byte_a_second_has_stalled() {
        let mut stall = Stall::new(Some(60 * SECOND));
        let at = (0..).find(|second| stall.turn(second * SECOND, *second, false, true));
        assert_eq!(at, Some(60));
        let mut stall = Stall::new(Some(60 * SECOND));
        for second in 0..1000 {
            let stalled = stall.turn(second * SECOND, second * LEAST_READ / 59, false, true);
            assert!(!stalled, "reads enough");
        }
    }
}

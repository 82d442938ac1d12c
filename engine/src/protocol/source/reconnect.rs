//! When to connect the main channel, and when to give up; policies without a clock.
//!
//! Times are in nanoseconds. Nothing here fails or panics.

use super::state::SourcePhase;

/// Delay before each attempt to replace a link. The destination must notice the
/// end of the old link first: until then QEMU closes new ones.
const INTERVAL: u64 = 50_000_000;

/// Delay between attempts to make the first connection.
const FIRST_INTERVAL: u64 = 20_000_000;

/// Decides when to connect the main channel.
#[derive(Debug)]
pub(crate) struct Reconnect {
    /// How long an outage may last; each gets at least one attempt.
    timeout: u64,
    interval: u64,
    outage: Option<Outage>,
}

/// The time from a broken link until the migration resumes; it may span several links.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// How often the migration had resumed when the outage began.
    resumes: u64,
    deadline: u64,
    /// When the next attempt is due.
    attempt: u64,
}

/// What to do about the main channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    /// Connect at [`Reconnect::poll_deadline`].
    Connect,
    /// As `Connect`; the migration had made progress over the link that broke.
    ConnectNewOutage,
    /// The outage has lasted too long.
    GiveUp,
}

impl Reconnect {
    /// Replaces broken links.
    pub(crate) fn new(timeout: u64) -> Self {
        Self {
            timeout,
            interval: INTERVAL,
            outage: None,
        }
    }

    /// Makes the first connection: attempts begin at `now`.
    pub(crate) fn first(now: u64, timeout: u64) -> Self {
        Self {
            timeout,
            interval: FIRST_INTERVAL,
            outage: Some(Outage {
                resumes: 0,
                deadline: now.saturating_add(timeout),
                attempt: now,
            }),
        }
    }

    /// Handles a broken link; until then the migration had resumed `resumes` times.
    pub(crate) fn broken(&mut self, now: u64, resumes: u64) -> LinkAction {
        if self.outage.is_some_and(|outage| outage.resumes == resumes) {
            return self.failed(now);
        }
        self.outage = Some(Outage {
            resumes,
            deadline: now.saturating_add(self.timeout),
            attempt: now.saturating_add(self.interval),
        });
        LinkAction::ConnectNewOutage
    }

    /// Handles a failed attempt to connect.
    pub(crate) fn failed(&mut self, now: u64) -> LinkAction {
        match &mut self.outage {
            Some(outage) if now < outage.deadline => {
                outage.attempt = now.saturating_add(self.interval);
                LinkAction::Connect
            }
            _ => LinkAction::GiveUp,
        }
    }

    /// When the next attempt is due.
    pub(crate) fn poll_deadline(&self) -> Option<u64> {
        self.outage.map(|outage| outage.attempt)
    }
}

/// How long a link that cannot be written to is read: SHUT may take that long once
/// everything has been sent, and a destination that never stops sending gets no more.
const DRAIN_TIME: u64 = 2_000_000_000;

/// Decides how long to read the return path of a link that cannot be written to.
///
/// A destination closes its links after its last message, which can still be read.
/// QEMU closes the preempt channel before it sends SHUT on the main channel, so writing
/// the end mark of an early preempt channel can fail while SHUT is on its way.
#[derive(Debug)]
pub(crate) struct Drain {
    deadline: u64,
}

impl Drain {
    pub(crate) fn new(now: u64) -> Self {
        let deadline = now.saturating_add(DRAIN_TIME);
        Self { deadline }
    }

    /// Handles the outcome of a read: whether there was anything, and the phase after it.
    /// Returns until when to wait for more; `None` closes the link.
    pub(crate) fn handle(&self, now: u64, any: bool, phase: SourcePhase) -> Option<u64> {
        match phase {
            SourcePhase::Completed => None,
            _ if now >= self.deadline => None,
            _ if any => Some(now),
            SourcePhase::Completing => Some(self.deadline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Attempts when they are due, none of which succeeds; the time at which it gives up.
    fn fail(reconnect: &mut Reconnect) -> (u64, u32) {
        for attempts in 1.. {
            let now = reconnect.poll_deadline().expect("an attempt is due");
            if reconnect.failed(now) == LinkAction::GiveUp {
                return (now, attempts);
            }
        }
        unreachable!("it gives up");
    }

    #[test]
    fn reconnects_until_the_timeout() {
        let mut reconnect = Reconnect::new(SECOND);
        assert_eq!(reconnect.poll_deadline(), None);
        let broken = reconnect.broken(5 * SECOND, 0);
        assert_eq!(broken, LinkAction::ConnectNewOutage);
        assert_eq!(reconnect.poll_deadline(), Some(5 * SECOND + INTERVAL));
        assert_eq!(fail(&mut reconnect), (6 * SECOND, 20));
    }

    #[test]
    fn makes_one_attempt_without_a_timeout() {
        let mut reconnect = Reconnect::new(0);
        reconnect.broken(0, 0);
        assert_eq!(fail(&mut reconnect), (INTERVAL, 1));
        assert_eq!(fail(&mut Reconnect::first(7, 0)), (7, 1));
    }

    #[test]
    fn waits_for_a_destination_that_does_not_listen_yet() {
        let mut first = Reconnect::first(SECOND, SECOND);
        assert_eq!(fail(&mut first), (2 * SECOND, 51));
    }

    #[test]
    fn links_without_progress_do_not_extend_an_outage() {
        let mut reconnect = Reconnect::new(SECOND);
        reconnect.broken(0, 0);
        for now in [INTERVAL, 10 * INTERVAL, 19 * INTERVAL] {
            assert_eq!(reconnect.broken(now, 0), LinkAction::Connect);
        }
        assert_eq!(reconnect.broken(SECOND, 0), LinkAction::GiveUp);
    }

    #[test]
    fn a_resumed_migration_begins_a_new_outage() {
        let mut reconnect = Reconnect::new(SECOND);
        reconnect.broken(0, 0);
        let broken = reconnect.broken(9 * SECOND, 1);
        assert_eq!(broken, LinkAction::ConnectNewOutage);
        assert_eq!(fail(&mut reconnect), (10 * SECOND, 20));
    }

    #[test]
    fn waits_for_shut_once_everything_has_been_sent() {
        let drain = Drain::new(SECOND);
        let deadline = 3 * SECOND;
        for (now, any, phase, until) in [
            (SECOND, true, SourcePhase::Postcopy, Some(SECOND)),
            (SECOND, false, SourcePhase::Postcopy, None),
            (SECOND, false, SourcePhase::Completing, Some(deadline)),
            (deadline - 1, false, SourcePhase::Completing, Some(deadline)),
            (deadline, false, SourcePhase::Completing, None),
            (SECOND, true, SourcePhase::Completed, None),
        ] {
            assert_eq!(drain.handle(now, any, phase), until, "{now}, {phase}");
        }
    }

    #[test]
    fn reads_for_a_bounded_time() {
        let drain = Drain::new(SECOND);
        let flood = |now| drain.handle(now, true, SourcePhase::Postcopy);
        assert_eq!(flood(3 * SECOND - 1), Some(3 * SECOND - 1));
        assert_eq!(flood(3 * SECOND), None);
    }
}

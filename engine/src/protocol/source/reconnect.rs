//! When to connect the main channel, and when to give up; policies without a clock.
//!
//! ```text
//!         Broken                  Timeout                     Broken, later
//!  Idle ─────────▶ Waiting ────────────────────▶ Attempting ─────────────────▶ Waiting
//!                     ▲    Failed, in time           │
//!                     └───────────────────────────────┘ Failed, too late: GiveUp
//! ```
//!
//! Times are in nanoseconds. Nothing here fails or panics.

use super::phase::SourcePhase;

/// Delay before each attempt to replace a link. The destination must notice the
/// end of the old link first: until then QEMU closes new ones.
const INTERVAL: u64 = 50_000_000;

/// Delay between attempts to make the first connection.
const FIRST_INTERVAL: u64 = 20_000_000;

/// Decides when to connect the main channel.
#[derive(Debug)]
pub(crate) struct Reconnect {
    /// How long an outage may last.
    timeout: u64,
    interval: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No link has broken yet.
    Idle,
    /// The next attempt is due at `attempt`.
    Waiting { outage: Outage, attempt: u64 },
    /// An attempt is being made, or the migration has yet to resume over its link.
    Attempting { outage: Outage },
}

/// The time from a broken link until the migration resumes; it may span several links.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// How often the migration had resumed when the outage began.
    resumes: u64,
    deadline: u64,
}

/// What happened to the main channel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkEvent {
    /// The link broke. Until then the migration had resumed this many times.
    Broken { resumes: u64 },
    /// Time has passed.
    Timeout,
    /// The attempt to connect failed.
    Failed,
}

/// What to do about the main channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    /// Wait until [`Reconnect::poll_deadline`].
    Wait,
    /// As `Wait`; the migration had made progress over the link that broke.
    WaitNewOutage,
    /// Try to connect now.
    Connect,
    /// The outage has lasted too long.
    GiveUp,
}

impl Reconnect {
    /// Replaces broken links; each outage may last `timeout`, but always gets one attempt.
    pub(crate) fn new(timeout: u64) -> Self {
        Self {
            timeout,
            interval: INTERVAL,
            state: State::Idle,
        }
    }

    /// Makes the first connection: attempts begin at `now` and last `timeout`.
    pub(crate) fn first(now: u64, timeout: u64) -> Self {
        let outage = Outage {
            resumes: 0,
            deadline: now.saturating_add(timeout),
        };
        Self {
            timeout,
            interval: FIRST_INTERVAL,
            state: State::Waiting {
                outage,
                attempt: now,
            },
        }
    }

    pub(crate) fn handle(&mut self, now: u64, event: LinkEvent) -> LinkAction {
        match (event, self.state) {
            (
                LinkEvent::Broken { resumes },
                State::Waiting { outage, .. } | State::Attempting { outage },
            ) if outage.resumes == resumes => self.retry(now, outage),
            (LinkEvent::Broken { resumes }, _) => {
                let outage = Outage {
                    resumes,
                    deadline: now.saturating_add(self.timeout),
                };
                self.wait(now, outage);
                LinkAction::WaitNewOutage
            }
            (LinkEvent::Timeout, State::Waiting { outage, attempt }) if now >= attempt => {
                self.state = State::Attempting { outage };
                LinkAction::Connect
            }
            (LinkEvent::Failed, State::Attempting { outage }) => self.retry(now, outage),
            (LinkEvent::Timeout | LinkEvent::Failed, _) => LinkAction::Wait,
        }
    }

    /// When the next attempt is due.
    pub(crate) fn poll_deadline(&self) -> Option<u64> {
        match self.state {
            State::Waiting { attempt, .. } => Some(attempt),
            State::Idle | State::Attempting { .. } => None,
        }
    }

    fn retry(&mut self, now: u64, outage: Outage) -> LinkAction {
        if now >= outage.deadline {
            return LinkAction::GiveUp;
        }
        self.wait(now, outage);
        LinkAction::Wait
    }

    fn wait(&mut self, now: u64, outage: Outage) {
        let attempt = now.saturating_add(self.interval);
        self.state = State::Waiting { outage, attempt };
    }
}

/// How long SHUT may take when everything has been sent and a link is broken.
const SHUT_TIMEOUT: u64 = 2_000_000_000;

/// Most reads from a broken link: more than sockets hold.
const MAX_READS: u32 = 4096;

/// Decides how long to read the return path of a link that cannot be written to.
///
/// A destination closes its links after its last message, which can still be read.
/// QEMU closes the preempt channel before it sends SHUT on the main channel, so writing
/// the end mark of an early preempt channel can fail while SHUT is on its way.
#[derive(Debug)]
pub(crate) struct Drain {
    deadline: u64,
    reads: u32,
}

impl Drain {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            deadline: now.saturating_add(SHUT_TIMEOUT),
            reads: 0,
        }
    }

    /// Handles the outcome of a read: whether there was anything, and the phase after it.
    /// Returns until when to wait for more; `None` closes the link.
    pub(crate) fn handle(&mut self, now: u64, any: bool, phase: SourcePhase) -> Option<u64> {
        self.reads = self.reads.saturating_add(1);
        match phase {
            SourcePhase::Completed => None,
            _ if self.reads >= MAX_READS => None,
            _ if any => Some(now),
            SourcePhase::Completing if now < self.deadline => Some(self.deadline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BROKEN: LinkEvent = LinkEvent::Broken { resumes: 0 };

    /// Attempts from `now` on, none of which succeeds; the time at which it gives up.
    fn fail(reconnect: &mut Reconnect, mut now: u64) -> (u64, u32) {
        let mut attempts = 0;
        loop {
            now = reconnect.poll_deadline().expect("waiting").max(now);
            assert_eq!(
                reconnect.handle(now, LinkEvent::Timeout),
                LinkAction::Connect
            );
            attempts += 1;
            match reconnect.handle(now, LinkEvent::Failed) {
                LinkAction::Wait => {}
                action => {
                    assert_eq!(action, LinkAction::GiveUp);
                    return (now, attempts);
                }
            }
        }
    }

    #[test]
    fn reconnects_until_the_timeout() {
        let mut reconnect = Reconnect::new(SECOND);
        assert_eq!(reconnect.poll_deadline(), None);
        assert_eq!(
            reconnect.handle(5 * SECOND, BROKEN),
            LinkAction::WaitNewOutage
        );
        let early = reconnect.handle(5 * SECOND + INTERVAL - 1, LinkEvent::Timeout);
        assert_eq!(early, LinkAction::Wait);
        assert_eq!(fail(&mut reconnect, 0), (6 * SECOND, 20));
    }

    #[test]
    fn makes_one_attempt_without_a_timeout() {
        let mut reconnect = Reconnect::new(0);
        reconnect.handle(0, BROKEN);
        assert_eq!(fail(&mut reconnect, 0), (INTERVAL, 1));
        let mut first = Reconnect::first(7, 0);
        assert_eq!(fail(&mut first, 0), (7, 1));
    }

    #[test]
    fn waits_for_a_destination_that_does_not_listen_yet() {
        let mut first = Reconnect::first(SECOND, SECOND);
        assert_eq!(fail(&mut first, 0), (2 * SECOND, 51));
    }

    #[test]
    fn links_without_progress_do_not_extend_an_outage() {
        let mut reconnect = Reconnect::new(SECOND);
        reconnect.handle(0, BROKEN);
        for now in [INTERVAL, 10 * INTERVAL, 19 * INTERVAL] {
            let connect = reconnect.handle(now, LinkEvent::Timeout);
            assert_eq!(connect, LinkAction::Connect);
            assert_eq!(reconnect.handle(now, BROKEN), LinkAction::Wait);
        }
        reconnect.handle(SECOND, LinkEvent::Timeout);
        assert_eq!(reconnect.handle(SECOND, BROKEN), LinkAction::GiveUp);
    }

    #[test]
    fn a_resumed_migration_begins_a_new_outage() {
        let mut reconnect = Reconnect::new(SECOND);
        reconnect.handle(0, BROKEN);
        reconnect.handle(INTERVAL, LinkEvent::Timeout);
        let resumed = LinkEvent::Broken { resumes: 1 };
        let broken = reconnect.handle(9 * SECOND, resumed);
        assert_eq!(broken, LinkAction::WaitNewOutage);
        assert_eq!(fail(&mut reconnect, 0), (10 * SECOND, 20));
    }

    #[test]
    fn waits_for_shut_once_everything_has_been_sent() {
        let mut drain = Drain::new(SECOND);
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
    fn reads_a_bounded_number_of_times() {
        let mut drain = Drain::new(0);
        let reads = (0..).take_while(|_| drain.handle(0, true, SourcePhase::Postcopy).is_some());
        assert_eq!(reads.count(), 4095);
    }
}

//! Deadlines of an incoming migration, without a clock.
//!
//! The driver reports what happens to the main connection ([`Deadlines::handle`]), sleeps
//! until [`Deadlines::poll_deadline`] at the latest, and carries out what
//! [`Deadlines::poll`] returns. Times are in nanoseconds and never decrease, as for the
//! [core](super). At most one [`Timeout`] is due at any time.
//!
//! A source may be silent for as long as it likes while its stream is open: its user may
//! have paused it. There are deadlines only where nothing else would end a wait: for a
//! lost connection's replacement, for the replacement to resume, and for a source whose
//! stream has ended. The first connection may take any time, too.

use super::Ending;

const SECOND: u64 = 1_000_000_000;

/// How long a broken connection is still read, and how long a migration whose SHUT may be
/// lost waits for the source to ask again, in nanoseconds.
pub const LINGER: u64 = SECOND;

/// How long the source may take to close the connection after SHUT(1), in nanoseconds.
pub const FAREWELL: u64 = 5 * SECOND;

/// How long a source may be silent where its stream may be over, in nanoseconds.
pub const SILENCE: u64 = 10 * SECOND;

/// How long a replacement on which nothing moves may keep another connection waiting that
/// could resume the migration, in nanoseconds. At most
/// [`MAX_PENDING`](super::pending::MAX_PENDING) can be ahead of the source: whoever imitates
/// a source delays its migration by this much each, and never ends it.
pub const HANDSHAKE: u64 = 5 * SECOND;

/// Deadlines that the user chooses, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Maximum time between the loss of a connection and its replacement.
    pub reconnect: u64,
    /// Maximum time between a replacement and POSTCOPY_RESUME on it; and how long a source
    /// may be silent once everything has been received.
    pub recovery: u64,
}

/// What the source has to do next on the main connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Continue its stream, at any time.
    Stream,
    /// Resume the migration after a lost connection.
    Resume {
        /// Whether another connection could do so, too.
        rival: bool,
    },
    /// Use the preempt channel: the main stream has ended, and pages are missing.
    Preempt,
    /// Send its first page with data, although another connection begins like a multifd
    /// channel. With multifd, a source stops once those channels are full.
    FirstPage,
    /// Prove that a stream without an end mark has ended.
    EndOfStream,
    /// Close the connection: everything has been received.
    Close,
}

/// An event of the main connection, or of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a main connection.
    Connected,
    /// Bytes have arrived on it, or have been written to it.
    Moved,
    /// The source has to do this next. May be repeated.
    Expect(Expected),
    /// The connection cannot be written. Bytes that have arrived are read first: they may
    /// be all that a source sent before it died.
    WriteFailed,
    /// Nothing is left to read at the moment.
    Drained,
    /// The connection is gone. May be repeated.
    Lost,
    /// Everything has been received.
    Finished(Ending),
    /// SHUT(0) has been written, or there is no return path. `reconnected`: the connection
    /// was lost before, so the source may have missed an earlier SHUT and ask again.
    ShutSent {
        /// Whether a connection was lost before.
        reconnected: bool,
    },
    /// The migration has failed, and SHUT(1) is being sent. `switched`: the guest is
    /// stopped at the source, which must read SHUT(1) to run it again.
    Failed {
        /// Whether the source has stopped its guest.
        switched: bool,
    },
}

/// A deadline that has passed, and what the driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The write error takes effect: the connection is lost.
    WriteFailed,
    /// No replacement connected: the migration fails.
    Reconnect,
    /// The replacement did not resume: drop it, and wait for the next one.
    Resume {
        /// How long it had, in nanoseconds.
        after: u64,
    },
    /// No preempt channel will come: drop the pending connections.
    Preempt,
    /// The pages are on multifd channels: the migration fails.
    FirstPage,
    /// A stream without an end mark fell silent: the migration fails.
    EndOfStream,
    /// The source does not close the connection: drop it.
    Close,
    /// The source did not ask for SHUT again: the migration is over.
    Linger,
    /// The source did not close the connection after SHUT(1): stop waiting.
    Farewell,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No connection has been made.
    Unconnected,
    Connected {
        since: u64,
        /// When the last bytes arrived, or `expected` changed.
        active: u64,
        expected: Expected,
        /// When a write error takes effect.
        write_failed: Option<u64>,
    },
    Lost {
        since: u64,
    },
    /// The migration has failed, and the connection is read until then.
    Failed {
        until: u64,
    },
    Over,
}

/// The deadlines of one migration.
#[derive(Debug)]
pub struct Deadlines {
    timeouts: Timeouts,
    finished: Option<Ending>,
    state: State,
}

impl Deadlines {
    /// A migration that has not begun.
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            finished: None,
            state: State::Unconnected,
        }
    }

    /// Whether the migration is over, so that the driver can return.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// How the migration ended, once everything has been received.
    pub fn ending(&self) -> Option<Ending> {
        self.finished
    }

    /// Takes an event. One that is impossible in the present state is ignored.
    pub fn handle(&mut self, now: u64, event: Event) {
        match (&mut self.state, event) {
            (State::Failed { .. }, _) => {}
            (_, Event::Failed { switched }) => {
                let until = now.saturating_add(if switched { FAREWELL } else { 0 });
                self.state = State::Failed { until };
            }
            (State::Over, _) => {}
            (_, Event::Connected) => {
                self.state = State::Connected {
                    since: now,
                    active: now,
                    expected: Expected::Stream,
                    write_failed: None,
                };
            }
            // The source sends a description after SHUT(0), then closes.
            (_, Event::Lost) if self.finished == Some(Ending::Precopy) => self.state = State::Over,
            (_, Event::Lost) => self.state = State::Lost { since: now },
            (state, Event::Finished(ending)) => {
                if ending == Ending::Precopy && matches!(state, State::Lost { .. }) {
                    *state = State::Over;
                }
                self.finished = Some(ending);
            }
            // The source closes when it reads SHUT: nothing else is to come.
            (_, Event::ShutSent { reconnected: false })
                if self.finished == Some(Ending::Postcopy) =>
            {
                self.state = State::Over;
            }
            (State::Connected { active, .. }, Event::Moved) => *active = now,
            (
                State::Connected {
                    active, expected, ..
                },
                Event::Expect(next),
            ) if *expected != next => (*active, *expected) = (now, next),
            (State::Connected { write_failed, .. }, Event::WriteFailed) => {
                write_failed.get_or_insert(now.saturating_add(LINGER));
            }
            (State::Connected { write_failed, .. }, Event::Drained) => {
                *write_failed = write_failed.map(|at| at.min(now));
            }
            _ => {}
        }
    }

    /// When to call [`Deadlines::poll`] at the latest.
    pub fn poll_deadline(&self) -> Option<u64> {
        self.next().map(|(at, _)| at)
    }

    /// The timeout that is due, which repeats until an event changes the state; only
    /// [`Timeout::WriteFailed`] comes once.
    pub fn poll(&mut self, now: u64) -> Option<Timeout> {
        let (_, timeout) = self.next().filter(|(at, _)| *at <= now)?;
        match (&mut self.state, timeout) {
            (State::Connected { write_failed, .. }, Timeout::WriteFailed) => *write_failed = None,
            (state, Timeout::Linger | Timeout::Farewell) => *state = State::Over,
            _ => {}
        }
        Some(timeout)
    }

    fn next(&self) -> Option<(u64, Timeout)> {
        let (since, time, timeout) = match self.state {
            State::Unconnected | State::Over => return None,
            State::Lost { since } if self.finished.is_some() => (since, LINGER, Timeout::Linger),
            State::Lost { since } => (since, self.timeouts.reconnect, Timeout::Reconnect),
            State::Failed { until } => (until, 0, Timeout::Farewell),
            State::Connected {
                write_failed: Some(at),
                ..
            } => (at, 0, Timeout::WriteFailed),
            State::Connected {
                since,
                active,
                expected,
                ..
            } => match expected {
                Expected::Stream => return None,
                Expected::Resume { rival } => {
                    // A source that only drips bytes does not resume, either.
                    let last = since.saturating_add(self.timeouts.recovery);
                    let soon = active.saturating_add(HANDSHAKE);
                    let at = if rival { last.min(soon) } else { last };
                    let after = at - since;
                    (at, 0, Timeout::Resume { after })
                }
                Expected::Preempt => (active, SILENCE, Timeout::Preempt),
                Expected::FirstPage => (active, SILENCE, Timeout::FirstPage),
                Expected::EndOfStream => (active, SILENCE, Timeout::EndOfStream),
                Expected::Close => (active, self.timeouts.recovery, Timeout::Close),
            },
        };
        Some((since.saturating_add(time), timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECONNECT: u64 = 300 * SECOND;
    const RECOVERY: u64 = 30 * SECOND;

    fn deadlines(events: &[(u64, Event)]) -> Deadlines {
        let mut deadlines = Deadlines::new(Timeouts {
            reconnect: RECONNECT,
            recovery: RECOVERY,
        });
        for (at, event) in events {
            deadlines.handle(*at, *event);
        }
        deadlines
    }

    /// Asserts that `timeout` is due at `at`, and not a nanosecond before.
    fn assert_due(deadlines: &mut Deadlines, at: u64, timeout: Timeout) {
        assert_eq!(deadlines.poll_deadline(), Some(at));
        assert_eq!(deadlines.poll(at - 1), None);
        assert_eq!(deadlines.poll(at), Some(timeout));
    }

    #[test]
    fn waits_without_a_deadline_for_the_first_connection_and_for_an_open_stream() {
        let mut deadlines = deadlines(&[]);
        assert_eq!(deadlines.poll_deadline(), None);
        deadlines.handle(5, Event::Connected);
        deadlines.handle(6, Event::Expect(Expected::Stream));
        assert_eq!(deadlines.poll_deadline(), None);
        assert_eq!(deadlines.poll(u64::MAX), None);
        assert!(!deadlines.is_over());
    }

    #[test]
    fn fails_when_no_replacement_connects() {
        let mut deadlines = deadlines(&[(0, Event::Connected), (7, Event::Lost)]);
        assert_due(&mut deadlines, 7 + RECONNECT, Timeout::Reconnect);
        assert!(!deadlines.is_over());
        deadlines.handle(8, Event::Connected);
        assert_eq!(deadlines.poll_deadline(), None);
    }

    #[test]
    fn drops_a_replacement_that_does_not_resume_even_if_it_drips_bytes() {
        let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
        deadlines.handle(10, Event::Connected);
        for at in 0..100 {
            deadlines.handle(10 + at * SECOND, Event::Moved);
            deadlines.handle(
                10 + at * SECOND,
                Event::Expect(Expected::Resume { rival: false }),
            );
        }
        assert_due(
            &mut deadlines,
            10 + RECOVERY,
            Timeout::Resume { after: RECOVERY },
        );
        // The next one has all the time again.
        deadlines.handle(200 * SECOND, Event::Lost);
        assert_due(&mut deadlines, 200 * SECOND + RECONNECT, Timeout::Reconnect);
    }

    #[test]
    fn drops_a_replacement_on_which_nothing_moves_when_another_one_waits() {
        let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
        deadlines.handle(10, Event::Connected);
        deadlines.handle(10, Event::Expect(Expected::Resume { rival: false }));
        assert_eq!(deadlines.poll_deadline(), Some(10 + RECOVERY));
        deadlines.handle(20, Event::Expect(Expected::Resume { rival: true }));
        assert_eq!(deadlines.poll_deadline(), Some(20 + HANDSHAKE));
        // Its question is answered.
        deadlines.handle(30, Event::Moved);
        let after = 20 + HANDSHAKE;
        assert_due(&mut deadlines, 30 + HANDSHAKE, Timeout::Resume { after });
        // A rival does not shorten what a replacement has that goes on.
        for at in 0..100 {
            deadlines.handle(30 + at * SECOND, Event::Moved);
        }
        let after = RECOVERY;
        assert_due(&mut deadlines, 10 + RECOVERY, Timeout::Resume { after });
    }

    #[test]
    fn has_no_deadline_after_a_replacement_resumed() {
        let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
        deadlines.handle(10, Event::Connected);
        deadlines.handle(10, Event::Expect(Expected::Resume { rival: false }));
        deadlines.handle(20, Event::Expect(Expected::Stream));
        assert_eq!(deadlines.poll(u64::MAX), None);
    }

    #[test]
    fn waits_for_a_late_preempt_channel_until_the_main_channel_is_silent() {
        let mut deadlines = deadlines(&[(0, Event::Connected), (3, Event::Moved)]);
        deadlines.handle(4, Event::Expect(Expected::Preempt));
        assert_eq!(deadlines.poll_deadline(), Some(4 + SILENCE));
        // It came: its pages may take any time.
        deadlines.handle(5, Event::Expect(Expected::Stream));
        assert_eq!(deadlines.poll_deadline(), None);
        deadlines.handle(6, Event::Expect(Expected::Preempt));
        assert_due(&mut deadlines, 6 + SILENCE, Timeout::Preempt);
    }

    #[test]
    fn fails_when_no_page_comes_while_a_multifd_channel_waits() {
        let mut deadlines = deadlines(&[(0, Event::Connected)]);
        deadlines.handle(1, Event::Expect(Expected::FirstPage));
        deadlines.handle(5, Event::Moved);
        assert_eq!(deadlines.poll_deadline(), Some(5 + SILENCE));
        // A page with data: the other connection is none of this migration's.
        deadlines.handle(6, Event::Expect(Expected::Stream));
        assert_eq!(deadlines.poll_deadline(), None);
        deadlines.handle(7, Event::Expect(Expected::FirstPage));
        assert_due(&mut deadlines, 7 + SILENCE, Timeout::FirstPage);
    }

    #[test]
    fn fails_when_the_source_is_silent_at_a_possible_end() {
        let mut deadlines = deadlines(&[(0, Event::Connected)]);
        deadlines.handle(1, Event::Expect(Expected::EndOfStream));
        // More bytes: this was not the end.
        deadlines.handle(2, Event::Moved);
        deadlines.handle(2, Event::Expect(Expected::Stream));
        assert_eq!(deadlines.poll_deadline(), None);
        deadlines.handle(9, Event::Expect(Expected::EndOfStream));
        deadlines.handle(10, Event::Expect(Expected::EndOfStream));
        assert_due(&mut deadlines, 9 + SILENCE, Timeout::EndOfStream);
    }

    #[test]
    fn is_over_when_shut_was_written_on_the_only_connection() {
        let mut deadlines = deadlines(&[
            (0, Event::Connected),
            (1, Event::Finished(Ending::Postcopy)),
            (2, Event::ShutSent { reconnected: false }),
        ]);
        assert!(deadlines.is_over());
        assert_eq!(deadlines.poll_deadline(), None);
        deadlines.handle(3, Event::Lost);
        assert!(deadlines.is_over());
    }

    #[test]
    fn lingers_after_the_source_closed_without_surely_reading_shut() {
        for shut_sent in [true, false] {
            let mut deadlines = deadlines(&[
                (0, Event::Connected),
                (1, Event::Finished(Ending::Postcopy)),
            ]);
            if shut_sent {
                deadlines.handle(2, Event::ShutSent { reconnected: true });
            }
            assert!(!deadlines.is_over());
            deadlines.handle(10, Event::Lost);
            // The source asks again: SHUT is sent again.
            deadlines.handle(11, Event::Connected);
            deadlines.handle(11, Event::Expect(Expected::Resume { rival: false }));
            assert_eq!(deadlines.poll_deadline(), Some(11 + RECOVERY));
            deadlines.handle(20, Event::Lost);
            assert_due(&mut deadlines, 20 + LINGER, Timeout::Linger);
            assert!(deadlines.is_over());
        }
    }

    #[test]
    fn ends_a_precopy_migration_when_the_source_closes() {
        let finished = Event::Finished(Ending::Precopy);
        let mut deadlines = deadlines(&[(0, Event::Connected), (1, finished)]);
        deadlines.handle(2, Event::ShutSent { reconnected: false });
        assert!(!deadlines.is_over(), "the description may follow");
        deadlines.handle(3, Event::Lost);
        assert!(deadlines.is_over());
        let mut deadlines = self::deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
        deadlines.handle(2, finished);
        assert!(deadlines.is_over(), "the source closed first");
    }

    #[test]
    fn drops_a_source_that_does_not_close_after_shut() {
        let mut deadlines = deadlines(&[
            (0, Event::Connected),
            (1, Event::Finished(Ending::Precopy)),
            (1, Event::Expect(Expected::Close)),
            (9, Event::Moved),
        ]);
        assert_due(&mut deadlines, 9 + RECOVERY, Timeout::Close);
    }

    #[test]
    fn reads_on_after_a_write_error() {
        let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::WriteFailed)]);
        deadlines.handle(5, Event::Moved);
        deadlines.handle(6, Event::WriteFailed);
        assert_due(&mut deadlines, 1 + LINGER, Timeout::WriteFailed);
        assert_eq!(deadlines.poll(u64::MAX), None, "it comes once");
        deadlines.handle(7, Event::Drained);
        assert_eq!(deadlines.poll_deadline(), None, "nothing failed");
        deadlines.handle(8, Event::WriteFailed);
        deadlines.handle(9, Event::Drained);
        assert_due(&mut deadlines, 9, Timeout::WriteFailed);
    }

    #[test]
    fn waits_after_shut_1_only_for_a_source_that_has_stopped_its_guest() {
        let mut deadlines = deadlines(&[
            (0, Event::Connected),
            (7, Event::Failed { switched: true }),
            (8, Event::Moved),
        ]);
        assert_due(&mut deadlines, 7 + FAREWELL, Timeout::Farewell);
        assert!(deadlines.is_over());
        let mut deadlines = self::deadlines(&[(7, Event::Failed { switched: false })]);
        assert_eq!(deadlines.poll(7), Some(Timeout::Farewell));
    }

    #[test]
    fn never_overflows() {
        let end = u64::MAX;
        for event in [
            Event::Lost,
            Event::WriteFailed,
            Event::Failed { switched: true },
            Event::Expect(Expected::Close),
        ] {
            let deadlines = deadlines(&[(end, Event::Connected), (end, event)]);
            assert_eq!(deadlines.poll_deadline(), Some(end), "{event:?}");
        }
    }
}

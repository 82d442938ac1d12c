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
mod tests;

//! Detects whether the destination has the preempt channel on.
//!
//! A QEMU with the capability `postcopy-preempt` silently waits for a second
//! connection: 7.1 and 7.2 before they read the first one, from 9.0 on before they
//! load the package. One without it accepts a second connection and closes it
//! (`socket.c:socket_accept_incoming_migration`). No message reports either, so the
//! source infers it from the answers to its PINGs.

use retpath_codec::wire::value::PING_AFTER_PACKAGE;

use super::framing::{self, PING_PREEMPT};
use super::state::Heard;
use super::{Error, Next, Preempt, Source, SourcePhase};

/// Answers to PING 5 that a new preempt channel needs.
///
/// Before the switch QEMU reads the main channel in a coroutine of its main loop, which
/// accepts and closes connections whenever the coroutine has nothing to read. So the
/// source sends nothing for [`PAUSE`] before each PING but the first, and trusts the
/// channel if it is open for that long after the last answer: the main loop has turned.
const ANSWERS: u8 = 2;

/// How long the main channel is idle before the next PING 5, and after the last answer.
/// Long enough for QEMU to be scheduled on a busy host.
const PAUSE: u64 = 50_000_000;

/// A destination that waited for the preempt channel listens within this time after it
/// is connected. One that was stalled does so whenever it continues.
const PROMPT: u64 = 500_000_000;

/// How long a destination that may have been stalled has for closing the preempt
/// channel, once it listens: it accepts connections only after loading the devices.
const TRIAL: u64 = 2_000_000_000;

/// How long a new main link must last before an early preempt channel is connected.
///
/// A QEMU that has not noticed the end of the old link closes new ones at once. If it
/// closed the main link, it would take the preempt channel for it. It answers nothing
/// before the preempt channel is connected, so only time can tell.
const EARLY_DELAY: u64 = 250_000_000;

/// The preempt channel's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Connection {
    #[default]
    Down,
    /// The caller is to connect it. `offered`: because the destination is silent after
    /// the switch.
    Connecting {
        offered: bool,
    },
    /// Unproven: it needs `left` more answers to PING 5, or one to PING 4. The next PING 5
    /// is to be sent at `due`; `None` while one has not been answered.
    Pinging {
        left: u8,
        due: Option<u64>,
    },
    /// Unproven: it was offered, connected at this time, and needs an answer to PING 4.
    Offered {
        connected: u64,
    },
    /// Unproven: it must not be closed before this time.
    Trial {
        until: u64,
    },
    Up,
    /// The end mark has been handed out.
    Ended,
}

/// The answer that a source with [`Config::probe`](super::Config::probe) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// A PONG to the beginning of the stream. A destination that waits for more
    /// connections sends none: for those of multifd in every release, for the preempt
    /// channel in QEMU 7.1 and 7.2.
    Answer,
    /// PONG 4: the destination has begun to load the package or, in a recovery, has
    /// read POSTCOPY_RESUME. From QEMU 9.0 on it waits for the preempt channel
    /// first.
    Listening,
    /// The received bitmaps. QEMU 7.1 and 7.2 wait for the preempt channel first.
    Bitmaps,
    /// SHUT: everything has been sent. QEMU 8.0 to 8.2 load the package without
    /// the preempt channel, and wait for it here.
    End,
}

impl Source {
    /// The answer that the migration now depends on and that a destination gives
    /// immediately. `None` without [`Config::probe`](super::Config::probe).
    pub fn awaits(&self) -> Option<Awaited> {
        match self.phase {
            _ if !self.config.probe => None,
            SourcePhase::Precopy | SourcePhase::Switching
                if self.link.heard == Heard::Nothing
                    || matches!(self.link.connection, Connection::Pinging { due: None, .. }) =>
            {
                Some(Awaited::Answer)
            }
            SourcePhase::Recovering if !self.link.recovery.asked.is_empty() => {
                Some(Awaited::Bitmaps)
            }
            SourcePhase::Postcopy | SourcePhase::Completing
                if self.link.heard < Heard::Listening =>
            {
                Some(Awaited::Listening)
            }
            SourcePhase::Completing => Some(Awaited::End),
            _ => None,
        }
    }

    /// The kind of preempt channel that is configured, or was opened later.
    pub fn preempt(&self) -> Option<Preempt> {
        self.config.preempt
    }

    /// The preempt channel that [`Next::Connect`] or
    /// [`Source::open_preempt`] asked for is connected.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: it was not asked for.
    pub fn preempt_connected(&mut self, now: u64) -> Result<(), Error> {
        let Connection::Connecting { offered } = self.link.connection else {
            return Err(self.not_now("preempt_connected"));
        };
        self.link.connection = match (self.config.probe, offered) {
            (false, _) => Connection::Up,
            (true, false) => Connection::Pinging {
                left: ANSWERS,
                due: Some(now),
            },
            (true, true) => Connection::Offered { connected: now },
        };
        Ok(())
    }

    /// Whether the destination may still close the preempt channel without losing
    /// pages: nothing has been sent on it.
    pub fn is_preempt_unproven(&self) -> bool {
        matches!(
            self.link.connection,
            Connection::Pinging { .. } | Connection::Offered { .. } | Connection::Trial { .. }
        )
    }

    /// The preempt channel could not be connected, or the destination closed it
    /// before anything was sent on it. All pages travel on the main channel from now
    /// on, over later links, too.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: there is none, or pages may have been sent on it.
    pub fn preempt_refused(&mut self) -> Result<(), Error> {
        let connecting = matches!(self.link.connection, Connection::Connecting { .. });
        if !connecting && !self.is_preempt_unproven() {
            return Err(self.not_now("preempt_refused"));
        }
        self.config.preempt = None;
        self.link.connection = Connection::Down;
        Ok(())
    }

    /// Adds a preempt channel that was not configured, because the destination seems
    /// to wait for one: connect it now, then call [`Source::preempt_connected`].
    /// Later links get one in the usual order.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: there is one, or nothing is [awaited](Source::awaits).
    pub fn open_preempt(&mut self, kind: Preempt) -> Result<(), Error> {
        if self.config.preempt.is_some() || self.awaits().is_none() {
            return Err(self.not_now("open_preempt"));
        }
        self.config.preempt = Some(kind);
        self.link.connection = Connection::Connecting {
            offered: self.guest_left(),
        };
        Ok(())
    }

    /// Whether requested pages travel on the preempt channel.
    pub(super) fn has_preempt(&self) -> bool {
        self.link.connection == Connection::Up
    }

    /// Whether the preempt channel is connected, proven or not.
    pub(super) fn is_connected(&self) -> bool {
        self.has_preempt() || self.is_preempt_unproven()
    }

    /// What the preempt channel needs before the main channel sends anything else: its
    /// connection or, before the switch, a proof that the destination keeps it.
    pub(super) fn prepare_preempt(&mut self, now: u64, out: &mut Vec<u8>) -> Option<Next> {
        let early = self.config.preempt? == Preempt::Early;
        let heard = self.link.heard != Heard::Nothing;
        let switched = !matches!(self.phase, SourcePhase::Precopy | SourcePhase::Switching);
        let until = match &mut self.link.connection {
            Connection::Down => {
                let due = match self.phase {
                    SourcePhase::Fresh => early.then_some(0),
                    SourcePhase::Recovering if early => {
                        Some(self.link.since.saturating_add(EARLY_DELAY))
                    }
                    SourcePhase::Recovering => self.link.recovery.is_complete().then_some(0),
                    _ => (heard && !switched).then_some(0),
                };
                if now >= due? {
                    self.link.connection = Connection::Connecting { offered: false };
                    return Some(Next::Connect);
                }
                due
            }
            _ if switched => return None,
            Connection::Pinging { .. } if !heard => return None,
            Connection::Pinging { due, .. } => {
                if due.is_some_and(|due| now >= due) {
                    *due = None;
                    self.close_section(out);
                    framing::ping(PING_PREEMPT, out);
                    return Some(Next::Write);
                }
                *due
            }
            Connection::Offered { .. } => None,
            Connection::Trial { until } => Some(*until),
            Connection::Connecting { .. } | Connection::Up | Connection::Ended => return None,
        };
        Some(Next::Wait { until })
    }

    /// Updates the state of the preempt channel after a PONG.
    ///
    /// After the switch the destination reads the main channel in another thread than
    /// the one that accepts connections, so PONG 4 only proves that it no longer waits
    /// for one. A destination without the capability that was stalled when the channel
    /// was offered sends it, too, and closes the channel later.
    pub(super) fn preempt_answered(&mut self, value: u32, now: u64) {
        let pause = now.saturating_add(PAUSE);
        self.link.connection = match (self.link.connection, value) {
            (Connection::Pinging { left, due: None }, PING_PREEMPT) if left > 1 => {
                let (left, due) = (left - 1, Some(pause));
                Connection::Pinging { left, due }
            }
            (Connection::Pinging { due: None, .. }, PING_PREEMPT) => {
                Connection::Trial { until: pause }
            }
            (Connection::Pinging { .. }, PING_AFTER_PACKAGE) if self.guest_left() => Connection::Up,
            (Connection::Offered { connected }, PING_AFTER_PACKAGE) => {
                match now.saturating_sub(connected) <= PROMPT {
                    true => Connection::Up,
                    false => Connection::Trial {
                        until: now.saturating_add(TRIAL),
                    },
                }
            }
            (same, _) => same,
        };
    }
}

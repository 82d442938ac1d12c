//! Detects whether the destination has the preempt channel on.
//!
//! A QEMU with the capability `postcopy-preempt` silently waits for a second
//! connection: 7.1 and 7.2 before they read the first one, from 9.0 on before they
//! load the package. One without it accepts a second connection and closes it
//! (`socket.c:socket_accept_incoming_migration`). No message reports either, so the
//! source infers it from the answers to its PINGs.

use super::framing::{self, PING_BEHIND, PING_PREEMPT};
use super::line::{Connection, Line};
use super::{Error, Phase, Preempt, Source};

/// Answers to PING 5 that a new preempt channel needs. The first one comes from
/// a turn of the destination's main loop in which the connection is there, the
/// second one from a later turn.
const PROOFS: u8 = 2;

/// What a source with [`Config::probe`](super::Config::probe) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// An answer to the beginning of the stream. A destination that waits for
    /// more connections gives none: for those of multifd in every release, for
    /// the preempt channel in QEMU 7.1 and 7.2.
    Answer,
    /// The destination begins with the package or, after a recovery, reads on
    /// behind POSTCOPY_RESUME. From QEMU 9.0 on it waits for the preempt channel
    /// before.
    Listening,
    /// The received bitmaps. QEMU 7.1 and 7.2 wait for the preempt channel
    /// before.
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
            Phase::Precopy | Phase::Switching if !self.pong => Some(Awaited::Answer),
            Phase::Switching if !self.has_preempt() && self.is_connected() => Some(Awaited::Answer),
            Phase::Recovering if self.recovery.has_asked() => Some(Awaited::Bitmaps),
            Phase::Postcopy | Phase::Completing if !self.listening => Some(Awaited::Listening),
            Phase::Completing => Some(Awaited::End),
            _ => None,
        }
    }

    /// The kind of preempt channel that is configured, or was opened later.
    pub fn preempt(&self) -> Option<Preempt> {
        self.config.preempt
    }

    /// The preempt channel that [`Next::Connect`](super::Next::Connect) or
    /// [`Source::open_preempt`] asked for is connected.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: it was not asked for.
    pub fn preempt_connected(&mut self) -> Result<(), Error> {
        if self.connection != Connection::Asked {
            return Err(self.not_now("preempt_connected"));
        }
        self.connection = match self.config.probe {
            true => Connection::Unproven {
                left: PROOFS,
                asked: false,
            },
            false => Connection::Up,
        };
        Ok(())
    }

    /// Whether the destination may still close the preempt channel without losing
    /// pages: nothing has been sent on it.
    pub fn is_preempt_unproven(&self) -> bool {
        matches!(self.connection, Connection::Unproven { .. })
    }

    /// The preempt channel could not be connected, or the destination closed it
    /// before anything was sent on it. All pages travel on the main channel from now
    /// on, over later links, too.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: there is none, or pages may have been sent on it.
    pub fn preempt_refused(&mut self) -> Result<(), Error> {
        if !self.is_preempt_unproven() && self.connection != Connection::Asked {
            return Err(self.not_now("preempt_refused"));
        }
        self.config.preempt = None;
        self.connection = Connection::Down;
        self.preempt = Line::default();
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
        self.connection = Connection::Asked;
        Ok(())
    }

    /// Whether requested pages travel on the preempt channel.
    pub(super) fn has_preempt(&self) -> bool {
        self.connection == Connection::Up
    }

    /// Whether the preempt channel is there.
    pub(super) fn is_connected(&self) -> bool {
        self.has_preempt() || self.is_preempt_unproven()
    }

    /// Before the switch, sends a PING to find out if the destination keeps the
    /// preempt channel; returns whether one was written.
    pub(super) fn prove_preempt(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.connection {
            Connection::Unproven { asked, .. } if self.pong && !*asked => *asked = true,
            _ => return false,
        }
        self.close_section(out);
        framing::ping(PING_PREEMPT, out);
        true
    }

    /// Updates the state of the preempt channel after a PONG. After the switch the
    /// destination reads the main channel in another thread than the one that accepts
    /// connections, so PONG 4 only proves that it no longer waits for one.
    pub(super) fn preempt_answered(&mut self, value: u32) {
        self.connection = match (self.connection, value) {
            (Connection::Unproven { left, asked: true }, PING_PREEMPT) if left > 1 => {
                Connection::Unproven {
                    left: left - 1,
                    asked: false,
                }
            }
            (Connection::Unproven { asked: true, .. }, PING_PREEMPT) => Connection::Up,
            (Connection::Unproven { .. }, PING_BEHIND) if self.guest_left => Connection::Up,
            (same, _) => same,
        };
    }
}

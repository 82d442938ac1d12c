//! Detects whether the destination has the preempt channel on.
//!
//! A QEMU with the capability `postcopy-preempt` silently waits for a second
//! connection: 7.1 and 7.2 before they read the first one, from 9.0 on before they
//! load the package. One without it accepts a second connection and closes it
//! (`socket.c:socket_accept_incoming_migration`). No message reports either, so the
//! source infers it from the answers to its PINGs.

use retpath_codec::wire::value::PING_AFTER_PACKAGE;

use super::channel_state::{Activity, ChannelState, Heard};
use super::framing::{self, PING_PREEMPT};
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
    /// Connected, but the destination may still close it. Nothing is sent on it.
    Unproven(Proof),
    Up,
}

/// What an unproven preempt channel lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Answers to PING 5, or one to PING 4.
    Answers {
        /// How many more answers to PING 5.
        left: u8,
        ping: Ping,
    },
    /// An answer to PING 4. The channel was offered, and connected at this time.
    Listening { connected: u64 },
    /// That it is not closed until then.
    Trial { until: u64 },
}

/// The next PING 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    /// It has been sent and not been answered.
    InFlight,
    /// It is to be sent then.
    Due(u64),
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
                if self.link.heard == Heard::Nothing || self.has_ping_in_flight() =>
            {
                Some(Awaited::Answer)
            }
            SourcePhase::Recovering if self.link.recovery.has_asked() => Some(Awaited::Bitmaps),
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
            (true, false) => Connection::Unproven(Proof::Answers {
                left: ANSWERS,
                ping: Ping::Due(now),
            }),
            (true, true) => Connection::Unproven(Proof::Listening { connected: now }),
        };
        Ok(())
    }

    /// Whether the destination may still close the preempt channel without losing
    /// pages: nothing has been sent on it.
    pub fn is_preempt_unproven(&self) -> bool {
        matches!(self.link.connection, Connection::Unproven(_))
    }

    /// The preempt channel could not be connected, or the destination closed it
    /// before anything was sent on it. All pages travel on the main channel from now
    /// on, over later links, too.
    ///
    /// # Errors
    ///
    /// [`Error::Phase`]: there is none, or pages may have been sent on it.
    pub fn preempt_refused(&mut self) -> Result<(), Error> {
        match self.link.connection {
            Connection::Connecting { .. } | Connection::Unproven(_) => {}
            Connection::Down | Connection::Up => return Err(self.not_now("preempt_refused")),
        }
        self.config.preempt = None;
        self.link.connection = Connection::Down;
        self.link.preempt = ChannelState::default();
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

    /// Whether the preempt channel is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.has_preempt() || self.is_preempt_unproven()
    }

    fn has_ping_in_flight(&self) -> bool {
        matches!(
            self.link.connection,
            Connection::Unproven(Proof::Answers {
                ping: Ping::InFlight,
                ..
            })
        )
    }

    /// Before the switch, finds out whether the destination keeps the preempt channel:
    /// what to do instead of anything else.
    pub(super) fn prove_preempt(&mut self, now: u64, out: &mut Vec<u8>) -> Option<Next> {
        let Connection::Unproven(proof) = &mut self.link.connection else {
            return None;
        };
        let until = match proof {
            Proof::Answers { .. } if self.link.heard == Heard::Nothing => return None,
            Proof::Answers { ping, .. } => match *ping {
                Ping::Due(due) if now >= due => {
                    *ping = Ping::InFlight;
                    self.close_section(out);
                    framing::ping(PING_PREEMPT, out);
                    return Some(Next::Write);
                }
                Ping::Due(due) => Some(due),
                Ping::InFlight => None,
            },
            Proof::Trial { until } => Some(*until),
            Proof::Listening { .. } => None,
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
        let Connection::Unproven(proof) = self.link.connection else {
            return;
        };
        let next = match (proof, value) {
            (
                Proof::Answers {
                    left,
                    ping: Ping::InFlight,
                },
                PING_PREEMPT,
            ) => {
                let until = now.saturating_add(PAUSE);
                Some(match left {
                    ..=1 => Proof::Trial { until },
                    _ => Proof::Answers {
                        left: left - 1,
                        ping: Ping::Due(until),
                    },
                })
            }
            (Proof::Answers { .. }, PING_AFTER_PACKAGE) if self.guest_left() => None,
            (Proof::Listening { connected }, PING_AFTER_PACKAGE) => {
                let prompt = now.saturating_sub(connected) <= PROMPT;
                let until = now.saturating_add(TRIAL);
                (!prompt).then_some(Proof::Trial { until })
            }
            (same, _) => Some(same),
        };
        self.link.connection = next.map_or(Connection::Up, Connection::Unproven);
    }

    /// Sends requested pages on the preempt channel from now on, if its trial is over.
    pub(super) fn trust_preempt(&mut self, now: u64) {
        if let Connection::Unproven(Proof::Trial { until }) = self.link.connection
            && now >= until
        {
            self.link.connection = Connection::Up;
        }
    }

    /// Whether an early preempt channel is to get its end mark. Nothing depends on
    /// whether the destination reads it.
    pub(super) fn ends_preempt(&self) -> bool {
        self.phase == SourcePhase::Completing
            && self.config.preempt == Some(Preempt::Early)
            && self.is_connected()
            && self.link.preempt.activity != Activity::Ended
    }
}

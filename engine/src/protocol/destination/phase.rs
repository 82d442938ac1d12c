//! Phases of an incoming migration, and the transitions between them.
//!
//! Mirrors the postcopy states of `postcopy-ram.h:PostcopyState` (NONE,
//! ADVISE, DISCARD, LISTENING, RUNNING, END) and the migration states
//! `postcopy-paused` and `postcopy-recover`.

use std::fmt;

/// The phase of an incoming migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// POSTCOPY_ADVISE has not come; pages arrive in precopy.
    Fresh,
    /// Postcopy may follow; pages arrive in precopy.
    Advised,
    /// The source has stopped its guest, and announces what it will send again.
    Discarding,
    /// Missing pages are requested; the device state is being loaded.
    Listening,
    /// The guest may run; missing pages are requested.
    Running,
    /// The connection is lost; faults are remembered.
    Paused,
    /// There is a new connection; the source asks what has been received.
    Recovering,
    /// Over: every page has been received, and the source was told.
    Finished,
    /// Over: the migration failed.
    Failed,
}

/// A transition from one phase to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    Advise,
    Discard,
    Listen,
    Run,
    LinkLost,
    /// The connection is lost after the source has stopped its guest, which it cannot run
    /// again by itself.
    LinkLostAtSwitch,
    LinkRestored,
    Resume,
    Finish,
    Fail,
}

impl Phase {
    /// The phase after a transition; `None` if the transition is not allowed.
    pub(super) fn after(self, transition: Transition) -> Option<Self> {
        use Phase::{
            Advised, Discarding, Failed, Finished, Fresh, Listening, Paused, Recovering, Running,
        };
        Some(match (self, transition) {
            (Fresh, Transition::Advise) => Advised,
            (Advised | Discarding, Transition::Discard) => Discarding,
            // A QEMU destination fails on LISTEN without a discard; the protocol does not
            // require one.
            (Advised | Discarding, Transition::Listen) => Listening,
            (Listening, Transition::Run) => Running,

            // Before RUN the guest is still at the source: the migration has to be started
            // again, and there is nothing to recover.
            (Fresh | Advised | Discarding | Listening, Transition::LinkLost) => Failed,
            (Running | Paused | Recovering, Transition::LinkLost) => Paused,
            (Advised | Discarding | Listening, Transition::LinkLostAtSwitch) => Paused,
            // The source may have missed SHUT.
            (Paused | Finished, Transition::LinkRestored) => Recovering,
            (Recovering, Transition::Resume) => Running,

            // Without a switch to postcopy, or with one.
            (Fresh | Advised | Discarding | Running, Transition::Finish) => Finished,
            (Finished | Failed, Transition::LinkLost) => self,
            (Finished, Transition::Fail) => return None,
            (_, Transition::Fail) => Failed,
            _ => return None,
        })
    }

    /// Whether pages arrive in precopy.
    pub fn is_precopy(self) -> bool {
        matches!(self, Phase::Fresh | Phase::Advised | Phase::Discarding)
    }

    /// Whether missing pages are requested and placed.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Listening | Phase::Running)
    }

    /// Whether the connection is down, or does not carry pages again yet.
    pub fn is_recoverable(self) -> bool {
        matches!(self, Phase::Paused | Phase::Recovering)
    }

    /// Whether the migration is over.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Finished | Phase::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Fresh => "fresh",
            Phase::Advised => "advised",
            Phase::Discarding => "discarding",
            Phase::Listening => "listening",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Recovering => "recovering",
            Phase::Finished => "finished",
            Phase::Failed => "failed",
        })
    }
}

//! Where an incoming migration stands, and which turns lead on from there.
//!
//! Mirrors the postcopy states of `postcopy-ram.h:PostcopyState` (NONE,
//! ADVISE, DISCARD, LISTENING, RUNNING, END) and the migration states
//! `postcopy-paused` and `postcopy-recover`.

use std::fmt;

/// Where an incoming migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing is known of postcopy; pages arrive in precopy.
    Fresh,
    /// Postcopy may follow; pages arrive in precopy.
    Advised,
    /// The source has stopped its guest and says what it will send again.
    Discarding,
    /// Missing pages are requested; the device state is being loaded.
    Listening,
    /// The guest may run; missing pages are requested.
    Running,
    /// The link is lost; faults are remembered.
    Paused,
    /// A new link is there; the source asks what has been received.
    Recovering,
    /// Over: every page is here and the source has been told.
    Finished,
    /// Over: it failed.
    Failed,
}

/// What moves a migration from one phase to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Advise,
    Discard,
    Listen,
    Run,
    LinkLost,
    /// The link is lost after the source has stopped its guest, and it cannot
    /// run it again by itself.
    LinkLostAtSwitch,
    LinkRestored,
    Resume,
    Finish,
    Fail,
}

impl Phase {
    /// The phase after a turn, if it is one that may come now.
    pub(super) fn after(self, turn: Turn) -> Option<Self> {
        use Phase::{
            Advised, Discarding, Failed, Finished, Fresh, Listening, Paused, Recovering, Running,
        };
        Some(match (self, turn) {
            (Fresh, Turn::Advise) => Advised,
            (Advised | Discarding, Turn::Discard) => Discarding,
            // A QEMU destination trips over LISTEN without a discard; nothing
            // in the protocol asks for one.
            (Advised | Discarding, Turn::Listen) => Listening,
            (Listening, Turn::Run) => Running,

            // Before RUN the source still has the guest: it is the one to
            // start again, and there is nothing to recover.
            (Fresh | Advised | Discarding | Listening, Turn::LinkLost) => Failed,
            (Running | Paused | Recovering, Turn::LinkLost) => Paused,
            (Advised | Discarding | Listening, Turn::LinkLostAtSwitch) => Paused,
            // The source may not have seen the SHUT that ended it.
            (Paused | Finished, Turn::LinkRestored) => Recovering,
            (Recovering, Turn::Resume) => Running,

            // Without a switch (precopy all the way), or with one.
            (Fresh | Advised | Discarding | Running, Turn::Finish) => Finished,
            (Finished | Failed, Turn::LinkLost) => self,
            (Finished, Turn::Fail) => return None,
            (_, Turn::Fail) => Failed,
            _ => return None,
        })
    }

    /// Whether pages still arrive in precopy.
    pub fn is_precopy(self) -> bool {
        matches!(self, Phase::Fresh | Phase::Advised | Phase::Discarding)
    }

    /// Whether missing pages are requested and placed now.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Listening | Phase::Running)
    }

    /// Whether the link is down, or not in use for pages again yet.
    pub fn is_recoverable(self) -> bool {
        matches!(self, Phase::Paused | Phase::Recovering)
    }

    /// Whether nothing more will happen.
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

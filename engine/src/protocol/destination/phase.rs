//! Phases of an incoming migration, the transitions between them, and which events each
//! phase allows.
//!
//! Mirrors the postcopy states of `postcopy-ram.h:PostcopyState` (NONE,
//! ADVISE, DISCARD, LISTENING, RUNNING, END) and the migration states
//! `postcopy-paused` and `postcopy-recover`.

use std::fmt;

use retpath_codec::forward::{Event, ram::Record};

use super::{Destination, ErrorKind};
use crate::Channel;

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

impl Phase {
    /// Whether this phase may be followed by `next`.
    pub(super) fn may_become(self, next: Self) -> bool {
        use Phase::{
            Advised, Discarding, Failed, Finished, Fresh, Listening, Paused, Recovering, Running,
        };
        match next {
            Fresh => false,
            Advised => self == Fresh,
            // A QEMU destination fails on LISTEN without a discard; the protocol does not
            // require one.
            Discarding | Listening => matches!(self, Advised | Discarding),
            Running => matches!(self, Listening | Recovering),
            // Before RUN the guest is still at the source: the migration has to be started again,
            // unless the source may pause, too.
            Paused => self.has_run() || matches!(self, Advised | Discarding | Listening),
            // The source may have missed SHUT.
            Recovering => matches!(self, Paused | Finished),
            // Without a switch to postcopy, or with one.
            Finished => matches!(self, Fresh | Advised | Discarding | Running),
            Failed => !self.is_over(),
        }
    }

    /// Whether the guest may be running here, so that a lost connection is a pause.
    pub(super) fn has_run(self) -> bool {
        self == Phase::Running || self.is_recoverable()
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

/// What an error says once the migration has failed.
pub(super) const OVER: &str = "the migration has already failed";

/// State of the device state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Arriving,
    Complete,
    Saved,
    /// The connection was lost before all of it was received.
    Lost,
}

/// State of the return path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReturnPath {
    /// OPEN_RETURN_PATH has not come.
    Closed,
    Open,
    /// SWITCHOVER_ACK has been sent.
    Acknowledged,
}

/// State of the current main channel's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainStream {
    Open,
    /// Inside a package.
    Package,
    /// EOF has come.
    Ended,
}

/// State of the current preempt channel's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreemptStream {
    /// No preempt channel was agreed.
    NotAgreed,
    Open,
    /// No more pages will come on it.
    Ended,
}

/// How far the end of a migration has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// [`Action::Complete`](super::Action::Complete) follows when everything has been received.
    Unconfirmed,
    /// [`Action::Complete`](super::Action::Complete) was returned.
    AwaitingConfirmation,
    /// SHUT(0) may be sent.
    Confirmed,
    /// [`Action::Finished`](super::Action::Finished) was returned.
    Reported,
}

/// The class of an event, which decides whether it is allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventClass {
    Command,
    /// Allowed on the preempt channel.
    Urgent,
    /// Allowed on the preempt channel, which it ends.
    Eos,
    Description,
    Other,
}

impl EventClass {
    pub(super) fn of(event: &Event<'_>) -> Self {
        match event {
            Event::Command(_) => EventClass::Command,
            Event::Record(Record::Page { .. } | Record::Zero { .. }) => EventClass::Urgent,
            Event::Record(Record::Eos) => EventClass::Eos,
            Event::Description { .. } | Event::DescriptionBytes(_) => EventClass::Description,
            _ => EventClass::Other,
        }
    }
}

impl Destination {
    /// Checks that an event of this class is allowed on this channel now.
    pub(super) fn expect(
        &self,
        channel: Channel,
        class: EventClass,
        what: &'static str,
    ) -> Result<(), ErrorKind> {
        let out_of_turn = Err(ErrorKind::OutOfTurn { what });
        let is_main = channel == Channel::Main;
        match (self.phase, class) {
            (Phase::Failed, _) => return Err(ErrorKind::Misuse(OVER)),
            (Phase::Paused, _) => {
                let kind = ErrorKind::Misuse("an event came while the connection is down");
                return Err(kind);
            }
            (_, EventClass::Description) => {
                return match self.is_main_ended() && !self.listening && is_main {
                    true => Ok(()),
                    false => out_of_turn,
                };
            }
            // An early preempt channel ends after the main channel, when all pages may have been
            // received. On the main channel it is refused below.
            (Phase::Recovering, EventClass::Command) | (Phase::Finished, EventClass::Eos) => {}
            (Phase::Finished | Phase::Recovering, _) => return out_of_turn,
            _ => {}
        }
        match self.preempt {
            _ if is_main && self.is_main_ended() => out_of_turn,
            _ if is_main => Ok(()),
            PreemptStream::NotAgreed => Err(ErrorKind::Misuse("no preempt channel was agreed")),
            PreemptStream::Ended => out_of_turn,
            PreemptStream::Open => match class {
                EventClass::Urgent | EventClass::Eos => Ok(()),
                _ => Err(ErrorKind::OnPreempt { what }),
            },
        }
    }

    /// Changes the phase, if `what` is allowed now.
    pub(super) fn advance(&mut self, next: Phase, what: &'static str) -> Result<(), ErrorKind> {
        if !self.phase.may_become(next) {
            return Err(ErrorKind::OutOfTurn { what });
        }
        self.phase = next;
        Ok(())
    }
}

//! The order of sections and commands.
//!
//! ```text
//!  Start ──ADVISE──▶ Advised ──DISCARD──▶ Discarding ─┐
//!                       └──────────┬──────────────────┘
//!                               PACKAGED
//!                                LISTEN ──▶ Listening ──RUN──▶ Running
//!  a resumed channel:  Recovering ──RESUME──────────────────────▶ Running
//! ```
//!
//! Stricter than QEMU where no QEMU release sends anything else: LISTEN and RUN
//! are the first and the last command of a package and occur only there, a
//! package contains nothing but device state and PING besides, and a resumed
//! channel has no section before RESUME. Mirrors
//! `savevm.c:loadvm_process_command`.

use crate::command::Command;
use crate::error::Rule;
use crate::forward::SectionKind;

/// The phase of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Precopy; postcopy is not announced.
    Start,
    /// Precopy; postcopy may follow.
    Advised,
    /// At the switch.
    Discarding,
    /// Pages may arrive in any order; the device state follows.
    Listening,
    /// The guest may run.
    Running,
    /// On a resumed channel, before POSTCOPY_RESUME.
    Recovering,
}

/// The context of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) phase: Phase,
    /// Inside a package.
    pub(super) package: bool,
    /// OPEN_RETURN_PATH was decoded, or the channel resumes a migration.
    pub(super) return_path: bool,
    /// A section was started.
    pub(super) sections: bool,
}

impl Phase {
    pub(super) const fn is_postcopy(self) -> bool {
        matches!(self, Phase::Listening | Phase::Running | Phase::Recovering)
    }

    const fn words(self) -> &'static str {
        match self {
            Phase::Start => "before POSTCOPY_ADVISE",
            Phase::Advised => "after POSTCOPY_ADVISE",
            Phase::Discarding => "after POSTCOPY_RAM_DISCARD",
            Phase::Listening => "after POSTCOPY_LISTEN",
            Phase::Running => "after POSTCOPY_RUN",
            Phase::Recovering => "before POSTCOPY_RESUME",
        }
    }
}

impl Context {
    fn out_of_turn(self) -> Result<(), Rule> {
        Err(Rule::OutOfTurn {
            state: self.phase.words(),
        })
    }

    /// Checks that a section is allowed here.
    pub(super) fn section(self, kind: SectionKind) -> Result<(), Rule> {
        use Phase::{Advised, Discarding, Listening, Recovering, Running, Start};
        match (kind, self.phase) {
            // LISTEN is inside a package, which does not end before RUN.
            (SectionKind::Full, Listening) => Ok(()),
            (SectionKind::Full, _) if self.package => self.out_of_turn(),
            _ if self.package => Err(Rule::InPackage),
            (SectionKind::Start | SectionKind::Full, Start | Advised | Discarding) => Ok(()),
            (SectionKind::Start | SectionKind::Full, _) | (_, Recovering) => self.out_of_turn(),
            (_, Start | Advised | Discarding | Listening | Running) => Ok(()),
        }
    }

    /// Checks that the stream may end here.
    pub(super) fn eof(self) -> Result<(), Rule> {
        match self.phase {
            _ if self.package => Err(Rule::InPackage),
            Phase::Discarding | Phase::Recovering => self.out_of_turn(),
            _ => Ok(()),
        }
    }

    /// Checks that a command is allowed here, and returns the phase after it.
    pub(super) fn command<N, R>(self, command: &Command<N, R>) -> Result<Phase, Rule> {
        use Phase::{Advised, Discarding, Listening, Recovering, Running, Start};
        let next = match (command, self.phase) {
            (Command::Ping { .. }, _) if !self.return_path => return Err(Rule::NoReturnPath),
            (Command::Ping { .. }, phase) if !self.package || phase.is_postcopy() => phase,
            (Command::PostcopyListen, Advised | Discarding) if self.package => Listening,
            (Command::PostcopyRun, Listening) => Running,
            (Command::PostcopyListen | Command::PostcopyRun, _) if !self.package => {
                return Err(Rule::NotInPackage);
            }
            (Command::Ping { .. } | Command::PostcopyListen | Command::PostcopyRun, _) => {
                return self.out_of_turn().map(|()| self.phase);
            }
            _ if self.package => return Err(Rule::InPackage),
            (Command::PostcopyAdvise { .. }, Start) if self.sections => {
                return Err(Rule::OutOfTurn {
                    state: "after the first section",
                });
            }
            (Command::PostcopyAdvise { .. }, Start) => Advised,
            (Command::PostcopyRamDiscard { .. }, Advised | Discarding) => Discarding,
            (Command::Packaged { .. }, Advised | Discarding) => self.phase,
            // QEMU accepts a second OPEN_RETURN_PATH.
            (
                Command::OpenReturnPath | Command::EnableColo | Command::SwitchoverStart,
                Start | Advised | Discarding,
            ) => self.phase,
            (Command::RecvBitmap { .. }, Recovering) => Recovering,
            (Command::PostcopyResume, Recovering) => Running,
            (Command::RecvBitmap { .. } | Command::PostcopyResume, _) => {
                return Err(Rule::OutOfTurn {
                    state: "outside a recovery",
                });
            }
            _ => return self.out_of_turn().map(|()| self.phase),
        };
        Ok(next)
    }
}

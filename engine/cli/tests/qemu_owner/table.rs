//! The contents of a row of the table.

use std::fmt;

use retpath_support::qemu::types::Release;

/// Releases that the rows are tested with.
pub(crate) const RELEASES: [Release; 4] = [(5, 2), (7, 2), (10, 0), (11, 1)];

/// The progress of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `receive`: memory comes, the guest runs at the source.
    Precopy,
    /// `receive`: without postcopy, everything has come; the image is made.
    PrecopyEnd,
    /// `receive`: the source has stopped its guest, the device state has not come.
    Switch,
    /// `receive`: the device state has come, pages are missing.
    Postcopy,
    /// `receive`: everything has come by postcopy; the image is made.
    PostcopyEnd,
    /// `receive`: the source knows that the migration is over.
    Received,
    /// `serve`: QEMU has not been connected to.
    Connecting,
    /// `serve`: the device state is on its way.
    Sending,
    /// `serve`: the guest runs at QEMU, pages are missing there.
    Serving,
    /// `serve`: QEMU has everything; `serve` has not heard so.
    Unconfirmed,
    /// `serve`: QEMU has said that it has everything.
    Served,
}

impl Phase {
    /// Whether `retpath receive` takes part, and not `retpath serve`.
    pub(crate) fn is_receive(self) -> bool {
        use Phase::{Postcopy, PostcopyEnd, Precopy, PrecopyEnd, Received, Switch};
        matches!(
            self,
            Precopy | PrecopyEnd | Switch | Postcopy | PostcopyEnd | Received
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Precopy => "precopy: the guest runs at the source",
            Self::PrecopyEnd => "end of precopy: all is received, the image is being made",
            Self::Switch => "after the switch, before the device state has come",
            Self::Postcopy => "postcopy, pages missing",
            Self::PostcopyEnd => "end of postcopy: all is received, the image is being made",
            Self::Received => "after SHUT: the migration is over",
            Self::Connecting => "before QEMU is connected to",
            Self::Sending => "the device state is sent, not loaded",
            Self::Serving => "the device state is loaded, pages missing",
            Self::Unconfirmed => "QEMU has all of it, its SHUT has not come",
            Self::Served => "after SHUT: the migration is over",
        })
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The link breaks and stays down for a moment.
    LinkCut,
    /// The link breaks, and no new one is made within `--recover-timeout` or `--retry`.
    LinkGone,
    /// retpath gets SIGTERM.
    Terminated,
    /// retpath gets SIGKILL.
    Killed,
    /// There is no room for the device state.
    NoRoomForDevices,
    /// There is no room for the guest's memory.
    NoRoomForMemory,
    /// There is no room when the finished image gets its name.
    NoRoomForName,
    /// Somebody makes a folder of the image's name.
    NameTaken,
    /// The source's QEMU is killed.
    SourceKilled,
    /// The destination's QEMU is killed.
    DestinationKilled,
    /// The destination's QEMU was started as another machine.
    Refused,
    /// A file of the image is cut short.
    ImageCut,
    /// A file of the image is overwritten.
    ImageChanged,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinkCut => "the link is cut",
            Self::LinkGone => "the link is cut, no new one in time",
            Self::Terminated => "retpath gets SIGTERM",
            Self::Killed => "retpath gets SIGKILL",
            Self::NoRoomForDevices => "no space for the device state",
            Self::NoRoomForMemory => "no space for the memory",
            Self::NoRoomForName => "no space for the name",
            Self::NameTaken => "the image's name is taken meanwhile",
            Self::SourceKilled => "the source's QEMU is killed",
            Self::DestinationKilled => "QEMU is killed",
            Self::Refused => "QEMU was started as another machine",
            Self::ImageCut => "a file of the image is cut short",
            Self::ImageChanged => "a file of the image is overwritten",
        })
    }
}

/// Where the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the source, whole.
    Source,
    /// In the image, whole.
    Image,
    /// At the source, whole, and in the image as it was when it was stopped.
    SourceAndImage,
    /// Part at the source, part in the memory of the process that receives it.
    SourceAndReceive,
    /// Part at the source, part in the folder that `receive` has left.
    SourceAndFolder,
    /// In the folder that `receive` has left, whole.
    Folder,
    /// In the image, but for what was done to a file of it.
    Damaged,
    /// At the source, whole, but QEMU does not run it again before it has been received.
    Stuck,
    /// At QEMU, whole; the image is as it was.
    Qemu,
    /// At QEMU but for the missing pages, which are in the image.
    QemuAndImage,
    /// Nowhere.
    Lost,
    /// What it was when it was saved is in the image; what it did since is nowhere.
    ImageOnly,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Image => "image",
            Self::SourceAndImage => "source **and** image: use one of them",
            Self::SourceAndReceive => "part at the source, part in `receive`",
            Self::SourceAndFolder => "part at the source, part in the folder that `receive` left",
            Self::Folder => "the folder that `receive` left",
            Self::Damaged => "image, which is refused as it is",
            Self::Stuck => "source, which cannot run it yet",
            Self::Qemu => "QEMU",
            Self::QemuAndImage => "QEMU, the missing pages in the image",
            Self::Lost => "**lost**",
            Self::ImageOnly => "image, as it was before; what it did since is **lost**",
        })
    }
}

/// What makes the guest run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cure {
    /// It runs.
    Runs,
    /// `cont` at the source.
    Cont,
    /// `migrate -r` at the source; then there is an image.
    Resume,
    /// `retpath receive --continue` with the folder that is left, and `migrate -r` at the source.
    Continue,
    /// `migrate -r` at the source, to which the guest is given back, and `cont` there.
    GiveBack,
    /// The same to `retpath receive --continue` with the folder that is left.
    ContinueBack,
    /// `retpath receive --continue` with the folder that is left, without the source.
    Complete,
    /// `retpath serve` boots a new QEMU.
    Serve,
    /// The same with the name that `receive` has said.
    ServeKept,
    /// `migrate_recover` at the destination, while `serve` still tries.
    Recover,
    /// `migrate_recover` at the destination, then another `retpath serve --resume`.
    TakeOver,
    /// The image's file is put back, then as [`Cure::Serve`].
    Restore,
    /// The image's file is put back, then as [`Cure::TakeOver`].
    PutBack,
    /// Nothing.
    Nothing,
}

impl fmt::Display for Cure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runs => "it runs",
            Self::Cont => "source: `cont`",
            Self::Resume => {
                "source: `migrate -r URI`, then `retpath serve --image DIR --connect URI`"
            }
            Self::Continue => {
                "`retpath receive --continue DIR --listen URI`; source: `migrate -r URI`"
            }
            Self::GiveBack => "source: `migrate -r URI`, then `cont` once it says failed",
            Self::ContinueBack => {
                "`retpath receive --continue DIR --listen URI`; source: `migrate -r URI`, then \
                 `cont` once it says failed"
            }
            Self::Complete => "`retpath receive --continue DIR`, then `retpath serve`",
            Self::ServeKept => "`retpath serve` with the name that `receive` says, a new QEMU",
            Self::Serve => "`retpath serve --image DIR --connect URI`, a new QEMU",
            Self::Recover => "QEMU: `migrate_recover URI`; `serve` goes on",
            Self::TakeOver => "QEMU: `migrate_recover URI`; `retpath serve … --resume`",
            Self::Restore => "put the file back; `retpath serve --image DIR --connect URI`",
            Self::PutBack => {
                "put the file back; QEMU: `migrate_recover URI`; `retpath serve … --resume`"
            }
            Self::Nothing => "nothing",
        })
    }
}

/// The state of the QEMU that takes part: the source of `receive`, the destination of `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// What `query-migrate` and `query-status` say.
    Is(&'static str, &'static str),
    /// The process has ended.
    Ended,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is("", run) => write!(f, "no migration, `{run}`"),
            Self::Is(migration, run) => write!(f, "`{migration}`, `{run}`"),
            Self::Ended => f.write_str("has ended"),
        }
    }
}

/// The fate of the guest, from a release of QEMU on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) since: Release,
    pub(crate) place: Place,
    pub(crate) state: State,
    pub(crate) cure: Cure,
}

/// A row: outcomes by release, oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) phase: Phase,
    pub(crate) failure: Failure,
    pub(crate) outcomes: &'static [Outcome],
}

impl Row {
    /// What is expected of a release.
    pub(crate) fn outcome(&self, release: Release) -> Outcome {
        let mut outcomes = self.outcomes.iter().rev();
        let found = outcomes.find(|outcome| outcome.since <= release);
        *found.unwrap_or_else(|| panic!("{self:?} says nothing of {release:?}"))
    }
}

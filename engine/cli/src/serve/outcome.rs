//! The outcome of one migration: if it failed, why, where the guest is, what is lost, and what to
//! do.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use retpath_engine::driver::RunError;
use retpath_engine::release::Release;
use retpath_engine::socket::Address;
use retpath_engine::source::{self, FirstRequest, Source, SourcePhase};
use retpath_engine::stats::Stats;
use retpath_image::shown;

use super::served_image::Resumed;
use crate::size::Human;

/// The outcome of one migration.
pub(super) struct Outcome {
    /// Address of the QEMU.
    pub(super) address: Address,
    /// Why it does not have everything; `None` if it has.
    pub(super) failure: Option<Failure>,
    /// Counters and latencies; zero if the migration did not begin.
    pub(super) stats: Stats,
    /// Duration.
    pub(super) time: Duration,
    /// Whether it has the preempt channel.
    pub(super) preempt: bool,
    /// Time from the beginning until QEMU reported that it had loaded the device state.
    pub(super) loaded: Option<Duration>,
    /// What it requested, with a working set.
    pub(super) first_requests: Vec<FirstRequest>,
}

/// The command line of one migration, as advice repeats it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Invocation<'a> {
    /// Folder of the image.
    pub(super) image: &'a Path,
    /// Address of the QEMU.
    pub(super) address: &'a Address,
    /// Whether `--resume` is given.
    pub(super) is_resume: bool,
    /// The argument of `--resume` for the image.
    pub(super) id: Resumed,
    /// Whether `--no-verify` is given.
    pub(super) no_verify: bool,
    /// The argument of `--machine-release`.
    pub(super) machine_release: Option<Release>,
}

/// Why a QEMU does not have everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The cause.
    pub(super) why: String,
    /// Where the guest is.
    pub(super) guest: GuestPlace,
    /// What to do.
    pub(super) advice: String,
}

/// Where the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuestPlace {
    /// Only in the image.
    InImage,
    /// Most likely only in the image: QEMU did not report that it had loaded the devices.
    Unloaded,
    /// At QEMU, with missing pages.
    Partial {
        /// Bytes that were not sent; more may not have arrived.
        left: u64,
    },
    /// At QEMU, and all pages were sent, but not acknowledged.
    Unconfirmed,
    /// At QEMU, if `--resume` was right; its migration was not resumed.
    NotResumed,
    /// Lost: QEMU has given it up.
    Lost,
}

impl GuestPlace {
    fn of(core: &Source, resume: bool) -> Self {
        if !core.guest_left() {
            return Self::InImage;
        }
        if resume && core.stats().resumes == 0 && core.phase() != SourcePhase::Failed {
            return Self::NotResumed;
        }
        match (core.phase(), core.remaining()) {
            _ if !core.is_loaded() => Self::Unloaded,
            (SourcePhase::Failed, _) => Self::Lost,
            (_, 0) => Self::Unconfirmed,
            (_, left) => Self::Partial { left },
        }
    }

    /// Its name for programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InImage => "in-image",
            Self::Unloaded => "not-loaded",
            Self::Partial { .. } => "pages-missing",
            Self::Unconfirmed => "unconfirmed",
            Self::NotResumed => "not-resumed",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for GuestPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InImage => f.write_str("nothing is lost: the guest never left the image"),
            Self::Unloaded => f.write_str(
                "that QEMU did not report that it had loaded the guest's devices, so most likely \
                 nothing is lost, and the guest is only in the image",
            ),
            Self::Partial { left } => write!(
                f,
                "the guest runs at that QEMU, and blocks when it touches missing memory, {} or more, \
                 which is only in the image",
                Human(*left)
            ),
            Self::Unconfirmed => f.write_str(
                "the guest runs at that QEMU; all of its memory was sent, but QEMU did not confirm \
                 it: `info migrate` there says completed if it has arrived",
            ),
            Self::NotResumed => f.write_str(
                "that QEMU did not resume the migration that another process began; the memory that \
                 its guest lacks is only in the image",
            ),
            Self::Lost => f.write_str(
                "that QEMU has given up the guest, with all that it did since it left the image",
            ),
        }
    }
}

impl Failure {
    /// A failure before the migration began.
    pub(super) fn before(why: String) -> Self {
        let advice = "the image is unchanged";
        Self {
            why,
            guest: GuestPlace::InImage,
            advice: advice.into(),
        }
    }

    pub(super) fn new(error: RunError, core: &Source, with: &Invocation<'_>) -> Self {
        let guest = GuestPlace::of(core, with.is_resume);
        Self {
            why: why(&error, core),
            advice: advice(guest, core, with, Damage::of(&error)),
            guest,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, guest, advice } = self;
        write!(f, "{why}; {guest}; {advice}")
    }
}

fn why(error: &RunError, core: &Source) -> String {
    let hint = match (error, core.guest_left() && core.is_loaded()) {
        (RunError::Channel(_), false) => {
            " (start QEMU with `-incoming defer`, set `postcopy-ram`, give it `migrate-incoming`)"
        }
        // A QEMU that cannot load the machine closes the link; newer ones send SHUT(1) first.
        (
            RunError::Link { .. }
            | RunError::Closed
            | RunError::Source(source::Error::GaveUp { .. }),
            false,
        ) => {
            " (QEMU's own messages say why, such as the capability postcopy-ram off, another \
             machine type or size, or RAM page sizes that `retpath import` needs as \
             --block-page-size)"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// The problem with the image's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// No problem is known.
    None,
    /// The files have changed.
    Changed,
    /// The files cannot be read.
    Unreadable,
}

impl Damage {
    fn of(error: &RunError) -> Self {
        let RunError::NoPage { error, .. } = error else {
            return Self::None;
        };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(retpath_image::Error::Changed { .. } | retpath_image::Error::Damaged { .. }) => {
                Self::Changed
            }
            _ => Self::Unreadable,
        }
    }

    /// How to repair the image, before anything else.
    fn remedy(self, with: &Invocation<'_>) -> String {
        let image = shown(with.image);
        let which = match with.id {
            Resumed::Id(id) => {
                format!(
                    "restore the image with the id {id}, check it with `retpath verify {image}`"
                )
            }
            Resumed::None => {
                "restore the image; it has no digests, so this cannot be checked".to_owned()
            }
        };
        match self {
            Self::None => String::new(),
            Self::Changed => format!("the image has changed: {which}, then "),
            Self::Unreadable => {
                format!(
                    "the image cannot be read: repair its disk or file system, or {which}, then "
                )
            }
        }
    }
}

fn advice(guest: GuestPlace, core: &Source, with: &Invocation<'_>, damage: Damage) -> String {
    let (image, address, id) = (shown(with.image), with.address, with.id);
    let again = match damage {
        Damage::None => "the image is unchanged and can be served again, to a new QEMU",
        _ => "serve it again, to a new QEMU",
    };
    let remedy = damage.remedy(with);
    let preempt = core.preempt().map_or("", |_| " --preempt");
    let unverified = match with.no_verify && damage == Damage::None {
        true => " --no-verify",
        false => "",
    };
    let release = with.machine_release.map_or(String::new(), |release| {
        format!(" --machine-release {release}")
    });
    let resume = format!(
        "give it `migrate_recover {address}` (QMP: migrate-recover) and continue with `retpath serve \
         --image {image} --connect {address} --resume {id}{preempt}{unverified}{release}`"
    );
    match guest {
        GuestPlace::InImage | GuestPlace::Lost => format!("{remedy}{again}"),
        GuestPlace::Unloaded => format!(
            "{remedy}if `info migrate` there says postcopy-paused, the guest has run there: {resume}; \
             if not, end that QEMU with `quit`: {again}"
        ),
        GuestPlace::Partial { .. } | GuestPlace::Unconfirmed | GuestPlace::NotResumed => format!(
            "{remedy}once `info migrate` there says postcopy-paused, {resume}; if that QEMU is gone, \
             {again}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use retpath_codec::NameBuf;

    use super::*;

    #[test]
    fn distinguishes_a_changed_image_from_an_unreadable_one() {
        let path = PathBuf::from("ram");
        let of = |error| {
            Damage::of(&RunError::NoPage {
                name: NameBuf::new("pc.ram").expect("a good name"),
                offset: 0,
                error,
            })
        };
        let changed = retpath_image::Error::Changed { path: path.clone() };
        let damaged = retpath_image::Error::Damaged {
            path: path.clone(),
            offset: 0,
            len: 1,
        };
        let unreadable = retpath_image::Error::ReadAt {
            path,
            offset: 0,
            len: 1,
            error: io::ErrorKind::Other.into(),
        };
        assert_eq!(of(io::Error::other(changed)), Damage::Changed);
        assert_eq!(of(io::Error::other(damaged)), Damage::Changed);
        assert_eq!(of(io::Error::other(unreadable)), Damage::Unreadable);
        assert_eq!(Damage::of(&RunError::Closed), Damage::None);
    }
}

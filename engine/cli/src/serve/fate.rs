//! Why a QEMU does not have everything, and what that means: whose the guest is, what is lost, what
//! is not, and what to do.

use std::fmt;

use super::boot::Boot;
use super::stock::Resumed;
use crate::size::Human;
use retpath_engine::driver::RunError;
use retpath_engine::source::{self, Phase, Source};

/// Why a QEMU does not have everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What happened.
    pub(super) why: String,
    /// Where that leaves the guest.
    pub(super) fate: Fate,
    /// What to do.
    pub(super) advice: String,
}

/// Where the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Only in the image.
    AtHome,
    /// Only in the image, most likely: QEMU never said that it had loaded the devices.
    Unloaded,
    /// At QEMU, with pages missing.
    Halved {
        /// Bytes that were not sent; more may not have arrived.
        left: u64,
    },
    /// At QEMU, and all pages were sent, but not acknowledged.
    Unconfirmed,
    /// At QEMU, if it is what `--resume` is for; it was not taken up again.
    Waiting,
    /// Nowhere: QEMU has given it up.
    Lost,
}

impl Fate {
    fn of(core: &Source, resume: bool) -> Self {
        if !core.guest_left() {
            return Self::AtHome;
        }
        if resume && core.stats().resumes == 0 && core.phase() != Phase::Failed {
            return Self::Waiting;
        }
        match (core.phase(), core.remaining()) {
            _ if !core.is_loaded() => Self::Unloaded,
            (Phase::Failed, _) => Self::Lost,
            (_, 0) => Self::Unconfirmed,
            (_, left) => Self::Halved { left },
        }
    }

    /// As programs read it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AtHome => "in-image",
            Self::Unloaded => "not-loaded",
            Self::Halved { .. } => "pages-missing",
            Self::Unconfirmed => "unconfirmed",
            Self::Waiting => "not-resumed",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtHome => f.write_str("nothing is lost: the guest never left the image"),
            Self::Unloaded => f.write_str(
                "that QEMU did not say that it had loaded the guest's devices, so most likely \
                 nothing is lost, and the guest is only in the image",
            ),
            Self::Halved { left } => write!(
                f,
                "the guest runs at that QEMU, and stands still wherever it touches memory that it \
                 lacks, {} or more, which is only in the image",
                Human(*left)
            ),
            Self::Unconfirmed => f.write_str(
                "the guest runs at that QEMU; all of its memory was sent, but QEMU did not say \
                 that it arrived: `info migrate` there says completed if it did",
            ),
            Self::Waiting => f.write_str(
                "that QEMU did not go on with what another process began; what its guest lacks is \
                 only in the image",
            ),
            Self::Lost => f.write_str(
                "that QEMU has given the guest up, with all that it did since it left the image",
            ),
        }
    }
}

impl Failure {
    /// Nothing could even begin.
    pub(super) fn before(why: String) -> Self {
        let advice = "the image is unchanged";
        Self {
            why,
            fate: Fate::AtHome,
            advice: advice.into(),
        }
    }

    pub(super) fn new(error: RunError, core: &Source, boot: &Boot<'_>) -> Self {
        let fate = Fate::of(core, boot.is_resume());
        Self {
            why: why(&error, core),
            advice: advice(fate, core, boot, Harm::of(&error)),
            fate,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, fate, advice } = self;
        write!(f, "{why}; {fate}; {advice}")
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
             machine type or size, or RAM page sizes that `retpath import` must be given with \
             --block-page-size)"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// What is wrong with the image's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// No problem is known.
    None,
    /// They have changed.
    Changed,
    /// They cannot be read.
    Unreadable,
}

impl Harm {
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

    /// What to do about it first.
    fn remedy(self, boot: &Boot<'_>) -> String {
        let (image, _) = boot.names();
        let which = match boot.resumed() {
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

fn advice(fate: Fate, core: &Source, boot: &Boot<'_>, harm: Harm) -> String {
    let (image, address) = boot.names();
    let again = match harm {
        Harm::None => "the image is unchanged and can be served again, to a new QEMU",
        _ => "serve it again, to a new QEMU",
    };
    let remedy = harm.remedy(boot);
    let preempt = core.preempt().map_or("", |_| " --preempt");
    let unverified = match boot.is_unverified() && harm == Harm::None {
        true => " --no-verify",
        false => "",
    };
    let release = boot.release().map_or(String::new(), |release| {
        format!(" --machine-release {release}")
    });
    let id = boot.resumed();
    let resume = format!(
        "give it `migrate_recover {address}` (QMP: migrate-recover) and continue with `retpath serve \
         --image {image} --connect {address} --resume {id}{preempt}{unverified}{release}`"
    );
    match fate {
        Fate::AtHome | Fate::Lost => format!("{remedy}{again}"),
        Fate::Unloaded => format!(
            "{remedy}should `info migrate` there say postcopy-paused, the guest did begin to run \
             there: {resume}; otherwise end that QEMU with `quit`: {again}"
        ),
        Fate::Halved { .. } | Fate::Unconfirmed | Fate::Waiting => format!(
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
    fn tells_a_changed_image_from_one_that_cannot_be_read() {
        let path = PathBuf::from("ram");
        let of = |error| {
            Harm::of(&RunError::NoPage {
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
        assert_eq!(of(io::Error::other(changed)), Harm::Changed);
        assert_eq!(of(io::Error::other(damaged)), Harm::Changed);
        assert_eq!(of(io::Error::other(unreadable)), Harm::Unreadable);
        assert_eq!(Harm::of(&RunError::Closed), Harm::None);
    }
}

//! Why a QEMU does not have everything, and what that means: whose the guest is, what is lost, what
//! is not, and what to do.

use std::fmt;

use super::boot::Boot;
use crate::cli::size::Human;
use crate::run::RunError;
use crate::source::{Error, Phase, Source};

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
                 that it arrived: `info migrate` there says so with completed",
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
        let advice = "the image is as it was";
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
            advice: advice(fate, boot),
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
        (RunError::Link { .. } | RunError::Closed, false) => {
            " (QEMU's own messages say why, such as another machine type or size, or RAM page sizes \
             that `retpath import` must be given with --block-page-size)"
        }
        (RunError::Source(Error::GaveUp { .. }), false) => {
            " (QEMU's own messages may name another machine type or size, or RAM page sizes that \
             `retpath import` must be given with --block-page-size)"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

fn advice(fate: Fate, boot: &Boot<'_>) -> String {
    let (image, address) = boot.names();
    let again = "the image is as it was and can be served again, to a QEMU started anew";
    let preempt = if boot.is_preempt() { " --preempt" } else { "" };
    let release = boot.release().map_or(String::new(), |release| {
        format!(" --machine-release {release}")
    });
    let resume = format!(
        "give it `migrate_recover {address}` (QMP: migrate-recover) and go on with `retpath serve \
         --image {image} --connect {address} --resume{preempt}{release}`"
    );
    match fate {
        Fate::AtHome | Fate::Lost => again.into(),
        Fate::Unloaded => format!(
            "should `info migrate` there say postcopy-paused, the guest did begin to run there: \
             {resume}; otherwise end that QEMU with `quit`: {again}"
        ),
        Fate::Halved { .. } | Fate::Unconfirmed | Fate::Waiting => format!(
            "once `info migrate` there says postcopy-paused, {resume}; if that QEMU is gone, {again}"
        ),
    }
}

//! The outcome of a failed migration: where the guest is, who may run it, and how.

use std::path::Path;

use retpath_image::shown;

/// The source's progress, which decides what a failed migration means for its guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// It has opened a return path.
    pub(super) has_return_path: bool,
    /// It has switched to postcopy: its guest is stopped.
    pub(super) switched: bool,
    /// It has sent everything.
    pub(super) done: bool,
    /// It was told that it may run its guest again, and the connection was closed. That does not
    /// prove that it has read the message.
    pub(super) has_guest: bool,
    /// It keeps its guest until it is told that the device state is loaded.
    pub(super) keeps: bool,
    /// The device state and every page have been received.
    pub(super) complete: bool,
    /// Target pages that have not been received.
    pub(super) missing: u64,
}

/// The message about where the guest is when no image was made, who may run it, and how. `kept` is
/// the folder that was kept, and whether `--continue` accepts it.
pub(super) fn outcome(source: Source, kept: Option<(&Path, bool)>) -> String {
    let Some((folder, resumable)) = kept else {
        return format!("no image was made, and nothing is lost: {}", runner(source));
    };
    let missing = source.missing;
    let folder = shown(folder);
    if source.has_guest {
        let (safe, paused) = match resumable {
            true => (
                ", and nothing is lost",
                format!(
                    "run `retpath receive --continue {folder} --listen URI`, then `migrate -r URI` \
                     at the source"
                ),
            ),
            false => ("", "the guest is lost".to_owned()),
        };
        return format!(
            "no image was made{safe}: the source was told that it has its guest back; QEMU 9.0 and \
             newer run it again by themselves, an older one with `cont`; once it runs there, delete \
             {folder}, which holds the data received; if `info migrate` there says postcopy-paused, \
             {paused}"
        );
    }
    match (resumable, source.has_return_path) {
        (true, _) if source.complete => format!(
            "no image was made so far, and nothing is lost: every page has been received, in \
             {folder}; if the source does not run its guest (`info status` there), `retpath receive \
             --continue {folder}` finishes the image, and then end the source with `quit`; if it \
             runs its guest again, delete that folder"
        ),
        (true, _) => format!(
            "no image was made so far: {missing} pages are only at the source, and the pages \
             received so far are in {folder}; while `info migrate` at the source says \
             postcopy-paused, neither `cont` nor `migrate_cancel` runs the guest there: run `retpath \
             receive --continue {folder} --listen URI`, then `migrate -r URI` at the source; if the \
             source runs its guest again, delete that folder; if the source is gone, the guest is \
             lost"
        ),
        (false, true) => format!(
            "no image was made, and the data received so far, in {folder}, is not enough to \
             continue; if `cont` at the source runs the guest, delete that folder; if `info migrate` \
             there says postcopy-paused, the guest is lost"
        ),
        (false, false) => format!(
            "no image was made, and nothing is lost: the source believes that the migration is \
             over, but still has the guest, and `cont` there runs it again; then delete {folder}, \
             which holds the data received"
        ),
    }
}

/// How a guest that is still at its source runs again.
fn runner(source: Source) -> &'static str {
    match source {
        Source { keeps: true, .. } => {
            "the source had not given its guest up, and still has it; QEMU 11.1 and newer run it \
             again by themselves; if `info status` there does not say running, give it `cont`"
        }
        Source {
            has_return_path: true,
            ..
        } => {
            "the source still has its guest, and runs it on (if `info status` there says paused, \
             with `cont`)"
        }
        _ => {
            "the source still has its guest; should it believe that the migration is over, `cont` \
             there runs it again"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_place_of_the_guest_and_how_to_run_it() {
        let early = Source {
            has_return_path: true,
            ..Source::default()
        };
        let switched = Source {
            switched: true,
            missing: 7,
            ..early
        };
        let back = Source {
            has_guest: true,
            ..switched
        };
        let keeps = Source {
            keeps: true,
            ..switched
        };
        let without_return_path = Source::default();
        let whole = Source {
            complete: true,
            missing: 0,
            ..switched
        };
        let folder = Path::new("vm.incomplete-7");
        // The source, what is kept, whether the guest can be lost, and what runs it.
        for (source, kept, lost, what) in [
            (switched, Some(true), true, "--continue vm.incomplete-7"),
            (whole, Some(true), false, "finishes the image"),
            (switched, Some(false), true, "`cont` at the source"),
            (back, Some(true), false, "--continue vm.incomplete-7"),
            (back, Some(false), true, "an older one with `cont`"),
            (keeps, None, false, "had not given its guest up"),
            (early, None, false, "runs it on"),
            (
                without_return_path,
                Some(false),
                false,
                "`cont` there runs it again",
            ),
            (
                without_return_path,
                None,
                false,
                "`cont` there runs it again",
            ),
        ] {
            let text = outcome(source, kept.map(|resumable| (folder, resumable)));
            assert_eq!(
                text.contains("is lost"),
                lost || text.contains("nothing is"),
                "{text}"
            );
            assert_eq!(text.contains("nothing is lost"), !lost, "{text}");
            assert_eq!(text.contains("vm.incomplete-7"), kept.is_some(), "{text}");
            assert!(text.contains(what), "{text}");
        }
    }
}

//! Every system call fails once, and the process is killed at every system call.
//!
//! Each scenario is first run whole under strace, which records its system calls. From the record
//! follow the cases: one for each call, each of its occurrences and each error that fits it, and one
//! for SIGKILL at that call. A case runs the scenario again with this one fault and then checks:
//!
//! - a name that an image should have holds a whole image, or nothing;
//! - data of a guest that cannot run elsewhere is still on disk, and its path was printed;
//! - the peer was told the truth;
//! - standard error names what the failed call was about, and why it failed;
//! - the exit code is 0 or 1, nothing panics, nothing hangs;
//! - the same command line works afterwards.
//!
//! `.ci/injection` runs this, and says how to choose cases. See [`calls`] for the errors of each
//! call, and for what no fault is injected into.

mod calls;
mod cases;
mod demo;
mod image;
mod import;
mod message;
mod receive;
mod serve;
mod source;
mod strace;

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use cases::Selection;
use strace::Injection;

/// How long a command may take: more than its longest wait for a peer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A command in a situation that is the same in every run.
trait Scenario: Sync {
    /// The subcommand, and what is special.
    fn name(&self) -> &'static str;

    /// Runs the command under strace, writing its log to `room`, with peers of its own; then checks
    /// everything. Panics when a check fails.
    fn run(&self, room: &Path, fault: Option<&Injection>);
}

/// What is left of a command that has ended.
struct Ended {
    status: ExitStatus,
    errors: String,
    output: String,
}

fn scenarios() -> Vec<Box<dyn Scenario>> {
    let mut all = import::scenarios();
    all.extend(receive::scenarios());
    all.extend(serve::scenarios());
    all.extend(demo::scenarios());
    all
}

/// Runs the cases and prints the results.
fn survives(selection: &Selection) {
    let report = cases::run(&scenarios(), selection);
    println!("{report}");
    let failed = report.failures.len();
    assert!(failed == 0, "{failed} cases failed");
}

#[test]
#[ignore = "needs strace; run by .ci/injection"]
fn survives_the_failure_of_each_system_call_and_sigkill() {
    survives(&Selection::from_environment());
}

/// Panicked in `receive --touch` and `serve`, which lost every guest that they had.
#[test]
#[ignore = "needs strace; run by .ci/run"]
fn survives_threads_that_cannot_be_started() {
    survives(&Selection::Errors(&["clone3", "clone"]));
}

/// Without a sandbox in the kernel, a command runs as it is; when entering it fails, the source
/// still has its guest.
#[test]
#[ignore = "needs strace; run by .ci/run"]
fn survives_a_sandbox_that_cannot_be_entered() {
    survives(&Selection::Errors(&[
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "seccomp",
    ]));
}

/// `demo --channel tcp` went on with port 0, a socket's file stayed behind, and `receive` refused
/// its source as a stranger once the user of a connection could not be read.
#[test]
#[ignore = "needs strace; run by .ci/run"]
fn survives_sockets_that_cannot_be_set_up() {
    survives(&Selection::Errors(&[
        "getsockname",
        "getsockopt",
        "socket",
        "bind",
    ]));
}

/// A write of the device state failed, those behind it did not, and `receive --continue` made an
/// image of what was left.
#[test]
#[ignore = "needs strace; run by .ci/run"]
fn survives_writes_that_fail() {
    survives(&Selection::Errors(&["write", "pwrite64"]));
}

/// With everything received, `receive --continue` refused the folder: what it needs was removed
/// before the image had its name.
#[test]
#[ignore = "needs strace; run by .ci/run"]
fn survives_sigkill_at_the_very_end() {
    survives(&Selection::Kills(&["renameat2", "unlinkat", "fsync"]));
}

//! What `retpath demo` leaves behind when it is killed: nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::{PATIENCE, demo, finish, start};
use retpath_support::program::is_ignored;
use retpath_support::sinks::Sink;

/// A migration that does not end soon: the background sweep nearly stands still, and there are too
/// many pages for the threads to touch all of them.
const LONG: [&str; 4] = ["--size", "512M", "--bandwidth", "1"];

/// Waits until a thread of the demonstration touches pages.
fn wait_until_touching(child: &Child) {
    let is_touching = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
        tasks.into_iter().flatten().flatten().any(|task| {
            let name = fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("touch"))
        })
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_touching() {
        assert!(Instant::now() < deadline, "no thread touches pages");
        thread::sleep(Duration::from_millis(1));
    }
}

fn pid(child: &Child) -> Pid {
    let number = i32::try_from(child.id()).expect("a process id");
    Pid::from_raw(number).expect("not 0")
}

#[test]
fn leaves_no_file_behind_when_it_is_killed() {
    // SIGQUIT would write a core file with all the memory.
    let none = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Core).maximum,
    };
    setrlimit(Resource::Core, none).expect("a lower limit");
    let signals = [
        Signal::KILL,
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
    ];
    for signal in signals.into_iter().filter(|signal| !is_ignored(*signal)) {
        let folder = tempfile::tempdir().expect("a folder");
        let child = start(demo(&LONG).env("TMPDIR", folder.path()));
        wait_until_touching(&child);
        kill_process(pid(&child), signal).expect("it runs");
        let ran = finish(child);
        assert_eq!(ran.status.signal(), Some(signal.as_raw()), "{}", ran.err);
        assert_eq!((&ran.out[..], &ran.err[..]), ("", ""), "{signal:?}");
        let left = fs::read_dir(folder.path()).expect("ours").count();
        assert_eq!(left, 0, "{signal:?}");
    }
}

#[test]
fn leaves_no_file_behind_when_no_output_can_be_written() {
    for sink in Sink::BROKEN {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = demo(&["--size", "64K"]);
        command.env("TMPDIR", folder.path()).stderr(sink.stdio());
        let mut child = command.stdout(sink.stdio()).spawn().expect("it is built");
        child.wait().expect("it ends");
        let left = fs::read_dir(folder.path()).expect("ours").count();
        assert_eq!(left, 0, "{sink:?}");
    }
}

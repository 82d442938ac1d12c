//! Either process ends early: so does the other one, it says so, and nothing
//! is left behind.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit, test_kill_process,
};

use super::{PATIENCE, Ran, demo, finish, start};
use retpath_support::program::is_ignored;
use retpath_support::sinks::Sink;

/// A migration that takes long: the sweep stands nearly still, and there are
/// too many pages for the threads to ask for all of them.
const LONG: [&str; 4] = ["--size", "512M", "--bandwidth", "1"];

/// How far it has come when it is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The source's process is there.
    Started,
    /// The destination's threads touch pages.
    Touching,
    /// They wait for pages, for the source has stopped.
    Waiting,
}

const MOMENTS: [Moment; 3] = [Moment::Started, Moment::Touching, Moment::Waiting];

/// A demonstration, and the process id of its source.
struct Running {
    child: Child,
    source: Pid,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(moment: Moment) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let child = start(demo(&LONG).env("TMPDIR", folder.path()));
        let source = wait_for(|| child_of(child.id()));
        let running = Self {
            child,
            source,
            folder,
        };
        if moment != Moment::Started {
            wait_for(|| running.is_touching().then_some(()));
        }
        if moment == Moment::Waiting {
            kill(running.source, Signal::STOP);
            // Not long enough is no failure, but another moment.
            thread::sleep(Duration::from_millis(100));
        }
        running
    }

    fn is_touching(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks.into_iter().flatten().flatten().any(|task| {
            let name = fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("touch"))
        })
    }

    fn destination(&self) -> Pid {
        pid(self.child.id())
    }

    /// Waits for the end of both.
    fn finish(self) -> Ran {
        let ran = finish(self.child);
        let left = fs::read_dir(self.folder.path()).expect("our folder");
        let left: Vec<_> = left.flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        ran
    }
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not come so far");
        thread::sleep(Duration::from_millis(1));
    }
}

fn pid(number: u32) -> Pid {
    let number = i32::try_from(number).expect("a process id");
    Pid::from_raw(number).expect("not 0")
}

fn kill(process: Pid, signal: Signal) {
    kill_process(process, signal).expect("it is there");
}

/// The process that `parent` has started, once it runs its own program.
fn child_of(parent: u32) -> Option<Pid> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let number = numbers.find(|number: &u32| {
        let folder = format!("/proc/{number}");
        let folder = Path::new(&folder);
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let is_child = rest.split_whitespace().nth(1) == Some(&parent.to_string());
        let line = fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
        is_child && line.contains("demo-source")
    })?;
    Some(pid(number))
}

#[test]
fn says_so_and_ends_when_the_source_is_killed() {
    for moment in MOMENTS {
        let running = Running::start(moment);
        kill(running.source, Signal::KILL);
        let ran = running.finish();
        assert_eq!(ran.status.code(), Some(1), "{moment:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{moment:?}");
        let want = "retpath demo: the source's process is gone: it was killed by signal 9";
        assert!(ran.err.starts_with(want), "{moment:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{moment:?}: {}", ran.err);
    }
}

#[test]
fn ends_the_source_when_the_destination_is_killed() {
    // SIGQUIT would leave a file with all the memory.
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
        for moment in [Moment::Started, Moment::Touching] {
            let running = Running::start(moment);
            kill(running.destination(), signal);
            let ran = running.finish();
            let by = Some(signal.as_raw());
            assert_eq!(ran.status.signal(), by, "{moment:?}: {}", ran.err);
            let want = "retpath demo: the destination's process is gone, and so the source ends\n";
            assert_eq!(ran.err, want, "{moment:?}");
        }
    }
}

#[test]
fn ends_the_source_when_no_output_can_be_written() {
    for sink in Sink::BROKEN {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = demo(&LONG);
        command.env("TMPDIR", folder.path()).stderr(sink.stdio());
        let mut child = command.spawn().expect("the binary has been built");
        let source = wait_for(|| child_of(child.id()));
        child.kill().expect("it is there");
        child.wait().expect("it ends");
        wait_for(|| test_kill_process(source).err());
        let left = fs::read_dir(folder.path()).expect("ours").count();
        assert_eq!(left, 0, "{sink:?}");
    }
}

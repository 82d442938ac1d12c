//! How a command that met a fault ended: its exit code, and what it said.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::Ended;
use crate::calls::{self, descriptor};
use crate::strace::{self, Call, Fault, Injection};
use retpath_support::program::Program;

impl Ended {
    /// Waits for the end of a program, and of what strace runs.
    pub(crate) fn wait(mut program: Program, within: Duration) -> Self {
        let end = Instant::now() + within;
        while program.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        if program.ended().is_none() {
            kill_children(program.id());
            panic!("it hangs: {}", program.errors());
        }
        let status = program.wait(within);
        Self {
            status,
            errors: program.errors(),
            output: program.output(),
        }
    }
}

/// strace does not end its tracees when it is killed.
fn kill_children(of: u32) {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        if let Some(pid) = child.parse().ok().and_then(Pid::from_raw) {
            // It may have ended by now.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Checks exit code and standard error.
pub(crate) fn check(room: &Path, command: &str, fault: Option<&Injection>, ended: &Ended) {
    let Ended {
        status,
        errors,
        output,
    } = ended;
    assert!(!errors.contains("panicked at"), "a panic: {errors}");
    let Some(Injection { fault, .. }) = fault else {
        assert!(status.success(), "{status} without any fault: {errors}");
        assert!(!output.is_empty(), "no output");
        return;
    };
    let injected = strace::injected(room);
    let error = match fault {
        Fault::Kill if strace::was_killed(room) => {
            assert_eq!(status.signal(), Some(9), "{status} after SIGKILL: {errors}");
            return;
        }
        Fault::Kill => {
            assert!(status.success(), "{status} without any fault: {errors}");
            return;
        }
        Fault::Error(error) => error,
    };
    if injected.iter().any(calls::is_allocation) && status.code().is_none() {
        let aborts = status.signal() == Some(6) && errors.contains("memory allocation of");
        assert!(aborts, "{status}: {errors}");
        return;
    }
    assert!(matches!(status.code(), Some(0 | 1)), "{status}: {errors}");
    if status.success() {
        let lost = injected
            .iter()
            .find(|call| calls::must_be_noticed(call, error));
        // The image is there, but a crash of the machine may still take it: that has to be said.
        assert!(
            lost.is_none_or(|call| causes(call, error).iter().any(|why| errors.contains(why))),
            "exit code 0 after {lost:?}: {errors}"
        );
        return;
    }
    let [call] = &injected[..] else {
        assert!(!injected.is_empty(), "{status} without any fault: {errors}");
        return;
    };
    if descriptor(&call.text).is_some_and(|(number, _)| number == "2") {
        return;
    }
    let begins = format!("retpath {command}: ");
    assert!(
        errors.lines().any(|line| line.starts_with(&begins)),
        "no line begins with {begins:?}: {errors:?}"
    );
    let causes = causes(call, error);
    assert!(
        causes.iter().any(|cause| errors.contains(cause)),
        "the cause ({causes:?}) is missing: {errors}"
    );
    let words = words(call);
    assert!(
        words.iter().any(|word| errors.contains(word)),
        "none of {words:?} is in the message: {errors}"
    );
}

/// What the program's error messages may say about the cause.
fn causes(call: &Call, error: &str) -> Vec<String> {
    let mut causes = vec![cause(error)];
    let more: &[&str] = match &*call.name {
        // What pthread_create makes of any failure.
        "clone3" | "clone" | "mmap" => &["Resource temporarily unavailable"],
        "flock" => &["is locked"],
        // To the peer it is the same.
        "recvfrom" | "recvmsg" | "sendmsg" | "sendto" => {
            &["the link broke", "closed the connection"]
        }
        _ => &[],
    };
    causes.extend(more.iter().map(|text| (*text).to_owned()));
    causes
}

/// What the standard library's messages call an error.
fn cause(name: &str) -> String {
    let number = match name {
        "EPERM" => 1,
        "EINTR" => 4,
        "EIO" => 5,
        "EAGAIN" => 11,
        "ENOMEM" => 12,
        "EBUSY" => 16,
        "EXDEV" => 18,
        "EINVAL" => 22,
        "EMFILE" => 24,
        "ENOSPC" => 28,
        "EPIPE" => 32,
        "ENOLCK" => 37,
        "ENOSYS" => 38,
        "EOPNOTSUPP" => 95,
        "EADDRINUSE" => 98,
        "ECONNABORTED" => 103,
        "ECONNRESET" => 104,
        "ENOBUFS" => 105,
        "ECONNREFUSED" => 111,
        _ => panic!("{name} is missing here"),
    };
    let text = io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Words of which one must be in the message: the names of what the call was about.
fn words(call: &Call) -> Vec<String> {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut paths: Vec<String> = quoted(&call.text);
    match descriptor(&call.text) {
        Some((_, object)) if object.starts_with("/memfd:") => {
            return list(&["memory", "mapping", "file"]);
        }
        Some((_, object)) if object.starts_with('/') => paths = vec![object.to_owned()],
        Some((_, object)) if object.starts_with("socket:") => {
            return list(&[
                "channel",
                "link",
                "connection",
                "connect",
                "unix:",
                "tcp:",
                "the source's",
                "signal",
            ]);
        }
        Some((_, object)) if object.contains("eventfd") => return list(&["descriptor", "waiting"]),
        Some((_, object)) if object.contains("userfaultfd") => {
            return list(&["userfaultfd", "page", "fault"]);
        }
        Some(("0", _)) => return list(&["standard input"]),
        Some(("1", _)) => return list(&["standard output"]),
        _ => {}
    }
    let named: Vec<String> = paths
        .iter()
        .filter_map(|path| Path::new(path).file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if !named.is_empty() {
        return named;
    }
    match &*call.name {
        "socket" | "bind" | "listen" => list(&["listen", "connect", "unix:", "tcp:"]),
        "eventfd2" => list(&["descriptor"]),
        "mmap" if call.text.contains("MAP_STACK") => list(&["thread"]),
        "mmap" | "madvise" | "memfd_create" | "brk" | "mremap" => list(&["memory", "map"]),
        "clone3" | "clone" | "vfork" => list(&["thread", "process"]),
        "poll" | "ppoll" => list(&["wait", "poll", "read the stream", "connect"]),
        "userfaultfd" => list(&["userfaultfd"]),
        "landlock_create_ruleset" | "landlock_add_rule" | "landlock_restrict_self" | "seccomp" => {
            list(&["sandbox"])
        }
        "socketpair" | "pipe2" => list(&["process", "socket", "signal"]),
        name => vec![format!("(nothing is known about {name})")],
    }
}

/// The absolute paths among a call's strings.
fn quoted(text: &str) -> Vec<String> {
    let strings = text.split('"').skip(1).step_by(2);
    strings
        .filter(|string| string.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

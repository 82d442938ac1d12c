//! The sandbox of `decode`, `import` and `receive` in real processes: when it is entered, that the
//! commands need nothing that it denies, and that it can be turned off.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use retpath_image::Image;
use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::recorded::{SHUT, channel, stream};

/// A line of `/proc/PID/status`.
fn status(process: u32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').trim().parse().ok()
}

/// The number of seccomp filters, and whether privileges can be gained.
fn confinement(process: u32) -> (Option<u32>, Option<u32>) {
    (
        status(process, "Seccomp_filters"),
        status(process, "NoNewPrivs"),
    )
}

/// `retpath receive` that waits for a connection to `in`.
fn receive(folder: &Path, mut command: Command, more: &[&str]) -> Program {
    command
        .args(["receive", "--listen"])
        .arg(format!("unix:{}", folder.join("in").display()))
        .arg("--out")
        .arg(folder.join("image"))
        .args(more);
    let program = Program::spawn(command);
    program.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    program
}

fn retpath() -> Command {
    Command::new(env!("CARGO_BIN_EXE_retpath"))
}

#[test]
fn receive_is_confined_before_it_announces_its_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = receive(folder.path(), retpath(), &[]);
    let (ours, _) = confinement(std::process::id());
    let (theirs, no_new_privs) = confinement(program.id());
    assert_eq!((theirs, no_new_privs), (ours.map(|ours| ours + 1), Some(1)));
}

#[test]
fn receive_is_not_confined_when_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = receive(folder.path(), retpath(), &["--no-sandbox"]);
    assert_eq!(confinement(program.id()), confinement(std::process::id()));
}

#[test]
fn logs_what_is_confined() {
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording");
    fs::write(&recording, b"\0\x02\0\x04\0\0\0\x01").expect("room");
    for (option, line) in [
        ("--log=info", "sandbox: "),
        ("--no-sandbox", "no sandbox, by --no-"),
    ] {
        let mut command = retpath();
        let output = command
            .args(["decode", "-v", option])
            .arg(&recording)
            .output();
        let output = output.expect("retpath starts");
        assert!(output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(line), "{errors}");
    }
}

/// The system calls of a run under strace, in order, with their results.
fn calls(folder: &Path) -> Vec<String> {
    let log = fs::read_to_string(folder.join("strace.log")).expect("strace wrote it");
    let calls = log.lines().filter_map(|line| line.split_once(' '));
    calls
        .map(|(_, call)| call.trim_start().to_owned())
        .collect()
}

fn strace(folder: &Path) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-q", "-y", "-o"])
        .arg(folder.join("strace.log"));
    command.arg(env!("CARGO_BIN_EXE_retpath"));
    command
}

/// Asserts that the process enters the sandbox before it starts a thread and before the call that
/// takes the first byte of the stream, and that the sandbox denies nothing that it does.
fn assert_confined_before(calls: &[String], first_byte: impl Fn(&str) -> bool) {
    let position = |what: &str, is: &dyn Fn(&str) -> bool| {
        let found = calls.iter().position(|call| is(call));
        found.unwrap_or_else(|| panic!("no {what} in {calls:#?}"))
    };
    let landlock = position("landlock_restrict_self", &|call| {
        call.starts_with("landlock_restrict_self(") && call.ends_with("= 0")
    });
    let seccomp = position("seccomp", &|call| {
        call.starts_with("seccomp(SECCOMP_SET_MODE_FILTER") && call.ends_with("= 0")
    });
    let first = position("first byte", &|call| first_byte(call));
    assert!(
        landlock < seccomp && seccomp < first,
        "{landlock}, {seccomp}, {first}"
    );
    let thread = calls.iter().position(|call| call.starts_with("clone"));
    assert!(thread.is_none_or(|thread| thread > seccomp));
    let denied = |call: &&String| call.contains("= -1 EPERM") || call.contains("= -1 EACCES");
    let denied: Vec<_> = calls[seccomp..].iter().filter(denied).collect();
    assert!(denied.is_empty(), "{denied:#?}");
}

#[test]
#[ignore = "needs strace; run by .ci/run"]
fn decode_and_import_are_confined_before_they_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("saved");
    fs::write(&saved, channel("qemu-10.0-plain.ch0.fwd.gz")).expect("room");
    let out = folder.path().join("image");
    for (command, more) in [("decode", None), ("import", Some(&out))] {
        let mut traced = strace(folder.path());
        traced.arg(command).arg(&saved);
        if let Some(out) = more {
            traced.arg("--out").arg(out);
        }
        let output = traced.output().expect("strace is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let reads = |call: &str| call.starts_with("read(") && call.contains("/saved>");
        assert_confined_before(&calls(folder.path()), reads);
    }
    Image::open(&out).expect("a whole image");
}

#[test]
#[ignore = "needs strace; run by .ci/run"]
fn receive_is_confined_before_it_accepts() {
    for touch in ["0", "4"] {
        let folder = tempfile::tempdir().expect("a folder");
        let traced = strace(folder.path());
        let mut program = receive(folder.path(), traced, &["--touch", touch]);
        let mut source = UnixStream::connect(folder.path().join("in")).expect("it listens");
        source.set_read_timeout(Some(SOON)).expect("a limit");
        let (stream, end) = stream();
        source.write_all(&[stream, end].concat()).expect("it reads");
        source.shutdown(Shutdown::Write).expect("a socket");
        let mut answers = Vec::new();
        source.read_to_end(&mut answers).expect("answers");
        assert!(answers.ends_with(&SHUT));
        program.wait_success(SOON);
        assert_confined_before(&calls(folder.path()), |call| call.starts_with("accept4("));
        assert!(!folder.path().join("in").exists(), "the socket is left");
        Image::open(&folder.path().join("image")).expect("a whole image");
    }
}

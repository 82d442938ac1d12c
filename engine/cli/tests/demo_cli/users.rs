//! Whom it works for, and what it says where it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{PROGRAM, finish, read_good, start};

const NOBODY: u32 = 65534;

#[test]
fn works_for_an_ordinary_user() {
    // Where that user can read it.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let program = folder.path().join("retpath");
    // By another process: while this one has a copy open for writing, a child
    // that some other test forks inherits that, and then the copy cannot be
    // run (ETXTBSY).
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
    assert!(copied.expect("cp is there").success());
    let root = rustix::process::geteuid().is_root();
    for extra in [
        &["--channel", "unix"][..],
        &["--channel", "tcp", "--preempt"],
    ] {
        let mut args = vec!["--size", "16M", "--cuts", "3", "--format", "json"];
        args.extend(extra);
        let mut command = Command::new(&program);
        command.arg("demo").args(&args).stdin(Stdio::null());
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let value = read_good(&args, &finish(start(&mut command)));
        assert!(value["route"].is_string());
    }
}

#[test]
fn says_whose_part_the_hidden_command_is() {
    let mut command = Command::new(PROGRAM);
    command.args(["demo-source", "--address", "unix:/nowhere"]);
    let ran = finish(start(command.stdin(Stdio::null())));
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.err.contains("`retpath demo`"), "{}", ran.err);
    let help = finish(start(Command::new(PROGRAM).arg("--help")));
    assert!(
        help.out.contains("demo ") && !help.out.contains("demo-source"),
        "{}",
        help.out
    );
}

#[test]
fn ends_quietly_when_nobody_reads() {
    let mut child = start(&mut super::demo(&["--size", "4M"]));
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it was started here");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

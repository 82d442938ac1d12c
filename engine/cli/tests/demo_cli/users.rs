//! `retpath demo` as an ordinary user, and in a pipe whose reader has gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{PROGRAM, finish, read_good, start};

const NOBODY: u32 = 65534;

#[test]
fn works_for_an_ordinary_user() {
    // In a folder that the other user can read.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let program = folder.path().join("retpath");
    // Copied by another process: a child forked by another test would inherit the descriptor that
    // writes the copy, and running it would fail (ETXTBSY).
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
fn succeeds_quietly_when_standard_output_is_closed() {
    let mut child = start(&mut super::demo(&["--size", "4M"]));
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it was started here");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

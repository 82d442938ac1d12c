//! `retpath demo` as an ordinary user, and in a pipe whose reader has gone.

use std::process::Stdio;

use retpath_support::program::as_ordinary_user;

use super::{finish, read_good, start};

#[test]
fn works_for_an_ordinary_user() {
    let folder = tempfile::tempdir().expect("a folder");
    for extra in [
        &["--channel", "unix"][..],
        &["--channel", "tcp", "--preempt"],
    ] {
        let mut args = vec!["--size", "16M", "--cuts", "3", "--format", "json"];
        args.extend(extra);
        let mut command = as_ordinary_user(folder.path());
        command.arg("demo").args(&args).stdin(Stdio::null());
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

//! Recordings that can and cannot be opened.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use retpath_support::program::as_ordinary_user;

use crate::{Ran, capture, decode_file, retpath};

/// A folder that any user can enter, removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("retpath-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    fn file(&self, name: &str, contents: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, contents).expect("a new file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn refused(ran: Ran, path: &Path, why: &str) {
    let line = ran.refused(1, "");
    assert_eq!(line, format!("retpath decode: {}: {why}", path.display()));
}

#[test]
fn refuses_a_missing_file() {
    let path = Path::new("no/such/recording.rp");
    refused(decode_file(&[], path), path, "no such file");
}

#[test]
fn refuses_a_directory() {
    let folder = Folder::new("directory");
    let why = "it is a directory: name a file in it";
    refused(decode_file(&[], &folder.0), &folder.0, why);
    let directory = fs::File::open(&folder.0).expect("a directory can be opened");
    let output = retpath()
        .arg("-")
        .stdin(directory)
        .output()
        .expect("the binary has been built");
    let line = Ran::from(output).refused(1, "");
    assert_eq!(line, format!("retpath decode: standard input: {why}"));
}

#[test]
fn refuses_an_empty_file() {
    let folder = Folder::new("empty");
    let path = folder.file("empty.rp", b"", 0o644);
    let why = "the recording is empty";
    refused(decode_file(&[], &path), &path, why);
    refused(decode_file(&[], "/dev/null"), Path::new("/dev/null"), why);
}

#[test]
fn refuses_a_file_without_permission() {
    let folder = Folder::new("permission");
    let path = folder.file("secret.rp", b"\0\x02\0\x04\0\0\0\x01", 0o000);
    let mut command = as_ordinary_user(&folder.0);
    command.current_dir("/").arg("decode");
    let output = command.arg(&path).output().expect("the binary runs");
    refused(Ran::from(output), &path, "no permission to read it");
}

#[test]
fn escapes_control_characters_of_the_path() {
    let ran = decode_file(&[], "no\nsuch\x1b[31m.rp");
    assert_eq!(
        ran.refused(1, ""),
        "retpath decode: no\\nsuch\\u{1b}[31m.rp: no such file"
    );
}

#[test]
fn reads_a_file_given_as_standard_input() {
    let path = capture("qemu-7.2-plain.ch0.rp");
    let file = fs::File::open(&path).expect("the corpus has it");
    let output = retpath()
        .arg("-")
        .stdin(file)
        .output()
        .expect("the binary has been built");
    assert_eq!(
        Ran::from(output).decoded(),
        decode_file(&[], &path).decoded()
    );
}

//! `retpath serve` and `retpath receive`, one at each end: the received image equals the served one.
//! And command lines and images that `serve` refuses before it connects.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use retpath_support::SOON;
use retpath_support::program::{Program, as_ordinary_user};
use retpath_support::small_image::{make, make_with};
use rustix::process::Signal;
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Serves the image to `retpath receive` and compares what arrives.
fn chain(more: &[&str], receive: &[&str], bandwidth: &str) {
    let folder = folder();
    let image = make(folder.path(), "pc-i440fx-7.2");
    let (out, socket) = (folder.path().join("copy"), folder.path().join("socket"));
    let uri = format!("unix:{}", socket.display());
    let args = [&["receive", "--listen", &uri, "--out", text(&out)], receive].concat();
    let mut receiver = Program::retpath(&args);
    while !socket.exists() {
        assert!(receiver.ended().is_none(), "{receiver}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let args = [
        &[
            "serve",
            "--image",
            text(&image),
            "--connect",
            &uri,
            "--bandwidth",
            bandwidth,
        ],
        more,
    ]
    .concat();
    let mut served = Program::retpath(&args);
    served.wait_success(SOON);
    receiver.wait_success(SOON);
    for file in ["ram-000-pc.ram.raw", "ram-001-vga.vram.raw"] {
        let read = |folder: &Path| fs::read(folder.join(file)).expect("a block's file");
        assert!(read(&image) == read(&out), "{file} differs");
    }
    let state = |folder: &Path| fs::read(folder.join("device-state.bin")).expect("a state");
    assert_eq!(state(&image), state(&out));
}

#[test]
fn transfers_an_image_unchanged() {
    chain(&[], &[], "0");
}

#[test]
fn transfers_an_image_unchanged_while_pages_are_requested() {
    chain(&[], &["--touch", "500"], "2M");
    chain(&["--preempt"], &["--touch", "500"], "2M");
    // Accepted without effect.
    chain(&["--preempt"], &["--touch", "500", "--preempt"], "2M");
}

fn serve(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.arg("serve").args(args);
    command.output().expect("the program starts")
}

/// The message about these arguments, and the exit code.
fn refusal(args: &[&str]) -> (String, Option<i32>) {
    let output = serve(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (errors, output.status.code())
}

#[test]
fn refuses_wrong_usage() {
    let cases: [(&[&str], &str); 5] = [
        (&["--image", "x"], "--connect"),
        (&["--image", "x", "--connect", "ssh:there"], "unix:"),
        (
            &[
                "--image",
                "x",
                "--connect",
                "unix:/a",
                "--connect",
                "unix:/a",
            ],
            "given twice",
        ),
        (
            &["--image", "x", "--connect", "fd:3", "--preempt"],
            "second connection",
        ),
        (
            &[
                "--image",
                "x",
                "--connect",
                "unix:/a",
                "--machine-release",
                "7",
            ],
            "must be MAJOR.MINOR",
        ),
    ];
    for (args, says) in cases {
        let (errors, code) = refusal(args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(errors.contains(says), "{args:?}: {errors}");
    }
}

#[test]
fn refuses_a_folder_that_is_not_an_image() {
    let folder = folder();
    let (errors, code) = refusal(&["--image", text(folder.path()), "--connect", "unix:/a"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("is not an image"), "{errors}");
}

#[test]
fn warns_that_the_end_of_an_image_is_unproven() {
    let folder = folder();
    for unproven in [true, false] {
        let folder = folder.path().join(unproven.to_string());
        fs::create_dir(&folder).expect("ours");
        let image = make_with(&folder, "pc-i440fx-2.1", |facts| {
            facts.unproven_end = unproven;
        });
        let args = ["--image", text(&image), "--connect", "unix:/nobody/here"];
        let (errors, _) = refusal(&[&args[..], &["--wait", "0"]].concat());
        let says = errors.contains("its end is unproven");
        assert_eq!(says, unproven, "{errors}");
    }
}

#[test]
fn requires_the_release_of_an_unknown_machine_type() {
    let folder = folder();
    let image = make(folder.path(), "pc-q35-rhel9.4.0");
    let args = ["--image", text(&image), "--connect", "unix:/a", "--preempt"];
    let (errors, code) = refusal(&args);
    assert_eq!(code, Some(1));
    assert!(errors.contains("--machine-release"), "{errors}");
    let more = ["--machine-release", "8.2", "--wait", "0"];
    let (errors, _) = refusal(&[&args[..], &more].concat());
    assert!(errors.contains("cannot connect"), "{errors}");
}

#[test]
fn refuses_plain_tcp_beyond_loopback_unless_told() {
    let folder = folder();
    let image = make(folder.path(), "pc-i440fx-7.2");
    let (errors, code) = refusal(&["--image", text(&image), "--connect", "tcp:192.0.2.1:1"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("192.0.2.1"), "{errors}");
    assert!(errors.contains("never left the image"), "{errors}");
}

#[test]
fn stops_waiting_for_a_listener_when_it_is_interrupted() {
    let folder = folder();
    let image = make(folder.path(), "pc-i440fx-7.2");
    let args = ["serve", "--image", text(&image)];
    let mut served = Program::retpath(&[&args[..], &["--connect", "unix:/nobody/here"]].concat());
    let waits = |line: &str| line.contains("retrying for up to 60 s").then_some(());
    served.wait_error(SOON, waits);
    served.signal(Signal::INT);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    let errors = served.errors();
    assert!(errors.contains("stopped"), "{errors}");
    assert!(errors.contains("nothing is lost"), "{errors}");
}

#[test]
fn reports_that_nothing_is_lost_when_no_qemu_listens() {
    let folder = folder();
    let image = make(folder.path(), "pc-i440fx-7.2");
    let before = fs::metadata(image.join("ram-000-pc.ram.raw")).expect("a file");
    let args = ["--image", text(&image), "--connect", "unix:/nobody/here"];
    let (errors, code) = refusal(&[&args[..], &["--wait", "0"]].concat());
    assert_eq!(code, Some(1));
    assert!(errors.contains("-incoming defer"), "{errors}");
    assert!(errors.contains("nothing is lost"), "{errors}");
    let after = fs::metadata(image.join("ram-000-pc.ram.raw")).expect("a file");
    assert_eq!(before.mtime_nsec(), after.mtime_nsec());
    assert_eq!(before.blocks(), after.blocks());
}

#[test]
fn names_missing_permission_when_the_image_is_another_users() {
    let folder = folder();
    let everyone = |path: &Path| {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("ours");
    };
    let image = make(folder.path(), "pc-i440fx-7.2");
    let run = || {
        let mut command = as_ordinary_user(folder.path());
        command.args(["serve", "--image", text(&image), "--connect", "unix:/a"]);
        let output = command.output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let close = |path: &Path| {
        fs::set_permissions(path, PermissionsExt::from_mode(0o0)).expect("ours");
    };
    close(&image);
    let errors = run();
    everyone(&image);
    assert!(errors.contains("Permission denied"), "{errors}");
    assert!(errors.contains("manifest.json"), "{errors}");
    assert!(errors.contains("as that user"), "{errors}");
    for file in fs::read_dir(&image).expect("a folder").flatten() {
        everyone(&file.path());
    }
    close(&image.join("ram-000-pc.ram.raw"));
    let errors = run();
    assert!(errors.contains("ram-000-pc.ram.raw"), "{errors}");
    assert!(errors.contains("Permission denied"), "{errors}");
}

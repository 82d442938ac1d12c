//! `retpath serve --working-set`: what it learns, what it sends first, and that nothing which is wrong
//! with the file fails a boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::image::report;
use retpath_support::small_image::{make, make_with};
use serde_json::Value;
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

struct Boots {
    folder: TempDir,
    image: PathBuf,
    file: PathBuf,
    count: u32,
}

impl Boots {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let image = make(folder.path(), "pc-i440fx-7.2");
        let file = folder.path().join("working-set");
        let count = 0;
        Self {
            folder,
            image,
            file,
            count,
        }
    }

    /// Serves the image to destinations that touch so many pages each; returns the report and
    /// standard error.
    fn boot(&mut self, touched: &[&str]) -> (Value, String) {
        let mut receivers = Vec::new();
        let mut args = vec!["serve", "--format", "json", "--image", text(&self.image)];
        let mut uris = Vec::new();
        for touch in touched {
            self.count += 1;
            let socket = self.folder.path().join(format!("socket{}", self.count));
            let out = self.folder.path().join(format!("copy{}", self.count));
            let uri = format!("unix:{}", socket.display());
            let args = [
                "receive",
                "--listen",
                &uri,
                "--out",
                text(&out),
                "--touch",
                touch,
            ];
            receivers.push((Program::retpath(&args), out));
            uris.push(uri);
        }
        args.extend(uris.iter().flat_map(|uri| ["--connect", uri]));
        args.extend(["--bandwidth", "8M", "--working-set", text(&self.file)]);
        let mut served = Program::retpath(&args);
        served.wait_success(SOON);
        for (receiver, out) in &mut receivers {
            receiver.wait_success(SOON);
            for file in ["ram-000-pc.ram.raw", "ram-001-vga.vram.raw"] {
                let read = |folder: &Path| fs::read(folder.join(file)).expect("a block's file");
                assert!(read(&self.image) == read(out), "{file} differs");
            }
        }
        (report(&served), served.errors())
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("a working set")
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

#[test]
fn learns_then_sends_what_it_learned_and_learns_more() {
    let mut boots = Boots::new();
    let (first, errors) = boots.boot(&["300"]);
    assert!(!errors.contains("working set"), "{errors}");
    let learned = &first["working_set"];
    let pages = number(&learned["pages"]);
    // Without a sweep, what is touched is requested.
    assert!((1..=300).contains(&pages), "{learned}");
    assert_eq!(number(&learned["new"]), pages);
    let demand = number(&first["destinations"][0]["pages"]["demand"]);
    assert_eq!(demand, pages, "the sweep waits until nothing is requested");

    let before = boots.bytes();
    let (second, errors) = boots.boot(&["0"]);
    assert!(!errors.contains("working set"), "{errors}");
    assert_eq!(number(&second["working_set"]["pages"]), pages);
    assert_eq!(number(&second["working_set"]["new"]), 0);
    assert_eq!(boots.bytes(), before, "nothing new is known");

    // Two clones, and one record.
    let (third, _) = boots.boot(&["300", "300"]);
    let all = &third["working_set"];
    assert_eq!(number(&all["pages"]), pages + number(&all["new"]));
    let (fourth, _) = boots.boot(&["0"]);
    assert_eq!(fourth["working_set"]["pages"], all["pages"]);
}

#[test]
fn writes_no_file_when_nothing_was_learned() {
    let mut boots = Boots::new();
    let (report, errors) = boots.boot(&["0"]);
    assert_eq!(number(&report["working_set"]["pages"]), 0);
    assert!(!errors.contains("working set"), "{errors}");
    assert!(!boots.file.exists());
    let args = ["--connect", "unix:/nobody/here", "--wait", "0"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command
        .args(["serve", "--image", text(&boots.image)])
        .args(args);
    let output = command.args(["--working-set", text(&boots.file)]).output();
    assert_eq!(output.expect("the program starts").status.code(), Some(1));
    assert!(!boots.file.exists());
}

#[test]
fn keeps_what_was_learned_when_one_destination_fails() {
    let boots = Boots::new();
    let (socket, out) = (
        boots.folder.path().join("socket"),
        boots.folder.path().join("copy"),
    );
    let uri = format!("unix:{}", socket.display());
    let receive = [
        "receive",
        "--listen",
        &uri,
        "--out",
        text(&out),
        "--touch",
        "50",
    ];
    let mut receiver = Program::retpath(&receive);
    let serve = [
        "serve",
        "--format",
        "json",
        "--image",
        text(&boots.image),
        "--connect",
        &uri,
        "--connect",
        "unix:/nobody/here",
        "--wait",
        "1",
        "--working-set",
        text(&boots.file),
    ];
    receiver.wait_path(&socket, SOON);
    let mut served = Program::retpath(&serve);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    receiver.wait_success(SOON);
    assert!(
        number(&report(&served)["working_set"]["pages"]) > 0,
        "{served}"
    );
    assert!(boots.file.exists());
}

#[test]
fn goes_on_without_a_file_that_it_cannot_use_and_leaves_it_alone() {
    let mut boots = Boots::new();
    boots.boot(&["50"]);
    let good = boots.bytes();
    let mut other = good.clone();
    other[7] ^= 1;
    let mut damaged = good.clone();
    let middle = good.len() / 2;
    damaged[middle] ^= 1;
    let cases: [(Vec<u8>, &str); 5] = [
        (Vec::new(), "offset 0: magic: the file is cut short"),
        (
            b"something else".to_vec(),
            "offset 0: magic: not a working set",
        ),
        (
            other,
            "offset 6: image: the working set belongs to the image with the id",
        ),
        (good[..middle].to_vec(), "checksum: does not match"),
        (damaged, "checksum: does not match"),
    ];
    for (bytes, says) in cases {
        fs::write(&boots.file, &bytes).expect("file is ours");
        let (report, errors) = boots.boot(&["50"]);
        assert!(errors.contains(says), "{errors}");
        assert!(errors.contains(text(&boots.file)), "{errors}");
        assert!(errors.contains("is not used, nor changed"), "{errors}");
        assert_eq!(report["working_set"], Value::Null);
        assert_eq!(boots.bytes(), bytes);
    }
}

#[test]
fn warns_when_the_file_cannot_be_written() {
    let mut boots = Boots::new();
    boots.file = boots.folder.path().join("missing/working-set");
    let (report, errors) = boots.boot(&["50"]);
    assert_eq!(report["ok"], true);
    assert!(
        errors.contains("working-set cannot be written: making"),
        "{errors}"
    );
}

#[test]
fn warns_that_an_image_without_an_id_has_no_working_set() {
    let mut boots = Boots::new();
    let folder = boots.folder.path().join("old");
    fs::create_dir(&folder).expect("ours");
    boots.image = make_with(&folder, "pc-i440fx-7.2", |_| ());
    let path = boots.image.join("manifest.json");
    let bytes = fs::read(&path).expect("a manifest");
    let mut manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    let members = manifest.as_object_mut().expect("an object");
    members.remove("id");
    members.remove("digests");
    fs::write(&path, manifest.to_string()).expect("ours");
    let (report, errors) = boots.boot(&["0"]);
    assert!(
        errors.contains("has no id to which it could be bound"),
        "{errors}"
    );
    assert_eq!(report["working_set"], Value::Null);
    assert!(!boots.file.exists());
}

#[test]
fn refuses_a_working_set_with_resume() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.args([
        "serve",
        "--image",
        "x",
        "--connect",
        "unix:/a",
        "--resume",
        "none",
    ]);
    let output = command.args(["--working-set", "f"]).output();
    let output = output.expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
}

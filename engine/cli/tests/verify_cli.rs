//! `retpath verify` as a user meets it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use retpath_support::harm::{HARMS, do_harm, flip, strip};
use retpath_support::small_image::{RAM, make};
use serde_json::Value;

fn verify(image: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.arg("verify").arg(image).args(more);
    command.output().expect("the program starts")
}

/// Verifies a damaged image; returns the report.
fn complaint(image: &Path) -> String {
    let output = verify(image, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(said).expect("text")
}

#[test]
fn verifies_an_image_that_was_just_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    let output = verify(&image, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("is intact; its id is "), "{said}");

    let output = verify(&image, &["--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], true, "{report}");
    let id = report["id"].as_str().expect("an id");
    assert!(said.contains(id), "{said}");
}

#[test]
fn copies_share_an_id_and_other_images_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, other] = ["pc-i440fx-7.2", "pc-i440fx-7.1"].map(|machine| {
        let place = folder.path().join(machine);
        fs::create_dir(&place).expect("a new name");
        make(&place, machine)
    });
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).expect("a new name");
    for entry in fs::read_dir(&one).expect("a folder").flatten() {
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("room");
    }
    let id = |image: &Path| {
        let output = verify(image, &["--format", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["ok"], true, "{report}");
        report["id"].clone()
    };
    assert_eq!(id(&one), id(&copy));
    assert_ne!(id(&one), id(&other));
}

#[test]
fn names_the_bytes_of_ram_that_differ() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    // In one piece, in its neighbour, far away, and in a hole.
    flip(&image.join(RAM), &[4, 5, 8, 500, 4000]);
    let said = complaint(&image);
    for want in [
        "the 32768 bytes at offset 0x4000 ",
        "the 16384 bytes at offset 0x1f4000 ",
        "the 16384 bytes at offset 0xfa0000 ",
        "64 KiB of RAM differ",
        "restore these files",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let output = verify(&image, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    assert_eq!(report["different_bytes"], 65536);
    let differences = report["differences"].as_array().expect("a list");
    let ranges: Vec<_> = differences
        .iter()
        .map(|one| (one["offset"].as_u64(), one["length"].as_u64()))
        .collect();
    let want = [(0x4000, 0x8000), (0x1f4000, 0x4000), (0xfa0000, 0x4000)];
    assert_eq!(ranges, want.map(|(at, len)| (Some(at), Some(len))));
}

#[test]
fn detects_every_kind_of_damage() {
    for (what, harm) in HARMS {
        let folder = tempfile::tempdir().expect("a folder");
        let image = make(folder.path(), "pc-i440fx-7.2");
        do_harm(&image.join(RAM), harm);
        let said = complaint(&image);
        assert!(said.contains(RAM), "{what}: {said}");
    }
}

/// A change of a file in an image, and the expected report.
type Change = (&'static str, fn(&Path), &'static str);

#[test]
fn detects_a_change_of_every_file() {
    let harms: [Change; 7] = [
        (
            "device-state.bin",
            |path| flip_last(path),
            "do not match their digest",
        ),
        (
            "ram-000-pc.ram.sums",
            |path| flip_last(path),
            "do not match their digest",
        ),
        (
            "ram-000-pc.ram.sums",
            |path| fs::write(path, b"").expect("ours"),
            "the file has 0 bytes",
        ),
        (
            "ram-000-pc.ram.sums",
            |path| fs::remove_file(path).expect("ours"),
            "is missing",
        ),
        (
            "ram-001-vga.vram.raw",
            |path| fs::remove_file(path).expect("ours"),
            "is missing",
        ),
        (
            "manifest.json",
            |path| edit(path, "pc-i440fx-7.2", "pc-i440fx-7.1"),
            "it has been changed",
        ),
        (
            "manifest.json",
            |path| edit(path, "\"piece\": 16384", "\"piece\": 10000"),
            "must be a power of two",
        ),
    ];
    for (file, harm, want) in harms {
        let folder = tempfile::tempdir().expect("a folder");
        let image = make(folder.path(), "pc-i440fx-7.2");
        harm(&image.join(file));
        let said = complaint(&image);
        assert!(said.contains(file), "{file}: {said}");
        assert!(said.contains(want), "{file}: {said}");
    }
}

#[test]
fn verifies_the_files_after_one_that_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    flip_last(&image.join("device-state.bin"));
    fs::remove_file(image.join("ram-001-vga.vram.raw")).expect("ours");
    flip(&image.join(RAM), &[7]);
    let said = complaint(&image);
    for file in ["device-state.bin", "ram-001-vga.vram.raw", RAM] {
        assert!(said.contains(file), "{file}: {said}");
    }
}

#[test]
fn reports_an_image_without_digests_and_a_folder_without_an_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    strip(&image);
    let said = complaint(&image);
    assert!(said.contains("has no digests"), "{said}");
    let said = complaint(folder.path());
    assert!(said.contains("is not an image"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    let output = command.arg("verify").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
}

/// Changes the last bit of a file.
fn flip_last(path: &Path) {
    let mut bytes = fs::read(path).expect("there");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(path, bytes).expect("ours");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("text");
    assert!(text.contains(from), "no {from} in {text}");
    fs::write(path, text.replacen(from, to, 1)).expect("ours");
}

#[test]
fn verifies_a_reformatted_manifest() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    let path = image.join("manifest.json");
    let text = File::open(&path).expect("there");
    let manifest: Value = serde_json::from_reader(text).expect("JSON");
    fs::write(&path, manifest.to_string()).expect("ours");
    assert!(verify(&image, &[]).status.success());
}

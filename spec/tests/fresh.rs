//! The committed outputs are what the tables say now.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use retpath_spec::render::tree::{self, State};
use retpath_spec::render::{Output, outputs};

#[test]
fn committed_outputs_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let findings = tree::check(root, &outputs()).unwrap();
    assert_eq!(findings, [], "run `cargo rp-gen` and commit the result");
}

#[test]
fn no_path_is_written_twice() {
    let outputs = outputs();
    for pair in outputs.windows(2) {
        assert!(pair[0].path < pair[1].path, "{}", pair[1].path);
    }
}

#[test]
fn names_what_is_stale_missing_and_surplus() {
    let root = scratch("names");
    let outputs = two_outputs();
    fs::create_dir_all(root.join("corpus/seed/old")).unwrap();
    fs::create_dir_all(root.join("fuzz")).unwrap();
    fs::write(root.join("corpus/seed/a.rp"), "another").unwrap();
    fs::write(root.join("corpus/seed/old/b.rp"), "").unwrap();
    fs::write(root.join("fuzz/c.dict"), "").unwrap();
    fs::write(root.join("fuzz/Cargo.toml"), "").unwrap();

    let found: Vec<(String, State)> = tree::check(&root, &outputs)
        .unwrap()
        .into_iter()
        .map(|finding| (finding.path, finding.state))
        .collect();
    let expected = [
        ("corpus/seed/a.rp", State::Stale),
        ("corpus/seed/old/b.rp", State::Surplus),
        ("fuzz/c.dict", State::Surplus),
        ("spec/new/B.md", State::Missing),
    ];
    assert_eq!(found, expected.map(|(path, state)| (path.into(), state)));
}

#[test]
fn writes_until_all_is_fresh_and_then_writes_nothing() {
    let root = scratch("writes");
    let outputs = two_outputs();
    fs::create_dir_all(root.join("codec/src/generated")).unwrap();
    fs::write(root.join("codec/src/generated/gone.rs"), "").unwrap();

    assert_eq!(tree::write(&root, &outputs).unwrap().len(), 3);
    assert_eq!(fs::read(root.join("spec/new/B.md")).unwrap(), b"beta");
    assert!(!root.join("codec/src/generated/gone.rs").exists());
    assert_eq!(tree::write(&root, &outputs).unwrap(), []);
}

#[test]
fn refuses_arguments_that_it_does_not_know() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["--check"], 0),
        (&["--chekc"], 2),
        (&["--check", "--check"], 2),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_rp-gen"))
            .args(args)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {out:?}");
    }
}

fn two_outputs() -> [Output; 2] {
    [("corpus/seed/a.rp", "alpha"), ("spec/new/B.md", "beta")].map(|(path, text)| Output {
        path: path.into(),
        bytes: text.into(),
    })
}

/// An empty folder of the test's own.
fn scratch(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    root
}

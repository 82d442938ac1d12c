//! The committed outputs are up to date.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use retpath_gen::tree::{self, State};
use retpath_gen::{Output, outputs};

#[test]
fn committed_outputs_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
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
fn reports_stale_missing_and_surplus_files() {
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
fn writes_nothing_the_second_time() {
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
fn errors_name_the_file() {
    let outputs = two_outputs();
    let root = scratch("refused");
    // A file in the place of a folder.
    fs::create_dir_all(root.join("spec")).unwrap();
    fs::write(root.join("spec/new"), "").unwrap();
    let error = tree::check(&root, &outputs).unwrap_err();
    assert!(error.to_string().starts_with("spec/new/B.md: "), "{error}");
    fs::remove_file(root.join("spec/new")).unwrap();
    fs::create_dir_all(root.join("corpus/seed/a.rp")).unwrap();
    let error = tree::check(&root, &outputs).unwrap_err();
    assert!(
        error.to_string().starts_with("corpus/seed/a.rp: "),
        "{error}"
    );

    let root = scratch("refused-folder");
    fs::create_dir_all(root.join("codec/src")).unwrap();
    fs::write(root.join("codec/src/generated"), "").unwrap();
    let error = tree::write(&root, &outputs).unwrap_err();
    assert!(
        error.to_string().starts_with("codec/src/generated: "),
        "{error}"
    );

    let root = scratch("refused-write");
    std::os::unix::fs::symlink("nowhere/at/all", root.join("spec")).unwrap();
    let error = tree::write(&root, &outputs).unwrap_err();
    assert!(error.to_string().starts_with("spec/new/B.md: "), "{error}");
}

/// Runs the command. Returns exit code, standard output and standard error.
fn rp_gen(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_rp-gen"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

#[test]
fn command_creates_every_file() {
    let root = scratch("command");
    let top = root.to_str().unwrap();
    let count = outputs().len();

    let (code, said, complaint) = rp_gen(&["--check", top]);
    assert_eq!((code, said.lines().count()), (Some(1), count));
    assert!(said.starts_with("missing  codec/src/generated/"), "{said}");
    assert!(
        complaint.contains(&format!("{count} files differ")),
        "{complaint}"
    );

    let (code, said, _) = rp_gen(&[top]);
    assert_eq!(code, Some(0));
    let last = format!("wrote {count} files; 0 files were fresh before");
    assert_eq!(said.lines().last(), Some(&*last));
    let (code, said, _) = rp_gen(&["--check", top]);
    assert_eq!(
        (code, said),
        (Some(0), format!("{count} files are fresh\n"))
    );
    let (_, said, _) = rp_gen(&[top]);
    assert_eq!(
        said,
        format!("wrote 0 files; {count} files were fresh before\n")
    );

    // Every file but one.
    let root = scratch("command-again");
    let other = root.to_str().unwrap();
    fs::create_dir_all(root.join("fuzz")).unwrap();
    let dictionary = Path::new(top).join("fuzz/forward.dict");
    fs::copy(dictionary, root.join("fuzz/forward.dict")).unwrap();
    let (_, said, _) = rp_gen(&[other]);
    let last = format!("wrote {} files; 1 file was fresh before", count - 1);
    assert_eq!(said.lines().last(), Some(&*last));
}

#[test]
fn command_removes_surplus_files() {
    let root = scratch("command-removes");
    let top = root.to_str().unwrap();
    let count = outputs().len();
    assert_eq!(rp_gen(&[top]).0, Some(0));
    fs::write(root.join("corpus/seed/old.rp"), "").unwrap();
    fs::write(root.join("fuzz/forward.dict"), "").unwrap();
    let (code, said, complaint) = rp_gen(&["--check", top]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "surplus  corpus/seed/old.rp\nstale    fuzz/forward.dict\n"
    );
    assert!(complaint.contains("2 files differ"), "{complaint}");
    let (_, said, _) = rp_gen(&[top]);
    let rest = format!(
        "wrote 1 file, removed 1 file; {} files were fresh before",
        count - 1
    );
    let wanted = format!("removed  corpus/seed/old.rp\nwrote    fuzz/forward.dict\n{rest}\n");
    assert_eq!(said, wanted);
}

#[test]
fn command_reports_errors() {
    let root = scratch("command-fails");
    fs::write(root.join("codec"), "").unwrap();
    for args in [&["--check"][..], &[]] {
        let args = [args, &[root.to_str().unwrap()]].concat();
        let (code, _, complaint) = rp_gen(&args);
        assert_eq!(code, Some(1));
        assert!(complaint.starts_with("rp-gen: codec/"), "{complaint}");
    }
}

#[test]
fn command_refuses_unknown_arguments() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["-h"], 0),
        (&["--check"], 0),
        (&["--chekc"], 2),
        (&["--check", "--check"], 2),
        (&["--check", "top", "more"], 2),
    ] {
        let (found, said, complaint) = rp_gen(args);
        assert_eq!(found, Some(code), "{args:?}: {said}{complaint}");
    }
}

fn two_outputs() -> [Output; 2] {
    [("corpus/seed/a.rp", "alpha"), ("spec/new/B.md", "beta")].map(|(path, text)| Output {
        path: path.into(),
        bytes: text.into(),
    })
}

/// A new empty folder.
fn scratch(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    root
}

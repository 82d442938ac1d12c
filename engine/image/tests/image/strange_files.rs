//! Access rights and strange files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use retpath_image::{Error, Image, LeftoverState, Writer, leftovers, verify};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::common::{folder, mode, names};
use super::make;
use super::resumed::killed;

/// A folder that was copied with other rights is tightened before more is written to it.
#[test]
fn makes_a_folder_private_before_it_continues() {
    let (_folder, left) = killed();
    let rights = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(&left, rights(0o755)).expect("folder is ours");
    for name in names(&left) {
        fs::set_permissions(left.join(name), rights(0o644)).expect("file is ours");
    }
    let writer = Writer::resume(&left, None).expect("folder is resumable");
    assert_eq!(mode(&left), 0o700);
    for name in ["ram-000-ram.raw", "ram-001-rom.raw"] {
        assert_eq!(mode(&left.join(name)), 0o600, "{name}");
    }
    drop(writer);
}

/// Puts something into the place of a file.
type Strange = fn(&Path);

const STRANGE: [(&str, Strange); 4] = [
    ("not a regular file", |path| {
        let rights = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, path, FileType::Fifo, rights, 0).expect("folder is writable");
    }),
    ("not a regular file", |path| {
        UnixListener::bind(path).expect("folder is writable");
    }),
    ("not a regular file", |path| {
        fs::create_dir(path).expect("folder is writable");
    }),
    ("a symbolic link; an image holds its own files", |path| {
        symlink("/dev/zero", path).expect("folder is writable");
    }),
];

/// Replaces one file of a folder after the other; `refused` returns the error.
fn refuses_strange_files(here: &Path, skipped: &[&str], refused: impl Fn() -> String) {
    for name in names(here) {
        if skipped.contains(&&*name) {
            continue;
        }
        let (path, aside) = (here.join(&name), here.with_extension("aside"));
        fs::rename(&path, &aside).expect("folder is writable");
        for (why, put) in STRANGE {
            put(&path);
            assert_eq!(refused(), format!("{}: {why}", path.display()));
            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir(&path))
                .expect("file exists");
        }
        fs::rename(&aside, &path).expect("folder is writable");
    }
}

#[test]
fn refuses_strange_files_in_an_image() {
    let folder = folder();
    let image = make(folder.path());
    refuses_strange_files(&image, &[], || {
        Image::open(&image).expect_err("refused").to_string()
    });
    refuses_strange_files(&image, &["manifest.json"], || {
        let found = verify(&image, &mut |_, _| true).expect("manifest is readable");
        let [difference] = &found.differences[..] else {
            panic!("{:?}", found.differences)
        };
        difference.to_string()
    });
    Image::open(&image).expect("image is whole again");
}

#[test]
fn refuses_strange_files_in_an_unfinished_folder() {
    let (_folder, left) = killed();
    refuses_strange_files(&left, &[], || {
        Writer::resume(&left, None)
            .expect_err("refused")
            .to_string()
    });
    Writer::resume(&left, None).expect("folder is whole again");
}

#[test]
fn never_writes_through_a_strange_temporary_file() {
    let (folder, left) = killed();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").expect("folder is writable");
    symlink(&victim, left.join("manifest.json.new")).expect("folder is writable");
    let (writer, unfinished) = Writer::resume(&left, None).expect("folder is resumable");
    writer.finish(unfinished.facts).expect("image is complete");
    assert_eq!(fs::read(&victim).expect("file exists"), b"precious");
}

/// Regression: opening a named pipe to see whether it is a folder waited for its writer.
#[test]
fn takes_only_folders_for_leftovers() {
    let folder = folder();
    let out = folder.path().join("image");
    let at = |number: usize| folder.path().join(format!("image.incomplete-{number}"));
    fs::create_dir(at(9)).expect("folder is writable");
    fs::create_dir(folder.path().join("other")).expect("folder is writable");
    symlink("other", at(8)).expect("folder is writable");
    fs::write(at(7), "").expect("folder is writable");
    for (number, (_, put)) in STRANGE.iter().enumerate().filter(|(at, _)| *at != 2) {
        put(&at(number));
    }
    let found = leftovers(&out);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, at(9));
    assert_eq!(found[0].state, LeftoverState::Worthless);
    for number in [0, 1, 3, 7, 8] {
        let error = Writer::resume(&at(number), None).expect_err("refused");
        let want = format!("{}: not a folder", at(number).display());
        assert_eq!(error.to_string(), want);
        // A symbolic link to a folder is one for a reader, but this one leads to no image.
        let error = Image::open(&at(number)).expect_err("refused");
        assert!(matches!(error, Error::NoManifest { .. }), "{error}");
    }
}

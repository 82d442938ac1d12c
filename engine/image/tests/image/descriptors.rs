//! Access rights, strange files, and few descriptors.
//!
//! The umask and the limit of descriptors belong to the process, so the tests that change
//! them run themselves as a child of `sh`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use retpath_engine::source::PageSource;
use retpath_image::{Error, Image, LeftoverState, Writer, leftovers, verify};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::resumed::{bits, killed, seen};
use super::{PAGE, block, facts, folder, make, names};

/// The folder in which the child of a test works.
const CHILD: &str = "RETPATH_TEST_FOLDER";

fn child_folder() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Runs a test of this file again, after a command of the shell.
fn run_after(command: &str, test: &str, folder: &Path) {
    let exe = std::env::current_exe().expect("the test has a path");
    let output = Command::new("sh")
        .args(["-c", &format!("{command} && exec \"$@\""), "sh"])
        .arg(exe)
        .args(["--exact", &format!("descriptors::{test}"), "--nocapture"])
        .env(CHILD, folder)
        .output()
        .expect("sh starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}");
}

fn mode(path: &Path) -> u32 {
    let about = fs::symlink_metadata(path).expect("file exists");
    about.permissions().mode() & 0o7777
}

#[test]
fn keeps_everything_private_whatever_the_umask() {
    if let Some(folder) = child_folder() {
        for name in ["whole", "kept"] {
            let mut writer = Writer::new(&folder.join(name)).expect("image does not exist yet");
            writer.block(&block(b"ram", 4), PAGE).expect("valid block");
            writer.write(0, 0, &[7; 4096]).expect("file is writable");
            writer.early_state(b"early").expect("file is writable");
            writer.description(b"{}").expect("file is writable");
            writer.make_resumable(seen()).expect("file is writable");
            match name {
                "whole" => drop(writer.finish(facts()).expect("image is complete")),
                _ => writer.keep(),
            }
        }
        return;
    }
    for umask in ["000", "022", "277", "777"] {
        let folder = folder();
        let test = "keeps_everything_private_whatever_the_umask";
        run_after(&format!("umask {umask}"), test, folder.path());
        let images = names(folder.path());
        assert_eq!(images.len(), 2);
        let mut files = 0;
        for image in images {
            let image = folder.path().join(image);
            assert_eq!(mode(&image), 0o700, "umask {umask}: {}", image.display());
            for name in names(&image) {
                assert_eq!(mode(&image.join(&name)), 0o600, "umask {umask}: {name}");
                files += 1;
            }
        }
        assert_eq!(files, 6 + 6);
    }
}

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

#[test]
fn writes_and_reads_more_blocks_than_there_are_descriptors() {
    const BLOCKS: usize = 300;
    let test = "writes_and_reads_more_blocks_than_there_are_descriptors";
    let Some(folder) = child_folder() else {
        // In memory, where there is such a folder: hundreds of files are synced.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| folder());
        return run_after("ulimit -n 180", test, folder.path());
    };
    let out = folder.join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    let byte = |id: usize| id as u8 | 1;
    for id in 0..BLOCKS {
        let name = format!("block-{id}");
        let id = writer
            .block(&block(name.as_bytes(), 1), PAGE)
            .expect("there are descriptors");
        writer
            .write(id, 0, &[byte(id); 4096])
            .expect("range lies in the block");
    }
    writer.make_resumable(seen()).expect("file is writable");
    let received = vec![bits(1, 0..1); BLOCKS];
    writer.checkpoint(&received).expect("file is writable");
    let left = writer.path().to_owned();
    drop(writer);
    let (writer, unfinished) = Writer::resume(&left, None).expect("folder is resumable");
    for id in 0..BLOCKS {
        assert_eq!(writer.received(id).expect("bitmap is readable"), [1]);
    }
    writer.finish(unfinished.facts).expect("image is complete");

    let image = Image::open(&out).expect("image is complete");
    let mut page = [0; 4096];
    for id in (0..BLOCKS).chain((0..BLOCKS).rev()) {
        image.read(id, 0, &mut page).expect("block has a page");
        assert_eq!(page, [byte(id); 4096], "block {id}");
        assert_eq!(image.stored(id), PAGE);
    }
    let found = verify(&out, &mut |_, _| true).expect("manifest is readable");
    assert!(found.is_whole());

    // A file that is not held open must still be the same one.
    let last = out.join(format!("ram-{}-block-{}.raw", BLOCKS - 1, BLOCKS - 1));
    fs::copy(&last, folder.join("copy")).expect("folder is writable");
    fs::rename(folder.join("copy"), &last).expect("folder is writable");
    let error = image.read(BLOCKS - 1, 0, &mut page);
    let error = error.expect_err("another file").to_string();
    assert!(error.contains("was changed while"), "{error}");
}

#[test]
fn removes_everything_when_there_are_no_descriptors_left() {
    let test = "removes_everything_when_there_are_no_descriptors_left";
    let Some(folder) = child_folder() else {
        return run_after("ulimit -n 60", test, folder().path());
    };
    let mut writer = Writer::new(&folder.join("image")).expect("image does not exist yet");
    let error = (0..100).find_map(|id| {
        let name = format!("block-{id}");
        writer.block(&block(name.as_bytes(), 1), PAGE).err()
    });
    let error = error.expect("more blocks than descriptors").to_string();
    assert!(error.contains("raise the limit of `ulimit -n`"), "{error}");
    assert!(fs::File::open("/dev/null").is_err(), "there is none left");
    drop(writer);
    assert_eq!(names(&folder), [""; 0]);
}

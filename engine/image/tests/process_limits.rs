//! Access rights and descriptors.
//!
//! The umask and the limit of descriptors belong to the process, so the tests run themselves as a
//! child of `sh`. They have a program of their own: a child has the locks of its parent's images
//! until it calls exec.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{PAGE, bits, block, facts, folder, mode, names, seen};
use retpath_engine::source::PageSource;
use retpath_image::{Image, Writer, verify};

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
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, folder)
        .output()
        .expect("sh starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}");
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
    std::fs::copy(&last, folder.join("copy")).expect("folder is writable");
    std::fs::rename(folder.join("copy"), &last).expect("folder is writable");
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
    assert!(
        std::fs::File::open("/dev/null").is_err(),
        "there is none left"
    );
    drop(writer);
    assert_eq!(names(&folder), [""; 0]);
}

//! The command where a process may open few files: a peer chooses the number of RAM blocks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::saved_stream::Stream;
use tempfile::TempDir;

/// Maximum number of RAM blocks of a machine.
const MOST: usize = 4096;

/// A folder in memory, where there is one: thousands of files are synced.
fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("temporary folder can be created")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("path is UTF-8")
}

/// `retpath` under a limit of descriptors, in the syntax of `ulimit`.
fn limited(limit: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} && exec \"$@\"");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_retpath")]);
    command.args(args);
    command
}

/// Imports a machine of `count` blocks; every other one has a page of data.
fn import(folder: &Path, count: usize, limit: &str) -> (PathBuf, Output) {
    let names: Vec<String> = (0..count).map(|id| format!("block-{id}")).collect();
    let blocks: Vec<(&[u8], u64)> = names.iter().map(|name| (name.as_bytes(), 1)).collect();
    let mut stream = Stream::new("pc-i440fx-7.2").blocks(&blocks);
    for id in (0..count).step_by(2) {
        stream = stream.page(id, 0, id as u8 | 1);
    }
    let stream = stream.devices().description(b"{\"devices\": []}");
    let (file, image) = (folder.join("saved"), folder.join("image"));
    fs::write(&file, &stream.bytes).expect("folder is writable");
    let args = ["import", text(&file), "--out", text(&image)];
    let output = limited(limit, &args).output().expect("sh starts");
    (image, output)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn imports_and_serves_4096_blocks_with_256_descriptors() {
    let folder = folder();
    let (image, output) = import(folder.path(), MOST, "-n 256");
    assert!(output.status.success(), "{}", errors(&output));

    let (copy, socket) = (folder.path().join("copy"), folder.path().join("socket"));
    let uri = format!("unix:{}", text(&socket));
    let receive = ["receive", "--listen", &uri, "--out", text(&copy)];
    let mut receiver = Program::spawn(limited("-n 256", &receive));
    while !socket.exists() {
        assert!(receiver.ended().is_none(), "{receiver}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let serve = ["serve", "--image", text(&image), "--connect", &uri];
    let mut served = Program::spawn(limited("-n 256", &serve));
    served.wait_success(SOON);
    receiver.wait_success(SOON);
    for id in 0..MOST {
        let read = |image: &Path| {
            fs::read(image.join(format!("ram-{id:03}-block-{id}.raw"))).expect("a block's file")
        };
        let want = if id % 2 == 0 { id as u8 | 1 } else { 0 };
        assert!(read(&image) == [want; 4096], "block {id}");
        assert!(read(&copy) == [want; 4096], "block {id}");
    }
}

#[test]
fn raises_the_soft_limit_of_descriptors() {
    let folder = folder();
    let (_, output) = import(folder.path(), 100, "-Sn 60");
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn leaves_nothing_behind_when_there_are_too_few_descriptors() {
    let folder = folder();
    let (image, output) = import(folder.path(), 100, "-n 60");
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("raise the limit of `ulimit -n`"),
        "{errors}"
    );
    assert!(errors.contains("no image was made"), "{errors}");
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("ours")
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "only the stream: {left:?}");
    assert!(!image.exists());
}

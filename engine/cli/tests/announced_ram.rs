//! Streams that announce terabytes of RAM and send none of it: memory and disk space depend on
//! what arrives.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use retpath_engine::source::PageSource;
use retpath_image::Image;
use retpath_support::SOON;
use retpath_support::program::Program;
use tempfile::TempDir;

/// Limit of a process's peak memory, in KiB. A debug build needs 20 MiB.
const MEMORY: u64 = 48 << 10;

/// Limit of the disk space of an image, in bytes: its manifest has 700 KB.
const DISK: u64 = 2 << 20;

fn case(name: &str) -> PathBuf {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus/regressions");
    corpus.join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("path is UTF-8")
}

/// A folder in memory, where there is one: thousands of files are made.
fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("temporary folder can be created")
}

/// Waits for the end of a program, whose peak memory must be below the limit. One that ends
/// before it is looked at had no time to take gigabytes.
fn wait(mut program: Program) -> Program {
    let status = format!("/proc/{}/status", program.id());
    let start = Instant::now();
    let mut peak = 0;
    while program.ended().is_none() && start.elapsed() < SOON {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB"));
        peak = found.map_or(peak, |found| found.parse().expect("a number"));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(peak < MEMORY, "{peak} KiB");
    program
}

fn receive(folder: &Path, name: &str, more: &[&str]) -> Program {
    let (socket, out) = (folder.join("in"), folder.join("image"));
    let uri = format!("unix:{}", text(&socket));
    let mut args = vec!["receive", "--listen", &uri, "--out", text(&out)];
    args.extend(more);
    let receiver = Program::retpath(&args);
    receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    let mut source = UnixStream::connect(&socket).expect("it listens");
    let stream = fs::read(case(name)).expect("corpus is complete");
    // It closes the connection once it refuses the stream.
    let _ = source.write_all(&stream);
    let _ = source.shutdown(Shutdown::Write);
    wait(receiver)
}

fn import(folder: &Path, name: &str, more: &[&str]) -> Program {
    let (stream, out) = (case(name), folder.join("image"));
    let mut args = vec!["import", text(&stream), "--out", text(&out)];
    args.extend(more);
    wait(Program::retpath(&args))
}

/// Receives and imports a stream; asserts that the image has `blocks` blocks of `len` bytes, all
/// zero, and takes no space for them.
fn assert_made(name: &str, options: &[&[&str]], blocks: usize, len: u64) {
    let receive = options.iter().map(|more| (true, *more));
    for (is_received, more) in receive.chain([(false, options[0])]) {
        let folder = folder();
        let mut made = match is_received {
            true => self::receive(folder.path(), name, more),
            false => import(folder.path(), name, more),
        };
        made.wait_success(SOON);
        let out = folder.path().join("image");
        let files = fs::read_dir(&out).expect("an image").flatten();
        let stored = files.map(|file| file.metadata().expect("file exists").blocks() * 512);
        let stored: u64 = stored.sum();
        assert!(stored < DISK, "{stored} bytes");
        let image = Image::open(&out).expect("image is complete");
        assert_eq!(image.blocks().len(), blocks);
        for (id, block) in image.blocks().iter().enumerate() {
            assert_eq!(block.len, len);
            assert!(image.is_hole(id, 0, len).expect("image is unchanged"));
        }
        let mut page = [1; 4096];
        let last = image.read(blocks - 1, len - 4096, &mut page);
        last.expect("image is unchanged");
        assert_eq!(page, [0; 4096]);
        drop(image);
        wait(Program::retpath(&["verify", text(&out)])).wait_success(SOON);
    }
}

/// Asserts that a program failed and left no image; returns its error.
fn refusal(mut program: Program, folder: &TempDir) -> String {
    assert_eq!(program.wait(SOON).code(), Some(1), "{program}");
    let left = fs::read_dir(folder.path()).expect("ours").flatten();
    let left: Vec<_> = left.filter(|file| file.file_name() != "in").collect();
    assert!(left.is_empty(), "{left:?}");
    program.errors()
}

#[test]
fn receives_and_imports_4096_blocks_of_1_gib_of_which_nothing_arrives() {
    assert_made(
        "blocks4096x1G.fwd",
        &[&[], &["--touch", "5"]],
        4096,
        1 << 30,
    );
}

#[test]
fn receives_and_imports_as_much_ram_as_its_limit() {
    assert_made("huge4T.fwd", &[&[]], 1, 4 << 40);
}

#[test]
fn touches_a_block_of_4_tib_or_says_that_there_is_no_memory_for_it() {
    let folder = folder();
    let mut receiver = receive(folder.path(), "huge4T.fwd", &["--touch", "5"]);
    if receiver.wait(SOON).success() {
        // The kernel maps more than there is (vm.overcommit_memory).
        Image::open(&folder.path().join("image")).expect("image is complete");
        return;
    }
    let errors = refusal(receiver, &folder);
    for part in ["RAM block pc.ram of 4 TiB", "--touch needs memory"] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn refuses_more_ram_than_its_limit_and_names_the_option() {
    type Make = fn(&Path, &str, &[&str]) -> Program;
    for make in [receive as Make, import] {
        let folder = folder();
        let errors = refusal(make(folder.path(), "huge4T1.fwd", &[]), &folder);
        assert!(errors.contains("(--max-ram raises it)"), "{errors}");
        assert!(errors.contains("limit of 4398046511104 bytes"), "{errors}");
    }
    assert_made("huge4T1.fwd", &[&["--max-ram", "5T"]], 1, (4 << 40) + 4096);
}

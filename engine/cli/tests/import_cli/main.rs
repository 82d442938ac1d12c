//! `retpath import` as a user meets it: the image, the errors, and that a refused stream leaves
//! nothing behind.

mod ends;
mod virtio_mem;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::read::GzDecoder;
use retpath_codec::{BlockName, NameBuf};
use retpath_engine::source::PageSource;
use retpath_image::Image;
use retpath_support::saved_stream::{DEVICE, Stream};
use serde_json::Value;
use tempfile::TempDir;

/// A folder for the files of a test.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("image")
    }

    /// Imports from standard input.
    fn import(&self, stream: &[u8], more: &[&str]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_retpath"))
            .args(["import", "-", "--out"])
            .arg(self.out())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("retpath starts");
        // It may close the pipe before the end.
        let _ = child.stdin.take().expect("piped").write_all(stream);
        child.wait_with_output().expect("it ends")
    }

    /// Imports a stream that must be accepted.
    fn image(&self, stream: &[u8], more: &[&str]) -> Image {
        let output = self.import(stream, more);
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(errors(&output), "");
        Image::open(&self.out()).expect("a whole image")
    }

    /// Imports a stream that must be refused; returns the line that says why.
    fn refusal(&self, stream: &[u8]) -> String {
        let output = self.import(stream, &[]);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert_eq!(output.stdout, b"");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.starts_with("retpath import: "), "{errors}");
        assert!(errors.contains("no image was made"), "{errors}");
        let left = fs::read_dir(self.0.path()).expect("ours").count();
        assert_eq!(left, 0, "something is left: {errors}");
        errors
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fill(image: &Image, block: usize, page: u64) -> u8 {
    let mut bytes = [0; 4096];
    image.read(block, page * 4096, &mut bytes).expect("inside");
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "page {page}");
    bytes[0]
}

#[test]
fn keeps_pages_devices_and_description() {
    let stream = Stream::new("pc-i440fx-7.2")
        .blocks(&[(b"pc.ram", 16), (b"/rom@\xff", 1)])
        .page(0, 3, 0xa1)
        .page(0, 4, 0xa2)
        .zero(0, 5)
        .page(1, 0, 0xb1)
        // Once more, as a later round does.
        .page(0, 3, 0xa3)
        .zero(0, 4)
        .devices()
        .description(b"{\"devices\": []}");
    let room = Room::new();
    let image = room.image(&stream.bytes, &[]);
    for page in 0..16 {
        let want = if page == 3 { 0xa3 } else { 0 };
        assert_eq!(fill(&image, 0, page), want, "page {page}");
    }
    assert_eq!(fill(&image, 1, 0), 0xb1);
    assert_eq!(image.device_state(), DEVICE);
    assert_eq!(image.description(), Some(&b"{\"devices\": []}"[..]));
    let manifest = image.manifest();
    assert_eq!(manifest.machine.as_deref(), Some(&b"pc-i440fx-7.2"[..]));
    assert!(manifest.source.footers && !manifest.source.postcopy);
    assert_eq!(manifest.source.ram_section, 2);
    let name = NameBuf::new(b"/rom@\xff").expect("good");
    assert_eq!(image.blocks().find(name.name()), Some(1));
}

#[test]
fn reads_a_file_and_reports_the_image() {
    let stream = Stream::new("pc").blocks(&[(b"ram", 4)]).page(0, 1, 7);
    let stream = stream.devices().description(b"{}");
    let room = Room::new();
    let file = room.0.path().join("saved");
    fs::write(&file, &stream.bytes).expect("ours");
    let run = |out: &Path, format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_retpath"))
            .arg("import")
            .arg(&file)
            .arg("--out")
            .arg(out)
            .args(["--format", format])
            .output()
            .expect("retpath runs");
        assert!(output.status.success(), "{}", errors(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let text = run(&room.out(), "text");
    assert!(text.contains("machine type       pc\n"), "{text}");
    assert!(
        text.contains("16 KiB, pages of 4 KiB, 4 KiB of it not zero"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&run(&room.0.path().join("two"), "json")).expect("JSON");
    assert_eq!(json["manifest"]["blocks"][0]["length"], 16384);
    assert_eq!(json["stream_bytes"], stream.bytes.len());
}

#[test]
fn fills_pages_with_nonzero_bytes_for_old_sources() {
    let mut stream = Stream::new("pc").blocks(&[(b"ram", 4)]).zero(0, 1);
    let record = stream.bytes.len() - 1 - retpath_support::saved_stream::CLOSE;
    stream.bytes[record] = 9;
    let stream = stream.devices().description(b"{}");
    let room = Room::new();
    assert_eq!(fill(&room.image(&stream.bytes, &[]), 0, 1), 9);
}

#[test]
fn uses_page_sizes_from_the_command_line() {
    let stream = Stream::new("pc").blocks(&[(b"a=b", 512)]).page(0, 1, 7);
    let stream = stream.devices().description(b"{}");
    let room = Room::new();
    let image = room.image(&stream.bytes, &["--block-page-size", "a=b=2M"]);
    assert_eq!(image.blocks().block(0).expect("one").page, 2 << 20);
}

#[test]
fn refuses_unsupported_streams() {
    let start = || Stream::new("pc").blocks(&[(b"ram", 4)]);
    let record = |flags: u8, body: &[u8]| {
        let head = [0, 0, 0, 0, 0, 0, 0x10, flags];
        start()
            .record(&[&head, &b"\x03ram"[..], body].concat())
            .bytes
    };
    let section = |name: &[u8]| {
        let mut bytes = start().bytes;
        bytes.extend([1, 0, 0, 0, 9, name.len() as u8]);
        bytes.extend(name);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4]);
        bytes
    };
    let capability = Stream::with_capability(b"x-ignore-shared").bytes;
    let cases: &[(&[u8], &str)] = &[
        (
            &record(0x40, &[1, 0, 1, 0xee]),
            "XBZRLE pages of section \"ram\"",
        ),
        (
            &record(0x40, &[1, 0, 1, 0xee]),
            "turn the capability xbzrle off",
        ),
        (&compressed(), "compressed pages of section \"ram\""),
        (&start().flush().bytes, "multifd off at the source"),
        (&section(b"dirty-bitmap"), "the section \"dirty-bitmap\""),
        (&section(b"dirty-bitmap"), "capability dirty-bitmaps off"),
        (&section(b"block"), "the section \"block\""),
        (
            &section(b"0000:00:04.0/vfio"),
            "the section \"0000:00:04.0/vfio\"",
        ),
        (&capability, "capability x-ignore-shared"),
    ];
    for (stream, want) in cases {
        let message = Room::new().refusal(stream);
        assert!(message.contains(want), "{want}: {message}");
    }
}

/// A page that zlib compressed.
fn compressed() -> Vec<u8> {
    let start = Stream::new("pc").blocks(&[(b"ram", 4)]);
    let word = 0x1100_u64.to_be_bytes();
    start
        .record(&[&word[..], b"\x03ram", &[0, 0, 0, 2, 0x78, 0x9c]].concat())
        .bytes
}

#[test]
fn refuses_files_that_are_not_streams() {
    for (stream, want) in [
        (&b""[..], "standard input"),
        (b"QEVM", "standard input"),
        (b"\x1f\x8b\x08\0", "a compressed one"),
        (b"QEVM\0\0\0\x02", "version"),
    ] {
        let message = Room::new().refusal(stream);
        assert!(message.contains(want), "{want}: {message}");
    }
}

/// Found by fuzzing: a header and EOF became an image without RAM, which could
/// not be opened.
#[test]
fn refuses_a_stream_without_ram() {
    let message = Room::new().refusal(b"QEVM\0\0\0\x03\0");
    assert!(message.contains("before the first RAM block"), "{message}");
}

#[test]
fn refuses_every_prefix() {
    let stream = Stream::new("pc").blocks(&[(b"ram", 4)]).page(0, 1, 7);
    let stream = stream.devices().description(b"{\"a\": 1}");
    // Without its description a stream is whole; the pages are all alike.
    let plain = stream.bytes.len() - retpath_support::saved_stream::DESCRIPTION_HEAD - 8;
    let step = |size: &usize| *size < 120 || *size > 4096 + 100 || size.is_multiple_of(509);
    for size in (0..stream.bytes.len())
        .filter(step)
        .filter(|size| *size != plain)
    {
        Room::new().refusal(&stream.bytes[..size]);
    }
    Room::new().image(&stream.bytes[..plain], &[]);
}

#[test]
fn refuses_bytes_after_the_end_of_the_stream() {
    let stream = Stream::new("pc")
        .blocks(&[(b"ram", 4)])
        .devices()
        .description(b"{}");
    Room::new().refusal(&[&stream.bytes[..], b"x"].concat());
}

#[test]
fn does_not_overwrite_an_existing_image() {
    let room = Room::new();
    let stream = Stream::new("pc")
        .blocks(&[(b"ram", 4)])
        .devices()
        .description(b"{}");
    room.image(&stream.bytes, &[]);
    let before = fs::metadata(room.out()).and_then(|about| about.modified());
    let output = room.import(&stream.bytes, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("exists already"),
        "{}",
        errors(&output)
    );
    let after = fs::metadata(room.out()).and_then(|about| about.modified());
    assert_eq!(before.expect("there"), after.expect("there"));
}

#[test]
fn reports_the_leftovers_of_a_killed_run() {
    let room = Room::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_retpath"))
        .args(["import", "-", "--out"])
        .arg(room.out())
        .stdin(Stdio::piped())
        .spawn()
        .expect("retpath starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"QEVM").expect("it reads");
    let name = loop {
        let entry = fs::read_dir(room.0.path()).expect("ours").flatten().next();
        match entry {
            Some(entry) => break entry.file_name(),
            None => assert!(child.try_wait().expect("ours").is_none(), "it ended"),
        }
    };
    let name = name.to_str().expect("text").to_owned();
    assert_eq!(name, format!("image.incomplete-{}", child.id()));
    child.kill().expect("ours");
    child.wait().expect("ours");
    assert!(!room.out().exists());
    let stream = Stream::new("pc")
        .blocks(&[(b"ram", 4)])
        .devices()
        .description(b"{}");
    let output = room.import(&stream.bytes, &[]);
    assert!(output.status.success());
    let errors = errors(&output);
    assert!(
        errors.contains(&name) && errors.contains("delete it"),
        "{errors}"
    );
}

/// A recording of the corpus, unpacked.
fn capture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus/capture");
    let file = File::open(folder.join(name)).expect("in the corpus");
    let mut stream = Vec::new();
    GzDecoder::new(file)
        .read_to_end(&mut stream)
        .expect("whole");
    stream
}

#[test]
fn imports_recordings_of_real_migrations() {
    for (name, machine) in [
        ("qemu-7.2-plain.ch0.fwd.gz", "pc-i440fx-7.2"),
        ("qemu-10.0-plain.ch0.fwd.gz", "pc-i440fx-10.0"),
    ] {
        let stream = capture(name);
        let room = Room::new();
        let image = room.image(&stream, &[]);
        let manifest = image.manifest();
        assert_eq!(manifest.machine.as_deref(), Some(machine.as_bytes()));
        assert!(manifest.source.switched && manifest.source.return_path);
        assert_eq!(manifest.source.switchover_start, name.contains("10.0"));
        assert_eq!(image.description(), None);
        let len = image.blocks().block(0).expect("pc.ram").len;
        assert_eq!(len, 16 << 20);
        assert!((1..len).contains(&image.stored(0)));
        // The device sections stand as they do in the stream.
        let state = image.device_state();
        assert!(
            stream.windows(state.len()).any(|part| part == state),
            "{name}"
        );
    }
}

#[test]
fn refuses_a_recording_without_its_other_half() {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus/capture");
    // What came on the preempt channel is not in it.
    let stream = fs::read(capture.join("qemu-10.0-preempt.ch0.fwd")).expect("in the corpus");
    let message = Room::new().refusal(&stream);
    assert!(message.contains("target pages are missing"), "{message}");
    // The link broke.
    let stream = fs::read(capture.join("qemu-7.2-recover.ch0.fwd")).expect("in the corpus");
    Room::new().refusal(&stream);
}

//! Images started by one process and finished by another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use retpath_engine::bits::Bits;
use retpath_engine::source::PageSource;
use retpath_image::{Error, Image, Writer};
use tempfile::TempDir;

use super::common::{PAGE, bits, block, folder, names, seen};

/// Creates the folder of a killed process: pages 0 to 9 of 100 are written, and pages 0
/// to 7 are recorded as received.
pub(super) fn killed() -> (TempDir, PathBuf) {
    let folder = folder();
    let mut writer = Writer::new(&folder.path().join("image")).expect("image does not exist yet");
    writer
        .block(&block(b"ram", 100), PAGE)
        .expect("valid block");
    writer.block(&block(b"rom", 1), PAGE).expect("valid block");
    writer.device_state(b"\x04state").expect("file is writable");
    writer.make_returnable(seen()).expect("file is writable");
    writer.make_resumable(seen()).expect("file is writable");
    for page in 0..10 {
        writer
            .write(0, page * PAGE, &[7; 4096])
            .expect("range lies in the block");
        if page == 7 {
            writer
                .checkpoint(&[bits(100, 0..8), bits(1, 0..0)])
                .expect("file is writable");
        }
    }
    drop(writer);
    let [name] = &names(folder.path())[..] else {
        panic!("expected one folder")
    };
    let left = folder.path().join(name);
    (folder, left)
}

#[test]
fn resumes_where_a_killed_writer_stopped() {
    let (folder, left) = killed();
    assert!(Image::open(&left).is_err());
    let (mut writer, unfinished) = Writer::resume(&left, None).expect("folder is resumable");
    assert!(unfinished.has_device_state);
    let facts = unfinished.facts;
    assert_eq!(facts.machine, seen().machine);
    assert_eq!(facts.source, seen().source);
    assert_eq!(writer.received(0).expect("bitmap is readable"), [0xff, 0]);
    assert_eq!(writer.received(1).expect("bitmap is readable"), [0; 0]);
    for page in 8..100 {
        match page {
            // Written before; zero now.
            9 => writer.zero(0, page * PAGE, PAGE),
            _ => writer.write(0, page * PAGE, &[8; 4096]),
        }
        .expect("range lies in the block");
    }
    writer
        .checkpoint(&[bits(100, 0..100), bits(1, 0..1)])
        .expect("file is writable");
    writer.finish(facts).expect("image is complete");

    assert_eq!(names(folder.path()), ["image"]);
    let image = folder.path().join("image");
    assert_eq!(
        names(&image),
        [
            "device-state.bin",
            "manifest.json",
            "ram-000-ram.raw",
            "ram-000-ram.sums",
            "ram-001-rom.raw"
        ]
    );
    let image = Image::open(&image).expect("image is complete");
    assert_eq!(image.manifest().machine, seen().machine);
    assert_eq!(image.device_state(), b"\x04state");
    for page in 0..100 {
        let want = match page {
            9 => 0,
            page if page < 8 => 7,
            _ => 8,
        };
        let mut got = [1; 4096];
        image
            .read(0, page * PAGE, &mut got)
            .expect("range lies in the block");
        assert_eq!(got, [want; 4096], "page {page}");
    }
}

#[test]
fn checkpoints_take_space_for_received_pages_only() {
    const PAGES: u64 = 1 << 28;
    let folder = folder();
    let mut writer = Writer::new(&folder.path().join("image")).expect("image does not exist yet");
    writer
        .block(&block(b"ram", PAGES), PAGE)
        .expect("valid block");
    writer.make_resumable(seen()).expect("file is writable");
    let left = writer.path().to_owned();
    let mut received = Bits::new(PAGES);
    for set in [&[PAGES - 1][..], &[PAGES - 1, 70], &[70], &[]] {
        received.assign([]);
        for page in set {
            received.set(*page);
        }
        writer.checkpoint([&received]).expect("file is writable");
        let file = left.join("received-000.bits");
        let stored = fs::metadata(&file).expect("file exists").blocks() * 512;
        assert!(stored <= 2 << 16, "{stored} bytes");
        let mut found = Bits::new(PAGES);
        found.assign(writer.received(0).expect("bitmap is readable"));
        assert!(found.runs().eq(received.runs()), "{set:?}");
    }
}

#[test]
fn a_resumed_folder_survives_drop_but_not_discard() {
    let (folder, left) = killed();
    drop(Writer::resume(&left, None).expect("folder is resumable"));
    assert!(left.exists());
    Writer::resume(&left, None)
        .expect("folder is resumable")
        .0
        .discard();
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn resumes_under_a_new_name() {
    let (folder, left) = killed();
    let other = folder.path().join("other");
    let (writer, unfinished) = Writer::resume(&left, Some(&other)).expect("folder is resumable");
    writer.finish(unfinished.facts).expect("image is complete");
    assert_eq!(names(folder.path()), ["other"]);
}

#[test]
fn refuses_folders_that_cannot_be_resumed() {
    let refusal = |left: &PathBuf| Writer::resume(left, None).expect_err("refused");
    let (folder, left) = killed();
    let _busy = Writer::resume(&left, None).expect("folder is resumable");
    assert!(matches!(refusal(&left), Error::InUse { .. }));
    drop(_busy);
    fs::create_dir(folder.path().join("image")).expect("folder is writable");
    assert!(matches!(refusal(&left), Error::Exists { .. }));
    fs::remove_dir(folder.path().join("image")).expect("folder is writable");

    let unfinished = left.join("unfinished.json");
    let text = fs::read_to_string(&unfinished).expect("file exists");
    for (from, to) in [
        ("retpath-unfinished", "retpath-image"),
        ("\"length\": 4096", "\"length\": 4097"),
        ("ram-001-rom.raw", "../../etc"),
        ("\"has_device_state\": true", "\"has_device_state\": 1"),
        ("{", ""),
    ] {
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text);
        fs::write(&unfinished, wrong).expect("folder is writable");
        let error = refusal(&left);
        assert!(matches!(error, Error::Manifest { .. }), "{from}: {error}");
    }
    fs::write(&unfinished, &text).expect("folder is writable");
    let state = left.join("device-state.bin");
    fs::write(&state, "4").expect("folder is writable");
    let path = state.display();
    assert_eq!(
        refusal(&left).to_string(),
        format!("{path}: the file is shorter than 6 bytes")
    );
    fs::remove_file(&unfinished).expect("folder is writable");
    assert!(matches!(refusal(&left), Error::NotUnfinished { .. }));

    let plain = folder.path().join("plain");
    fs::create_dir(&plain).expect("folder is writable");
    assert!(matches!(refusal(&plain), Error::Name { .. }));
}

#[test]
fn reports_a_missing_device_state() {
    let folder = folder();
    let mut writer = Writer::new(&folder.path().join("image")).expect("image does not exist yet");
    writer
        .block(&block(b"ram", 100), PAGE)
        .expect("valid block");
    writer.device_state(b"\x04sta").expect("file is writable");
    writer.make_returnable(seen()).expect("file is writable");
    let left = writer.path().to_owned();
    drop(writer);
    let (writer, unfinished) = Writer::resume(&left, None).expect("folder is kept");
    assert!(!unfinished.has_device_state);
    assert_eq!(unfinished.facts.source, seen().source);
    writer.discard();
    assert_eq!(names(folder.path()), [""; 0]);
}

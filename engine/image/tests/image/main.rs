//! Images: reads return what was written, and invalid folders are refused.

mod changes;
#[path = "../common/mod.rs"]
mod common;

mod refusals;
mod resumed;
mod strange_files;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{PAGE, block, facts, folder, names};
use retpath_codec::{BlockName, NameBuf};
use retpath_engine::source::PageSource;
use retpath_image::{Error, Image, Leftover, LeftoverState, Writer, leftovers};
use serde_json::Value;

/// Creates an image of two blocks; every third page of the first is not zero.
fn make(folder: &Path) -> PathBuf {
    let out = folder.join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    writer
        .block(&block(b"pc.ram", 64), PAGE)
        .expect("valid block");
    writer
        .block(&block(b"/rom@\xff", 1), PAGE)
        .expect("valid block");
    for page in (0..64).step_by(3) {
        let bytes = vec![page as u8 + 1; 4096];
        writer
            .write(0, page * PAGE, &bytes)
            .expect("range lies in the block");
    }
    writer.device_state(b"\x04state").expect("file is writable");
    writer.description(b"{}").expect("file is writable");
    writer.finish(facts()).expect("image is complete");
    out
}

/// Edits the manifest and removes the digests, which would no longer match.
fn edit(image: &Path, change: impl FnOnce(&mut Value)) {
    edit_sealed(image, |manifest| {
        let members = manifest.as_object_mut().expect("value is an object");
        members.remove("id");
        members.remove("digests");
        change(manifest);
    });
}

fn edit_sealed(image: &Path, change: impl FnOnce(&mut Value)) {
    let path = image.join("manifest.json");
    let mut value =
        serde_json::from_slice(&fs::read(&path).expect("file exists")).expect("valid JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("folder is writable");
}

/// Returns the error of opening an image, with IMAGE for its path and ID for each ID.
fn refusal(image: &Path) -> String {
    match Image::open(image) {
        Ok(_) => panic!("image opened"),
        Err(error) => {
            let message = error.to_string().replace(text(image), "IMAGE");
            let is_id = |word: &str| word.len() == 32 && u128::from_str_radix(word, 16).is_ok();
            let words = message.split_inclusive([' ', ':', ',']).map(|word| {
                let (word, end) = word.split_at(word.trim_end_matches([' ', ':', ',']).len());
                [if is_id(word) { "ID" } else { word }, end].concat()
            });
            words.collect()
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("path is UTF-8")
}

#[test]
fn reads_what_was_written() {
    let folder = folder();
    let image = Image::open(&make(folder.path())).expect("image is complete");
    assert_eq!(image.blocks().len(), 2);
    for page in 0..64 {
        let want = if page % 3 == 0 { page as u8 + 1 } else { 0 };
        let mut got = [0xee; 4096];
        image
            .read(0, page * PAGE, &mut got)
            .expect("range lies in the block");
        assert!(got.iter().all(|byte| *byte == want), "page {page}");
    }
    let mut got = [0xee; 4096];
    image.read(1, 0, &mut got).expect("range lies in the block");
    assert_eq!(got, [0; 4096]);
    assert!(image.read(0, 64 * PAGE, &mut [0]).is_err());
    assert!(image.read(2, 0, &mut [0]).is_err());
    assert_eq!(image.device_state(), b"\x04state");
    assert_eq!(image.early_state(), b"");
    assert_eq!(image.description(), Some(&b"{}"[..]));
}

#[test]
fn keeps_names_that_are_not_utf8() {
    let folder = folder();
    let out = make(folder.path());
    let manifest = fs::read_to_string(out.join("manifest.json")).expect("file exists");
    assert!(manifest.contains("\"hex\": \"2f726f6d40ff\""), "{manifest}");
    let image = Image::open(&out).expect("image is complete");
    let name = NameBuf::new(b"/rom@\xff").expect("valid name");
    let id = image.blocks().find(name.name());
    assert_eq!(id, Some(1));
}

#[test]
fn stores_zeros_as_holes() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    writer
        .block(&block(b"ram", 1024), PAGE)
        .expect("valid block");
    // Write and zero again, while the run is gathered and afterwards.
    writer
        .write(0, 0, &[1; 4096])
        .expect("range lies in the block");
    writer
        .write(0, PAGE, &[2; 4096])
        .expect("range lies in the block");
    writer.zero(0, 0, PAGE).expect("range lies in the block");
    writer
        .write(0, 512 * PAGE, &vec![0; 1 << 20])
        .expect("range lies in the block");
    writer
        .write(0, 600 * PAGE, &[3; 4096])
        .expect("range lies in the block");
    writer
        .write(0, 602 * PAGE, &[4; 4096])
        .expect("range lies in the block");
    writer
        .write(0, 600 * PAGE, &[0; 4096])
        .expect("range lies in the block");
    writer.finish(facts()).expect("image is complete");

    let image = Image::open(&out).expect("image is complete");
    let is_hole = |page, count| {
        let hole = image.is_hole(0, page * PAGE, count * PAGE);
        hole.expect("file is unchanged")
    };
    for page in 0..1024 {
        let want = match page {
            1 => 2,
            602 => 4,
            _ => 0,
        };
        let mut got = [0xee; 4096];
        image
            .read(0, page * PAGE, &mut got)
            .expect("range lies in the block");
        assert!(got.iter().all(|byte| *byte == want), "page {page}");
        if is_hole(page, 1) {
            assert_eq!(want, 0, "page {page}");
        }
    }
    assert!(is_hole(4, 500));
    assert!(!is_hole(2, 2), "overlaps data");
    assert!(!is_hole(0, 3));
    assert!(!is_hole(1023, 2), "exceeds the block");
    assert!(image.is_hole(1, 0, PAGE).is_err(), "block does not exist");
    let about = fs::metadata(out.join("ram-000-ram.raw")).expect("file exists");
    assert_eq!(about.len(), 1024 * PAGE);
    assert!(
        about.blocks() * 512 <= 64 * 1024,
        "{} blocks",
        about.blocks()
    );
    assert!(image.stored(0) <= 64 * 1024);
}

#[test]
fn removes_an_unfinished_folder_on_drop() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    writer.block(&block(b"ram", 4), PAGE).expect("valid block");
    let [name] = &names(folder.path())[..] else {
        panic!("expected one folder")
    };
    assert!(name.starts_with("image.incomplete-"), "{name}");
    assert!(Image::open(&folder.path().join(name)).is_err());
    drop(writer);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn keeps_an_unfinished_folder_when_asked_to() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    writer.block(&block(b"ram", 4), PAGE).expect("valid block");
    let path = writer.path().to_owned();
    writer.keep();
    assert!(path.join("ram-000-ram.raw").exists());
    assert!(!out.exists());
}

#[test]
fn finds_leftovers_of_killed_writers_but_not_of_active_ones() {
    let folder = folder();
    let out = folder.path().join("image");
    let writer = Writer::new(&out).expect("image does not exist yet");
    assert_eq!(leftovers(&out), []);
    fs::create_dir(folder.path().join("other.incomplete-1")).expect("folder is writable");
    let mut want = Vec::new();
    for (number, file, state) in [
        (1, "device-state.bin", LeftoverState::Worthless),
        (2, "unfinished.json", LeftoverState::Postcopy),
        (3, "manifest.json", LeftoverState::Whole),
    ] {
        let path = folder.path().join(format!("image.incomplete-{number}"));
        fs::create_dir(&path).expect("folder is writable");
        fs::write(path.join(file), "").expect("folder is writable");
        want.push(Leftover { path, state });
    }
    assert_eq!(leftovers(&out), want);
    drop(writer);
    assert_eq!(leftovers(&out), want);
}

#[test]
fn never_overwrites_an_existing_path() {
    let folder = folder();
    let out = make(folder.path());
    assert!(matches!(Writer::new(&out), Err(Error::Exists { .. })));
    let other = folder.path().join("other");
    // Another process creates the path first: even an empty folder is kept.
    let mut writer = Writer::new(&other).expect("image does not exist yet");
    writer.block(&block(b"ram", 1), PAGE).expect("valid block");
    fs::create_dir(&other).expect("folder is writable");
    writer.seal(facts()).expect("file is writable");
    let finished = writer.name();
    assert!(matches!(finished.trouble, Some(Error::Exists { .. })));
    assert!(!finished.has_name);
    assert_eq!(names(&other), [""; 0]);
    // The image is complete, so it stays under the next free name.
    assert_eq!(names(folder.path()), ["image", "other", "other-2"]);
    assert_eq!(finished.path, folder.path().join("other-2"));
    Image::open(&finished.path).expect("image is complete");
    // A dangling symbolic link counts as existing.
    let link = folder.path().join("link");
    symlink("nowhere", &link).expect("folder is writable");
    assert!(matches!(Writer::new(&link), Err(Error::Exists { .. })));
}

#[test]
fn refuses_invalid_image_names() {
    for path in ["/", "..", ""] {
        assert!(
            matches!(Writer::new(Path::new(path)), Err(Error::Name { .. })),
            "{path:?}"
        );
    }
    let folder = folder();
    let out = folder.path().join("missing/image");
    let error = Writer::new(&out)
        .expect_err("parent folder is missing")
        .to_string();
    assert!(error.contains("missing/image.incomplete-"), "{error}");
}

#[test]
fn refuses_ranges_outside_of_the_blocks() {
    let folder = folder();
    let mut writer = Writer::new(&folder.path().join("image")).expect("image does not exist yet");
    assert!(matches!(writer.write(0, 0, &[1]), Err(Error::Range)));
    writer.block(&block(b"ram", 4), PAGE).expect("valid block");
    for (block, offset, len) in [
        (1, 0, 1),
        (0, 4 * PAGE, 1),
        (0, u64::MAX, 2),
        (0, 0, 5 * PAGE),
    ] {
        assert!(matches!(writer.zero(block, offset, len), Err(Error::Range)));
    }
    assert!(matches!(
        writer.write(0, 4 * PAGE - 1, &[1, 1]),
        Err(Error::Range)
    ));
    assert!(writer.block(&block(b"ram", 4), PAGE).is_err());
}

#[test]
fn opens_concurrently_but_not_while_being_written() {
    let folder = folder();
    let out = make(folder.path());
    let one = Image::open(&out).expect("image is complete");
    let two = Image::open(&out).expect("image is complete");
    drop((one, two));
    let file = File::open(out.join("ram-000-pc.ram.raw")).expect("file exists");
    file.lock().expect("lock is free");
    assert_eq!(
        refusal(&out),
        "IMAGE/ram-000-pc.ram.raw: the file is locked by a process that writes it; try again when \
         that is done"
    );
}

#[test]
fn keeps_every_fact_of_the_manifest() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    writer.block(&block(b"ram", 4), PAGE).expect("valid block");
    writer.early_state(b"early").expect("file is writable");
    let mut facts = facts();
    facts.machine = Some(b"pc\xff".to_vec());
    facts.uuid = Some([7; 16]);
    facts.source.ram_section = 3;
    facts.source.asks_loaded = true;
    let written = writer.finish(facts).expect("image is complete");
    let image = Image::open(&out).expect("image is complete");
    assert_eq!(*image.manifest(), written);
    assert_eq!(image.manifest().machine.as_deref(), Some(&b"pc\xff"[..]));
    assert_eq!(image.early_state(), b"early");
    assert_eq!(image.description(), None);
}

#[test]
fn stores_ram_as_plain_files() {
    let folder = folder();
    let out = make(folder.path());
    let file = File::open(out.join("ram-000-pc.ram.raw")).expect("file exists");
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 3 * PAGE)
        .expect("range lies in the block");
    assert_eq!(page, [4; 4096]);
}

#[test]
fn is_accessible_only_to_its_owner() {
    let folder = folder();
    let about = fs::metadata(make(folder.path())).expect("file exists");
    assert_eq!(about.permissions().mode() & 0o777, 0o700);
}

#[test]
fn refuses_more_device_state_than_the_limit() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    writer.limit_state(100);
    for append in [Writer::device_state, Writer::early_state] {
        append(&mut writer, &[1; 60]).expect("within the limit");
        let more = append(&mut writer, &[1; 41]);
        assert!(matches!(more, Err(Error::StateLimit { limit: 100, .. })));
        append(&mut writer, &[1; 40]).expect("within the limit");
    }
    writer.limit_state(u64::MAX);
    writer.device_state(&[1; 1]).expect("within the limit");
    writer.discard();
    assert!(names(folder.path()).is_empty());
}

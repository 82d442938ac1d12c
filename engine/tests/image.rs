//! Images: what is written is what is read, and nothing else is taken for one.

#![cfg(feature = "image")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use retpath_codec::{BlockName, NameBuf};
use retpath_engine::blocks::Block;
use retpath_engine::image::{Error, Image, Manifest, Recorder, Writer, leftovers};
use retpath_engine::source::PageSource;
use serde_json::{Value, json};
use tempfile::TempDir;

const PAGE: u64 = 4096;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn block(name: &[u8], pages: u64) -> Block {
    Block {
        name: NameBuf::new(name).expect("a good name"),
        len: pages * PAGE,
        page: PAGE,
    }
}

fn facts() -> Manifest {
    Recorder::new().facts()
}

/// An image of two blocks; every third page of the first is not zero.
fn make(folder: &Path) -> PathBuf {
    let out = folder.join("image");
    let mut writer = Writer::new(&out).expect("a new image");
    writer.block(&block(b"pc.ram", 64), PAGE).expect("a block");
    writer
        .block(&block(b"/rom@\xff", 1), PAGE)
        .expect("a block");
    for page in (0..64).step_by(3) {
        let bytes = vec![page as u8 + 1; 4096];
        writer.write(0, page * PAGE, &bytes).expect("inside");
    }
    writer.device_state(b"\x04state").expect("room");
    writer.description(b"{}").expect("room");
    writer.finish(facts()).expect("finished");
    out
}

fn edit(image: &Path, change: impl FnOnce(&mut Value)) {
    let path = image.join("manifest.json");
    let mut value = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("ours");
}

/// The message with which an image is refused.
fn refusal(image: &Path) -> String {
    match Image::open(image) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn reads_what_was_written() {
    let folder = folder();
    let image = Image::open(&make(folder.path())).expect("whole");
    assert_eq!(image.blocks().len(), 2);
    for page in 0..64 {
        let want = if page % 3 == 0 { page as u8 + 1 } else { 0 };
        let mut got = [0xee; 4096];
        image.read(0, page * PAGE, &mut got).expect("inside");
        assert!(got.iter().all(|byte| *byte == want), "page {page}");
        assert_eq!(image.lend(0, page * PAGE, 4096), Some(&got[..]));
    }
    assert_eq!(image.lend(1, 0, 4096), Some(&[0; 4096][..]));
    assert!(image.lend(0, 64 * PAGE, 1).is_none());
    assert!(image.lend(2, 0, 1).is_none());
    assert_eq!(image.device_state(), b"\x04state");
    assert_eq!(image.early_state(), b"");
    assert_eq!(image.description(), Some(&b"{}"[..]));
}

#[test]
fn keeps_names_that_are_not_utf8() {
    let folder = folder();
    let out = make(folder.path());
    let manifest = fs::read_to_string(out.join("manifest.json")).expect("there");
    assert!(manifest.contains("\"hex\": \"2f726f6d40ff\""), "{manifest}");
    let image = Image::open(&out).expect("whole");
    let name = NameBuf::new(b"/rom@\xff").expect("good");
    let id = image.blocks().find(name.name());
    assert_eq!(id, Some(1));
}

#[test]
fn stores_zeros_as_holes() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("a new image");
    writer.block(&block(b"ram", 1024), PAGE).expect("a block");
    // Written and taken back, in the row that is being gathered and after it.
    writer.write(0, 0, &[1; 4096]).expect("inside");
    writer.write(0, PAGE, &[2; 4096]).expect("inside");
    writer.zero(0, 0, PAGE).expect("inside");
    writer
        .write(0, 512 * PAGE, &vec![0; 1 << 20])
        .expect("inside");
    writer.write(0, 600 * PAGE, &[3; 4096]).expect("inside");
    writer.write(0, 602 * PAGE, &[4; 4096]).expect("inside");
    writer.write(0, 600 * PAGE, &[0; 4096]).expect("inside");
    writer.finish(facts()).expect("finished");

    let image = Image::open(&out).expect("whole");
    for page in 0..1024 {
        let want = match page {
            1 => 2,
            602 => 4,
            _ => 0,
        };
        let got = image.lend(0, page * PAGE, 4096).expect("inside");
        assert!(got.iter().all(|byte| *byte == want), "page {page}");
        if image.is_hole(0, page * PAGE, PAGE) {
            assert_eq!(want, 0, "page {page}");
        }
    }
    assert!(image.is_hole(0, 2 * PAGE, 500 * PAGE));
    assert!(!image.is_hole(0, 0, 3 * PAGE));
    assert!(!image.is_hole(0, 1023 * PAGE, 2 * PAGE), "passes the end");
    assert!(!image.is_hole(1, 0, PAGE), "no such block");
    let about = fs::metadata(out.join("ram-000-ram.raw")).expect("there");
    assert_eq!(about.len(), 1024 * PAGE);
    assert!(
        about.blocks() * 512 <= 64 * 1024,
        "{} blocks",
        about.blocks()
    );
    assert!(image.stored(0) <= 64 * 1024);
}

#[test]
fn leaves_nothing_unless_it_is_finished() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("a new image");
    writer.block(&block(b"ram", 4), PAGE).expect("a block");
    let [name] = &names(folder.path())[..] else {
        panic!("one folder")
    };
    assert!(name.starts_with("image.incomplete-"), "{name}");
    assert!(Image::open(&folder.path().join(name)).is_err());
    drop(writer);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn finds_what_a_killed_run_left_but_not_what_is_being_written() {
    let folder = folder();
    let out = folder.path().join("image");
    let writer = Writer::new(&out).expect("a new image");
    assert_eq!(leftovers(&out), [""; 0].map(PathBuf::from));
    let left = folder.path().join("image.incomplete-1");
    fs::create_dir(&left).expect("ours");
    fs::create_dir(folder.path().join("other.incomplete-1")).expect("ours");
    assert_eq!(leftovers(&out), [left.clone()]);
    drop(writer);
    assert_eq!(leftovers(&out), [left]);
}

#[test]
fn overwrites_nothing() {
    let folder = folder();
    let out = make(folder.path());
    assert!(matches!(Writer::new(&out), Err(Error::Exists { .. })));
    let other = folder.path().join("other");
    // Somebody is faster: even an empty folder stays as it is.
    let writer = Writer::new(&other).expect("a new image");
    fs::create_dir(&other).expect("ours");
    assert!(matches!(writer.finish(facts()), Err(Error::Exists { .. })));
    assert_eq!(names(&other), [""; 0]);
    assert_eq!(names(folder.path()), ["image", "other"]);
    // A link that leads nowhere is something, too.
    let link = folder.path().join("link");
    symlink("nowhere", &link).expect("ours");
    assert!(matches!(Writer::new(&link), Err(Error::Exists { .. })));
}

#[test]
fn refuses_names_that_no_image_can_have() {
    for path in ["/", "..", ""] {
        assert!(
            matches!(Writer::new(Path::new(path)), Err(Error::Name { .. })),
            "{path:?}"
        );
    }
    let folder = folder();
    let out = folder.path().join("missing/image");
    let error = Writer::new(&out).expect_err("no such folder").to_string();
    assert!(error.contains("missing/image.incomplete-"), "{error}");
}

#[test]
fn refuses_ranges_outside_of_the_blocks() {
    let folder = folder();
    let mut writer = Writer::new(&folder.path().join("image")).expect("a new image");
    assert!(matches!(writer.write(0, 0, &[1]), Err(Error::Range)));
    writer.block(&block(b"ram", 4), PAGE).expect("a block");
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
fn may_be_opened_many_times_but_not_while_it_is_written() {
    let folder = folder();
    let out = make(folder.path());
    let one = Image::open(&out).expect("whole");
    let two = Image::open(&out).expect("whole");
    drop((one, two));
    let file = File::open(out.join("ram-000-pc.ram.raw")).expect("there");
    file.lock().expect("a lock");
    assert!(refusal(&out).contains("locked by a process that writes it"));
}

#[test]
fn refuses_what_is_no_image() {
    let folder = folder();
    let path = folder.path();
    assert!(refusal(&path.join("missing")).contains("No such file"));
    assert!(refusal(path).contains("is no image: it has no manifest.json"));
    fs::write(path.join("file"), "").expect("ours");
    assert!(refusal(&path.join("file")).contains("is no image"));
    for (text, want) in [
        ("", "no JSON"),
        ("{\"format\": \"retpath-image\"", "no JSON"),
        ("[]", "the manifest is no object"),
        ("{}", "\"format\" is not \"retpath-image\""),
        ("{\"format\": \"retpath-image\"}", "\"version\" must be"),
    ] {
        fs::write(path.join("manifest.json"), text).expect("ours");
        let message = refusal(path);
        assert!(message.contains(want), "{text}: {message}");
    }
}

/// A change of the manifest, and what the refusal says.
type Edit = (&'static str, fn(&mut Value));

const EDITS: &[Edit] = &[
    ("version 2 of the format", |m| m["version"] = 2.into()),
    ("\"blocks\" must be a list", |m| m["blocks"] = Value::Null),
    ("\"blocks\" is empty", |m| m["blocks"] = json!([])),
    ("RAM block 0 is no object", |m| m["blocks"] = json!([1])),
    ("two blocks have the same name", |m| {
        m["blocks"][1]["name"] = m["blocks"][0]["name"].clone();
    }),
    ("two RAM blocks have the file", |m| {
        m["blocks"][1]["file"] = m["blocks"][0]["file"].clone();
    }),
    ("RAM block 1: \"name\" must be", |m| {
        m["blocks"][1]["name"] = json!({ "hex": "2f7" });
    }),
    ("RAM block 1: \"name\"", |m| {
        m["blocks"][1]["name"] = "".into()
    }),
    ("must be the name of a file in this folder", |m| {
        m["blocks"][0]["file"] = "../secret".into();
    }),
    ("must be the name of a file in this folder", |m| {
        m["blocks"][0]["file"] = "/etc/passwd".into();
    }),
    ("must be the name of a file in this folder", |m| {
        m["blocks"][0]["file"] = "..".into();
    }),
    ("must be the name of a file in this folder", |m| {
        m["blocks"][0]["file"] = "a\0b".into();
    }),
    ("must be the name of a file in this folder", |m| {
        m["blocks"][0]["file"] = "device-state.bin".into();
    }),
    ("target page size 1000", |m| {
        m["target_page_size"] = 1000.into()
    }),
    ("host page size 2048", |m| {
        m["blocks"][0]["page_size"] = 2048.into()
    }),
    ("host page size 12288", |m| {
        m["blocks"][0]["page_size"] = 12288.into()
    }),
    ("block length 262144", |m| {
        m["blocks"][0]["page_size"] = (1 << 20).into()
    }),
    ("block length 100", |m| {
        m["blocks"][0]["length"] = 100.into()
    }),
    ("must be a whole number", |m| {
        m["blocks"][0]["length"] = (-4096).into()
    }),
    ("is the limit", |m| {
        m["blocks"][0]["length"] = (1_u64 << 60).into()
    }),
    ("cut short", |m| {
        m["blocks"][0]["length"] = (65 * PAGE).into()
    }),
    ("it has been changed", |m| {
        m["blocks"][0]["length"] = (63 * PAGE).into()
    }),
    ("the manifest says 7", |m| m["device_state"] = 7.into()),
    ("early-state.bin: the file is missing", |m| {
        m["early_state"] = 7.into()
    }),
    ("the manifest says 3", |m| m["description"] = 3.into()),
    ("\"source\" is no object", |m| m["source"] = 7.into()),
    ("\"footers\" must be true or false", |m| {
        m["source"]["footers"] = 1.into()
    }),
    ("32 hexadecimal digits", |m| m["uuid"] = "00".into()),
];

#[test]
fn refuses_every_edit_of_the_manifest() {
    for (want, change) in EDITS {
        let folder = folder();
        let out = make(folder.path());
        edit(&out, change);
        let message = refusal(&out);
        assert!(message.contains(want), "{want}: {message}");
    }
}

#[test]
fn ignores_members_that_are_not_known() {
    let folder = folder();
    let out = make(folder.path());
    edit(&out, |m| m["later"] = json!({ "a": 1 }));
    Image::open(&out).expect("whole");
}

#[test]
fn refuses_files_that_are_not_what_they_were() {
    type Harm = (&'static str, fn(&Path));
    let harms: &[Harm] = &[
        ("ram-000-pc.ram.raw: the file is missing", |image| {
            fs::remove_file(image.join("ram-000-pc.ram.raw")).expect("there");
        }),
        ("cut short", |image| {
            let ram = OpenOptions::new()
                .write(true)
                .open(image.join("ram-000-pc.ram.raw"));
            ram.and_then(|ram| ram.set_len(63 * PAGE)).expect("there");
        }),
        ("it has been changed", |image| {
            let ram = OpenOptions::new()
                .append(true)
                .open(image.join("ram-000-pc.ram.raw"));
            ram.and_then(|mut ram| ram.write_all(b"x")).expect("there");
        }),
        ("a symbolic link", |image| {
            let path = image.join("ram-000-pc.ram.raw");
            fs::rename(&path, image.join("elsewhere")).expect("there");
            symlink("elsewhere", &path).expect("ours");
        }),
        ("no ordinary file", |image| {
            let path = image.join("ram-000-pc.ram.raw");
            fs::remove_file(&path).expect("there");
            fs::create_dir(&path).expect("ours");
        }),
        ("device-state.bin: the file is missing", |image| {
            fs::remove_file(image.join("device-state.bin")).expect("there");
        }),
        ("the manifest says 6", |image| {
            fs::write(image.join("device-state.bin"), "").expect("ours");
        }),
    ];
    for (want, harm) in harms {
        let folder = folder();
        let out = make(folder.path());
        harm(&out);
        let message = refusal(&out);
        assert!(message.contains(want), "{want}: {message}");
    }
}

#[test]
fn keeps_every_fact_of_the_manifest() {
    let folder = folder();
    let out = folder.path().join("image");
    let mut writer = Writer::new(&out).expect("a new image");
    writer.block(&block(b"ram", 4), PAGE).expect("a block");
    writer.early_state(b"early").expect("room");
    let mut facts = facts();
    facts.machine = Some(b"pc\xff".to_vec());
    facts.uuid = Some([7; 16]);
    facts.source.ram_section = 3;
    facts.source.asks_loaded = true;
    let written = writer.finish(facts).expect("finished");
    let image = Image::open(&out).expect("whole");
    assert_eq!(*image.manifest(), written);
    assert_eq!(image.manifest().machine.as_deref(), Some(&b"pc\xff"[..]));
    assert_eq!(image.early_state(), b"early");
    assert_eq!(image.description(), None);
}

#[test]
fn can_be_used_by_other_tools() {
    let folder = folder();
    let out = make(folder.path());
    let file = File::open(out.join("ram-000-pc.ram.raw")).expect("there");
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 3 * PAGE).expect("inside");
    assert_eq!(page, [4; 4096]);
}

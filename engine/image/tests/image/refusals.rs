//! Folders that are no image, or not the one that was made.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use retpath_image::Image;
use serde_json::{Value, json};

use super::{PAGE, edit, folder, make, refusal};

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
    ("\"end\" must be \"unproven\"", |m| m["end"] = "cut".into()),
    ("\"end\" must be", |m| m["end"] = 1.into()),
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
        m["blocks"][0]["file"] = "a\u{1b}[2J".into();
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

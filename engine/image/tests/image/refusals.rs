//! Folders that are not images, and images that were modified.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use retpath_image::{Image, MAX_DEVICE_STATE};
use serde_json::{Value, json};

use super::{PAGE, edit, folder, make, refusal};

#[test]
fn refuses_folders_that_are_not_images() {
    let folder = folder();
    let path = folder.path();
    assert_eq!(
        refusal(&path.join("missing")),
        "opening IMAGE: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal(path),
        "IMAGE is not an image: it has no manifest.json"
    );
    fs::write(path.join("file"), "").expect("folder is writable");
    assert_eq!(
        refusal(&path.join("file")),
        "IMAGE is not an image: it has no manifest.json"
    );
    for (text, want) in [
        (
            "",
            "manifest.json: not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{\"format\": \"retpath-image\"",
            "manifest.json: not JSON: EOF while parsing an object at line 1 column 26",
        ),
        ("[]", "manifest.json: the manifest is not an object"),
        ("{}", "manifest.json: \"format\" is not \"retpath-image\""),
        (
            "{\"format\": \"retpath-image\"}",
            "manifest.json: the manifest: \"version\" must be a whole number",
        ),
    ] {
        fs::write(path.join("manifest.json"), text).expect("folder is writable");
        let message = refusal(path);
        assert_eq!(message, format!("IMAGE/{want}"));
    }
}

/// An edit of the manifest, and the expected error.
type Edit = (&'static str, fn(&mut Value));

const EDITS: &[Edit] = &[
    (
        "manifest.json: version 2 of the format, but only version 1 can be read",
        |m| m["version"] = 2.into(),
    ),
    (
        "manifest.json: the manifest: \"end\" must be \"unproven\" if present",
        |m| m["end"] = "cut".into(),
    ),
    (
        "manifest.json: the manifest: \"end\" must be \"unproven\" if present",
        |m| m["end"] = 1.into(),
    ),
    (
        "manifest.json: the manifest: \"blocks\" must be a list",
        |m| m["blocks"] = Value::Null,
    ),
    (
        "manifest.json: \"blocks\" is empty: a machine has RAM",
        |m| m["blocks"] = json!([]),
    ),
    ("manifest.json: RAM block 0 is not an object", |m| {
        m["blocks"] = json!([1])
    }),
    (
        "manifest.json: RAM block pc.ram: two blocks have the same name",
        |m| {
            m["blocks"][1]["name"] = m["blocks"][0]["name"].clone();
        },
    ),
    (
        "manifest.json: two RAM blocks have the file \"ram-000-pc.ram.raw\"",
        |m| {
            m["blocks"][1]["file"] = m["blocks"][0]["file"].clone();
        },
    ),
    (
        "manifest.json: RAM block 1: \"name\" must be a string or {\"hex\": ...}",
        |m| {
            m["blocks"][1]["name"] = json!({ "hex": "2f7" });
        },
    ),
    (
        "manifest.json: RAM block 1: \"name\": block name is empty",
        |m| m["blocks"][1]["name"] = "".into(),
    ),
    (
        "manifest.json: RAM block 0: \"file\" must be the name of a file in this folder, not \"../secret\"",
        |m| {
            m["blocks"][0]["file"] = "../secret".into();
        },
    ),
    (
        "manifest.json: RAM block 0: \"file\" must be the name of a file in this folder, not \"/etc/passwd\"",
        |m| {
            m["blocks"][0]["file"] = "/etc/passwd".into();
        },
    ),
    (
        "manifest.json: RAM block 0: \"file\" must be the name of a file in this folder, not \"..\"",
        |m| {
            m["blocks"][0]["file"] = "..".into();
        },
    ),
    (
        "manifest.json: RAM block 0: \"file\" must be the name of a file in this folder, not \"a\\0b\"",
        |m| {
            m["blocks"][0]["file"] = "a\0b".into();
        },
    ),
    (
        "manifest.json: RAM block 0: \"file\" must be the name of a file in this folder, not \"a\\u{1b}[2J\"",
        |m| {
            m["blocks"][0]["file"] = "a\u{1b}[2J".into();
        },
    ),
    (
        "manifest.json: RAM block 0: \"file\" must be the name of a file in this folder, not \"device-state.bin\"",
        |m| {
            m["blocks"][0]["file"] = "device-state.bin".into();
        },
    ),
    (
        "manifest.json: target page size 1000: must be a power of two of at least 1024",
        |m| m["target_page_size"] = 1000.into(),
    ),
    (
        "manifest.json: RAM block pc.ram: host page size 2048: must be a power of two and at least the target page size",
        |m| m["blocks"][0]["page_size"] = 2048.into(),
    ),
    (
        "manifest.json: RAM block pc.ram: host page size 12288: must be a power of two and at least the target page size",
        |m| m["blocks"][0]["page_size"] = 12288.into(),
    ),
    (
        "manifest.json: RAM block pc.ram: block length 262144: must be a positive multiple of its page size 1048576",
        |m| m["blocks"][0]["page_size"] = (1 << 20).into(),
    ),
    (
        "manifest.json: RAM block pc.ram: block length 100: must be a positive multiple of its page size 4096",
        |m| m["blocks"][0]["length"] = 100.into(),
    ),
    (
        "manifest.json: RAM block 0: \"length\" must be a whole number",
        |m| m["blocks"][0]["length"] = (-4096).into(),
    ),
    (
        "manifest.json: 1152921504606851072 bytes of RAM exceed the limit of 4503599627370496",
        |m| m["blocks"][0]["length"] = (1_u64 << 60).into(),
    ),
    (
        "ram-000-pc.ram.raw: the file has 262144 bytes, but the manifest says 266240: it is cut short",
        |m| m["blocks"][0]["length"] = (65 * PAGE).into(),
    ),
    (
        "ram-000-pc.ram.raw: the file has 262144 bytes, but the manifest says 258048: it has been changed",
        |m| m["blocks"][0]["length"] = (63 * PAGE).into(),
    ),
    (
        "device-state.bin: the file has 6 bytes, but the manifest says 7: it has been changed",
        |m| m["device_state"] = 7.into(),
    ),
    (
        "early-state.bin: the file is missing, but the manifest names it",
        |m| m["early_state"] = 7.into(),
    ),
    (
        "description.json: the file has 2 bytes, but the manifest says 3: it has been changed",
        |m| m["description"] = 3.into(),
    ),
    ("manifest.json: \"source\" is not an object", |m| {
        m["source"] = 7.into()
    }),
    (
        "manifest.json: \"source\": \"footers\" must be true or false",
        |m| m["source"]["footers"] = 1.into(),
    ),
    (
        "manifest.json: the manifest: \"uuid\" must be 32 hexadecimal digits",
        |m| m["uuid"] = "00".into(),
    ),
];

#[test]
fn refuses_every_edit_of_the_manifest() {
    for (want, change) in EDITS {
        let folder = folder();
        let out = make(folder.path());
        edit(&out, change);
        let message = refusal(&out);
        assert_eq!(message, format!("IMAGE/{want}"));
    }
}

#[test]
fn ignores_unknown_manifest_members() {
    let folder = folder();
    let out = make(folder.path());
    edit(&out, |m| m["later"] = json!({ "a": 1 }));
    Image::open(&out).expect("image is complete");
}

#[test]
fn refuses_missing_or_modified_files() {
    type Harm = (&'static str, fn(&Path));
    let harms: &[Harm] = &[
        (
            "ram-000-pc.ram.raw: the file is missing, but the manifest names it",
            |image| {
                fs::remove_file(image.join("ram-000-pc.ram.raw")).expect("file exists");
            },
        ),
        (
            "ram-000-pc.ram.raw: the file has 258048 bytes, but the manifest says 262144: it is cut short",
            |image| {
                let ram = OpenOptions::new()
                    .write(true)
                    .open(image.join("ram-000-pc.ram.raw"));
                ram.and_then(|ram| ram.set_len(63 * PAGE))
                    .expect("file exists");
            },
        ),
        (
            "ram-000-pc.ram.raw: the file has 262145 bytes, but the manifest says 262144: it has been changed",
            |image| {
                let ram = OpenOptions::new()
                    .append(true)
                    .open(image.join("ram-000-pc.ram.raw"));
                ram.and_then(|mut ram| ram.write_all(b"x"))
                    .expect("file exists");
            },
        ),
        (
            "ram-000-pc.ram.raw: a symbolic link; an image holds its own files",
            |image| {
                let path = image.join("ram-000-pc.ram.raw");
                fs::rename(&path, image.join("elsewhere")).expect("file exists");
                symlink("elsewhere", &path).expect("folder is writable");
            },
        ),
        ("ram-000-pc.ram.raw: not a regular file", |image| {
            let path = image.join("ram-000-pc.ram.raw");
            fs::remove_file(&path).expect("file exists");
            fs::create_dir(&path).expect("folder is writable");
        }),
        (
            "device-state.bin: the file is missing, but the manifest names it",
            |image| {
                fs::remove_file(image.join("device-state.bin")).expect("file exists");
            },
        ),
        (
            "device-state.bin: the device state exceeds the limit of 4294967267 bytes",
            |image| edit(image, |m| m["device_state"] = (MAX_DEVICE_STATE + 1).into()),
        ),
        (
            "device-state.bin: the file has 0 bytes, but the manifest says 6: it has been changed",
            |image| {
                fs::write(image.join("device-state.bin"), "").expect("folder is writable");
            },
        ),
    ];
    for (want, harm) in harms {
        let folder = folder();
        let out = make(folder.path());
        harm(&out);
        let message = refusal(&out);
        assert_eq!(message, format!("IMAGE/{want}"));
    }
}

//! `retpath import` of what real QEMU saves, to a file and into a pipe.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{io, thread};

use retpath_engine::image::Image;
use serde_json::{Value, json};

use super::ground::{Small, compare, left, machine, text};
use super::support::SOON;
use super::support::program::Program;
use super::support::qemu::process::folder;
use super::support::qemu::stream::Ram;
use super::support::qemu::{Qemu, types};

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_what_cat_saved() {
    let old = types::without_footers();
    let kinds = ["pc".into(), "q35".into()].into_iter().chain(old.clone());
    for kind in kinds {
        let machine = machine().kind(&kind);
        let mut source = Qemu::boot(&machine);
        let saved = source.save();
        let stream = fs::read(&saved).expect("a stream");
        let folder = folder();
        let out = folder.path().join("image");
        let mut retpath = Program::retpath(&["import", text(&saved), "--out", text(&out)]);
        retpath.wait_success(SOON);
        let sent = Ram::saved(&stream, &[]);
        compare(&out, &sent);
        source.assert_ram(&sent);
        let image = Image::open(&out).expect("a whole image");
        let footers = Some(kind) != old;
        assert_eq!(image.manifest().source.footers, footers);
        let description = image.description().expect("a description");
        let description: Value = serde_json::from_slice(description).expect("JSON");
        assert!(description["devices"].is_array());
        // It ends where the devices do: with the footer of the last one.
        let state = image.device_state();
        assert_eq!(state[0], 4);
        if footers {
            assert_eq!(state[state.len() - 5], 0x7e);
        }
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_what_qemu_writes_into_its_pipe() {
    let place = folder();
    let (out, saved) = (place.path().join("image"), place.path().join("saved"));
    let mut source = Qemu::boot(&machine());
    source.stop();
    source.set(json!({ "max-bandwidth": 0 }));
    let retpath = env!("CARGO_BIN_EXE_retpath");
    let (image, stream) = (out.display(), saved.display());
    let command = format!("exec:tee {stream} | {retpath} import - --out {image} >/dev/null");
    source.migrate(&command);
    source.wait_status(&["completed"], SOON);
    wait_for(&out);
    let sent = Ram::saved(&fs::read(&saved).expect("a stream"), &[]);
    compare(&out, &sent);
    source.assert_ram(&sent);
}

/// Waits until another program has given something its name.
fn wait_for(path: &Path) {
    let end = Instant::now() + SOON;
    while !path.exists() {
        assert!(Instant::now() < end, "no {}", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_a_file_but_not_one_that_is_mapped() {
    for (since, capability) in [((8, 2), None), ((9, 0), Some("mapped-ram"))] {
        if types::release() < since {
            types::not_tested("saving to file: (8.2 and newer), mapped-ram (9.0 and newer)");
            return;
        }
        let place = folder();
        let (out, saved) = (place.path().join("image"), place.path().join("saved"));
        let mut source = Qemu::boot(&machine());
        source.stop();
        source.enable(capability.as_slice());
        source.migrate(&format!("file:{}", saved.display()));
        source.wait_status(&["completed"], SOON);
        let mut retpath = Program::retpath(&["import", text(&saved), "--out", text(&out)]);
        if capability.is_none() {
            retpath.wait_success(SOON);
            let sent = Ram::saved(&fs::read(&saved).expect("a stream"), &[]);
            compare(&out, &sent);
            source.assert_ram(&sent);
            continue;
        }
        assert_eq!(retpath.wait(SOON).code(), Some(1));
        let errors = retpath.errors();
        assert!(errors.contains("mapped-ram"), "{errors}");
        assert!(errors.contains("no image was made"), "{errors}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn leaves_nothing_where_the_disk_is_full() {
    let place = folder();
    let disk = place.path().join("disk");
    let Some(_small) = Small::mount(&disk, 4) else {
        return;
    };
    let mut source = Qemu::boot(&machine());
    let (saved, out) = (source.save(), disk.join("image"));
    let before = fs::metadata(&saved).and_then(|about| about.modified());
    let mut retpath = Program::retpath(&["import", text(&saved), "--out", text(&out)]);
    assert_eq!(retpath.wait(SOON).code(), Some(1));
    let errors = retpath.errors();
    assert!(errors.contains("No space left"), "{errors}");
    assert!(errors.contains("no image was made"), "{errors}");
    assert_eq!(left(&disk), [""; 0]);
    let after = fs::metadata(&saved).and_then(|about| about.modified());
    let same = |time: io::Result<_>| time.expect("a time");
    assert_eq!(same(before), same(after), "the stream is as it was");
}

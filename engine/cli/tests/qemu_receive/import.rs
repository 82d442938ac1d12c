//! `retpath import` of what real QEMU saves, to a file and into a pipe.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{io, thread};

use retpath_codec::wire::capability::MAPPED_RAM;
use retpath_image::Image;
use serde_json::{Value, json};

use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::ground::{Small, compare, left, machine, text};
use retpath_support::qemu::process::folder;
use retpath_support::qemu::stream::Ram;
use retpath_support::qemu::{Qemu, types};

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_a_stream_saved_by_cat() {
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

/// The error of `retpath import` about a stream.
fn refused(place: &Path, stream: &[u8]) -> String {
    let (saved, out) = (place.join("saved"), place.join("image"));
    fs::write(&saved, stream).expect("room");
    let mut retpath = Program::retpath(&["import", text(&saved), "--out", text(&out)]);
    assert_eq!(retpath.wait(SOON).code(), Some(1), "{} bytes", stream.len());
    assert!(!out.exists());
    retpath.errors()
}

/// Machine types up to 2.2 send neither footers nor a description, and 2.3 no footers: any zero byte
/// could be their end.
#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn refuses_a_stream_that_is_cut_inside_its_device_state() {
    const CUTS: usize = 60;
    for release in [(2, 1), (2, 3)] {
        let Some(kind) = types::up_to(release, "machine types without footers") else {
            continue;
        };
        let described = release == (2, 3);
        let mut source = Qemu::boot(&machine().kind(&kind));
        let stream = fs::read(source.save()).expect("a stream");
        let place = folder();
        let out = place.path().join("whole");
        let saved = place.path().join("saved");
        fs::write(&saved, &stream).expect("room");
        let accept = ["--accept-unproven-end"];
        let more = if described { &accept[..0] } else { &accept[..] };
        let args = [&["import", text(&saved), "--out", text(&out)], more].concat();
        Program::retpath(&args).wait_success(SOON);
        let image = Image::open(&out).expect("a whole image");
        assert_eq!(image.manifest().unproven_end, !described);
        assert_eq!(image.description().is_some(), described);

        // EOF, VMDESCRIPTION and the size stand between the two.
        let behind = image.description().map_or(1, |json| 6 + json.len());
        let end = stream.len() - behind;
        let start = end - image.device_state().len();
        // The first section's head is understood: a cut there is another error.
        let zeros = (start + 32..end).filter(|at| stream[at - 1] == 0);
        let zeros: Vec<_> = zeros.collect();
        for size in zeros.iter().step_by(zeros.len().div_ceil(CUTS)) {
            let message = refused(place.path(), &stream[..*size]);
            assert!(message.contains("nothing proves"), "{size}: {message}");
        }
        for size in (start..stream.len()).step_by((stream.len() - start).div_ceil(CUTS)) {
            refused(place.path(), &stream[..size]);
        }
        if !described {
            let message = refused(place.path(), &stream);
            assert!(message.contains("--accept-unproven-end"), "{message}");
        }
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_a_stream_from_a_pipe_of_qemu() {
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

/// Waits until another program has renamed its result.
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
    for (since, capability) in [((8, 2), None), ((9, 0), Some(MAPPED_RAM))] {
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
fn leaves_no_image_when_the_disk_is_full() {
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

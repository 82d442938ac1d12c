//! `retpath receive`, `retpath serve` and `retpath receive` once more, with a QEMU between them: the
//! second image equals the first, but for what the guest wrote.

use std::ops::Range;
use std::path::Path;

use retpath_codec::BlockName;
use retpath_codec::wire::capability::POSTCOPY_RAM;
use retpath_engine::source::PageSource;
use serde_json::json;

use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::ground::{Ground, POSTCOPY, machine};
use retpath_support::qemu::guest::{BASE, PAGE};
use retpath_support::qemu::process::folder;
use retpath_support::qemu::{Image, Machine, Qemu};

/// The page of the boot sector, with the guest's stack in front of it.
const SECTOR: Range<u64> = 0x7000..0x8000;

/// Receives an image of a running guest.
fn received(machine: &Machine) -> Image {
    let mut ground = Ground::new(machine, &[POSTCOPY_RAM], &[]);
    ground.switch();
    ground.finish();
    ground.into_image()
}

/// Boots the image's guest by postcopy, and gives the QEMU that has all of it.
fn booted(image: &Image, stopped: bool) -> Qemu {
    let (mut qemu, uri) = match stopped {
        true => image.stopped_destination(&[]),
        false => image.destination(&[]),
    };
    image.serve(&[&uri], &[]).wait_success(SOON);
    qemu.wait_status(&["completed"], SOON);
    qemu
}

/// Receives the image of a QEMU that came out of one. It is compared with what was sent, and with
/// the memory of the QEMU.
fn again(qemu: Qemu, postcopy: bool) -> Image {
    let folder = folder();
    let out = folder.path().join("image");
    let mut ground = Ground::from(qemu, &out, folder, &[POSTCOPY_RAM], &[]);
    if postcopy {
        ground
            .source
            .set(json!({ "max-postcopy-bandwidth": POSTCOPY }));
        ground.switch();
    } else {
        ground.source.stop();
        ground.source.set(json!({ "max-bandwidth": 0 }));
        ground.source.migrate(&ground.relay.uri());
    }
    ground.finish();
    ground.into_image()
}

fn open(path: &Path) -> retpath_image::Image {
    retpath_image::Image::open(path).expect("a whole image")
}

/// The pages, by block and offset, in which two images differ.
fn differences(one: &Image, other: &Image) -> Vec<(String, u64)> {
    let (one, other) = (open(&one.path()), open(&other.path()));
    assert_eq!(one.manifest().machine, other.manifest().machine);
    assert_eq!(one.blocks().len(), other.blocks().len());
    let mut pages = Vec::new();
    for (id, (left, right)) in one.blocks().iter().zip(other.blocks().iter()).enumerate() {
        assert_eq!(left, right);
        let name = String::from_utf8_lossy(left.name.name().as_bytes()).into_owned();
        let size = usize::try_from(PAGE).expect("small");
        let changed = (0..left.len).step_by(size).filter(|&at| {
            let page = |image: &retpath_image::Image| {
                let mut page = vec![0; size];
                image.read(id, at, &mut page).expect("inside");
                page
            };
            page(&one) != page(&other)
        });
        pages.extend(changed.map(|at| (name.clone(), at)));
    }
    pages
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn the_image_of_a_guest_that_never_ran_equals_its_source() {
    let first = received(&machine());
    for postcopy in [false, true] {
        let second = again(booted(&first, true), postcopy);
        assert_eq!(differences(&first, &second), []);
        // The guest still runs from it.
        booted(&second, false).wait_healthy(10, SOON);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn the_image_of_a_guest_that_ran_differs_where_it_wrote() {
    let first = received(&machine());
    let qemu = booted(&first, false);
    qemu.wait_healthy(3, SOON);
    let second = again(qemu, false);
    let hot = BASE..BASE + u64::from(machine().guest().hot) * PAGE;
    let written = differences(&first, &second);
    for (block, at) in &written {
        let its_own = hot.contains(at) || SECTOR.contains(at);
        assert!(block == "pc.ram" && its_own, "{block} at {at:#x} differs");
    }
    let pages = written.iter().filter(|(_, at)| hot.contains(at)).count();
    assert_eq!(pages, usize::try_from(machine().guest().hot).unwrap());
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_over_tcp() {
    let place = folder();
    let out = place.path().join("image");
    let out_text = out.to_str().expect("paths of tests are text");
    let args = ["receive", "--listen", "tcp:127.0.0.1:0", "--out", out_text];
    let mut receiver = Program::retpath(&args);
    let uri = receiver.wait_error(SOON, |line| {
        let (_, uri) = line.split_once("listening on ")?;
        Some(uri.to_owned())
    });
    let mut source = Qemu::boot(&machine());
    source.enable(&[POSTCOPY_RAM]);
    source.stop();
    source.migrate(&uri);
    receiver.wait_success(SOON);
    source.wait_status(&["completed"], SOON);

    let image = Image::received(place, machine());
    let mut qemu = Qemu::incoming(&machine());
    qemu.enable(&[POSTCOPY_RAM]);
    qemu.run("migrate-incoming", json!({ "uri": "tcp:127.0.0.1:0" }));
    let port = qemu.query_migrate()["socket-address"][0]["port"].clone();
    let uri = format!("tcp:127.0.0.1:{}", port.as_str().expect("a port"));
    image.serve(&[&uri], &[]).wait_success(SOON);
    qemu.wait_status(&["completed"], SOON);
    qemu.wait_healthy(10, SOON);
    qemu.assert_silent();
}

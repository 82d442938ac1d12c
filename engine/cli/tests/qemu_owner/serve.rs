//! `retpath serve` at each of its phases, and what fails there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use retpath_codec::wire::capability::POSTCOPY_RAM;
use rustix::process::Signal;
use serde_json::Value;

use crate::receive::{PACKAGED, SHUT, settle};
use crate::table::{Cure, Failure, Outcome, Phase, Row};
use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::relay::Way;
use retpath_support::qemu::{Guest, Image, Machine, Qemu, Relay, types};

fn machine() -> Machine {
    // Slow enough that pages are missing for a while.
    let guest = Guest {
        sweep: 16,
        ..Guest::mib(1, 8)
    };
    Machine::new(16, guest)
}

/// An image that `retpath serve` serves to a QEMU through a relay.
struct Scene {
    image: Image,
    served: Program,
    relay: Relay,
    qemu: Qemu,
    /// A file of the image that was changed, and what was in it.
    before: Option<(PathBuf, Vec<u8>)>,
}

/// Tests a row.
pub(crate) fn run(row: &Row) {
    let outcome = row.outcome(types::release());
    let mut scene = reach(row);
    fail(row, &mut scene);
    settle(&mut scene.qemu, outcome.state);
    cure(outcome, scene);
}

/// Boots a new QEMU from the image.
pub(crate) fn boot(image: &Image) {
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    served.wait_success(SOON);
    qemu.wait_status(&["completed"], SOON);
    qemu.wait_healthy(3, SOON);
}

/// Brings the boot to the point of the failure.
fn reach(row: &Row) -> Scene {
    let image = Image::saved(&machine());
    let other = match row.failure {
        Failure::Refused => Machine::new(32, machine().guest()),
        _ => machine(),
    };
    let mut qemu = Qemu::incoming(&other);
    qemu.enable(&[POSTCOPY_RAM]);
    // Before it listens, nobody connects.
    let connecting = row.phase == Phase::Connecting;
    let socket = match connecting {
        true => qemu.socket(),
        false => qemu.listen(),
    };
    let relay = Relay::new(&socket);
    let uri = match connecting {
        true => unix(&socket),
        false => relay.uri(),
    };
    match row.phase {
        Phase::Sending if row.failure != Failure::Refused => relay.hold(Way::Forward, PACKAGED),
        Phase::Unconfirmed => relay.hold(Way::Back, SHUT),
        _ => {}
    }
    // The background sweep takes minutes where it must not end.
    let more: &[&str] = match (row.phase, row.failure) {
        (Phase::Serving, Failure::DestinationKilled | Failure::LinkGone) => {
            &["--bandwidth", "64K", "--retry", "1"]
        }
        (Phase::Serving, _) => &["--bandwidth", "64K"],
        _ => &["--retry", "1"],
    };
    let mut before = None;
    if connecting {
        before = damage(&image, row.failure);
    }
    let mut served = image.serve(&[&uri], more);
    match row.phase {
        Phase::Sending if row.failure == Failure::Refused => {}
        Phase::Sending | Phase::Unconfirmed => relay.wait_held(SOON, |_| true),
        Phase::Serving => {
            qemu.wait_said(SOON, "go on", |said| said.first());
        }
        Phase::Served => served.wait_success(SOON),
        _ => {}
    }
    Scene {
        image,
        served,
        relay,
        qemu,
        before,
    }
}

/// Causes the failure, and waits for the end of `serve` unless it continues.
fn fail(row: &Row, scene: &mut Scene) {
    match row.failure {
        Failure::Terminated => scene.served.signal(Signal::TERM),
        Failure::Killed => scene.served.kill(),
        Failure::DestinationKilled => {
            scene.qemu.program().kill();
            scene.relay.cut();
        }
        Failure::Refused => {}
        // A QEMU that still listens would continue at once.
        Failure::LinkCut | Failure::LinkGone => scene.relay.tear_down(),
        Failure::ImageCut | Failure::ImageChanged if row.phase == Phase::Connecting => {}
        Failure::ImageCut | Failure::ImageChanged => {
            scene.before = damage(&scene.image, row.failure);
        }
        other => panic!("{other}: not at `serve`"),
    }
    if row.phase == Phase::Serving && row.failure == Failure::LinkCut {
        return;
    }
    // An image that is no longer needed may be damaged.
    let harmless = row.failure == Failure::ImageCut && row.phase == Phase::Unconfirmed;
    if harmless {
        scene.relay.release();
    }
    let status = scene.served.wait(SOON);
    let good = harmless || row.phase == Phase::Served;
    assert_eq!(status.success(), good, "{}", scene.served);
    // Data that was held back is lost.
    scene.relay.cut();
}

/// Changes the file with the guest's memory; gives what was in it.
fn damage(image: &Image, failure: Failure) -> Option<(PathBuf, Vec<u8>)> {
    let path = image.path().join(ram_file(image));
    let bytes = fs::read(&path).expect("the image is ours");
    let file = fs::OpenOptions::new().write(true).open(&path);
    let file = file.expect("the image is ours");
    let changed = match failure {
        Failure::ImageCut => file.set_len(4096),
        Failure::ImageChanged => file.write_all_at(&vec![0x55; bytes.len()], 0),
        _ => return None,
    };
    changed.expect("the image is ours");
    Some((path, bytes))
}

/// The name of the file with the guest's memory.
fn ram_file(image: &Image) -> String {
    let text = fs::read(image.path().join("manifest.json")).expect("an image has a manifest");
    let manifest: Value = serde_json::from_slice(&text).expect("it is JSON");
    let file = manifest["blocks"][0]["file"].as_str();
    file.expect("a block has a file").to_owned()
}

/// Puts back what was in the image.
fn restore(scene: &mut Scene) {
    if let Some((path, bytes)) = scene.before.take() {
        fs::write(path, bytes).expect("the image is ours");
    }
}

/// Does what makes the guest run, and waits until it runs.
fn cure(outcome: Outcome, mut scene: Scene) {
    match outcome.cure {
        Cure::Runs => scene.qemu.wait_healthy(3, SOON),
        Cure::Serve => boot(&scene.image),
        Cure::Recover => {
            scene.qemu.recover();
            scene.relay.mend();
            scene
                .qemu
                .wait_status(&["postcopy-active", "completed"], SOON);
            scene.qemu.wait_healthy(3, SOON);
        }
        Cure::Restore => {
            restore(&mut scene);
            boot(&scene.image);
        }
        Cure::TakeOver | Cure::PutBack => {
            restore(&mut scene);
            scene.qemu.recover();
            scene.relay.mend();
            let uri = scene.relay.uri();
            let mut served = scene.image.serve(&[&uri], &["--resume", &scene.image.id()]);
            served.wait_success(SOON);
            scene.qemu.wait_status(&["completed"], SOON);
            scene.qemu.wait_healthy(3, SOON);
        }
        other => panic!("{other}: not after `serve`"),
    }
}

//! `retpath serve` boots real QEMUs from an image: their guests go on where they were paused, check
//! all of their memory, and QEMU has nothing to complain about.
//!
//! With `--nocapture` each test prints the figures it saw.

use std::time::Instant;

use retpath_codec::wire::capability::POSTCOPY_PREEMPT;
use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::image::report;
use retpath_support::qemu::relay::EOS;
use retpath_support::qemu::{Backing, Guest, Image, Machine, Qemu, Ram, Relay, types};
use serde_json::Value;

fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// Waits until the guest is well and both sides are content.
fn finish(name: &str, qemu: &mut Qemu, served: &mut Program) -> Value {
    qemu.wait_status(&["completed"], SOON);
    served.wait_success(SOON);
    qemu.wait_healthy(10, SOON);
    assert_eq!(qemu.run_state(), "running");
    let report = report(served);
    let one = &report["destinations"][0];
    println!(
        "{name}: {}, {}, {}",
        one["pages"], one["cuts"], one["requests"]
    );
    report
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn continues_a_guest_from_its_image() {
    let image = Image::saved(&machine());
    let before = image.files();
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    let report = finish("plain", &mut qemu, &mut served);
    assert_eq!(report["ok"], true);
    qemu.assert_silent();
    let id = format!("has the id {}\n", image.id());
    let errors = served.errors();
    assert!(
        errors.ends_with(&id) && errors.lines().count() == 1,
        "{errors}"
    );
    assert_eq!(report["id"], image.id());
    assert!(image.files() == before, "serving changes nothing");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn continues_a_guest_through_the_preempt_channel() {
    for (kind, early) in types::preempt_orders() {
        let image = Image::saved(&machine().kind(&kind));
        let (mut qemu, _) = image.destination(&[POSTCOPY_PREEMPT]);
        let relay = Relay::recording(&qemu.socket());
        let more = ["--preempt", "--bandwidth", "8M"];
        let mut served = image.serve(&[&relay.uri()], &more);
        finish(&format!("preempt, {kind}"), &mut qemu, &mut served);
        let links = relay.links();
        assert_eq!(links.len(), 2, "{relay}");
        assert!(links[1].forward > 8 && links[1].back == 0, "{relay}");
        assert_eq!(relay.carried(1).ends_with(EOS), early);
        qemu.assert_silent();
    }
}

/// Cuts the link five times, at bytes that lie inside of pages.
fn cut(machine: &Machine, capabilities: &[&str], more: &[&str], links: usize) {
    let image = Image::saved(machine);
    let (mut qemu, _) = image.destination(capabilities);
    let relay = Relay::new(&qemu.socket());
    relay.cut_after(1_300_001);
    let more = [&["--bandwidth", "4M"], more].concat();
    let mut served = image.serve(&[&relay.uri()], &more);
    for cut in 1..=5 {
        relay.wait_cuts(cut, SOON);
        // A QEMU that still listens since the last time recovers by itself.
        qemu.wait_pauses(cut, SOON);
        if cut < 5 {
            relay.cut_after(700_001);
        }
        qemu.try_recover();
    }
    let report = finish("five cuts", &mut qemu, &mut served);
    let cuts = &report["destinations"][0]["cuts"];
    assert!(cuts["resumes"].as_u64() >= Some(5), "{cuts}");
    let made = relay.links().len();
    assert!(made >= links, "{relay}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn continues_a_guest_through_five_cuts() {
    cut(&machine(), &[], &[], 6);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn continues_a_guest_through_five_cuts_of_both_channels() {
    for (kind, _) in types::preempt_orders() {
        let machine = machine().kind(&kind);
        cut(&machine, &[POSTCOPY_PREEMPT], &["--preempt"], 12);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn continues_a_guest_through_five_cuts_with_a_preempt_channel_without_the_option() {
    for (kind, _) in types::preempt_orders() {
        cut(&machine().kind(&kind), &[POSTCOPY_PREEMPT], &[], 12);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn boots_four_machines_from_one_image_at_once() {
    let image = Image::saved(&machine());
    let mut clones: Vec<_> = (0..4).map(|_| image.destination(&[])).collect();
    let uris: Vec<&str> = clones.iter().map(|(_, uri)| uri.as_str()).collect();
    let mut served = image.serve(&uris, &[]);
    for (qemu, _) in &mut clones {
        qemu.wait_status(&["completed"], SOON);
        qemu.wait_healthy(3, SOON);
        qemu.assert_silent();
    }
    served.wait_success(SOON);
    let report = report(&served);
    assert_eq!(report["destinations"].as_array().map(Vec::len), Some(4));
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_serving_the_others_when_one_fails() {
    let image = Image::saved(&machine());
    let (mut qemu, uri) = image.destination(&[]);
    let nobody = "unix:/nobody/listens/here";
    let mut served = image.serve(&[&uri, nobody], &["--wait", "1"]);
    assert_eq!(served.wait(SOON).code(), Some(1));
    qemu.wait_status(&["completed"], SOON);
    qemu.wait_healthy(3, SOON);
    let report = report(&served);
    assert_eq!(report["ok"], false);
    assert_eq!(report["destinations"][0]["ok"], true);
    assert_eq!(report["destinations"][1]["failure"]["guest"], "in-image");
    let errors = served.errors();
    assert!(errors.contains("unix:/nobody/listens/here"), "{errors}");
    assert!(errors.contains("never left the image"), "{errors}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn sends_the_working_set_of_the_first_boot_first() {
    let guest = Guest {
        stride: 509,
        sweep: 0,
        ..Guest::mib(8, 16)
    };
    let image = Image::saved(&Machine::new(64, guest));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("working-set");
    let file = file.to_str().expect("paths of tests are text");
    let more = ["--bandwidth", "8M", "--working-set", file];
    let mut boot = |name: &str| {
        let (mut qemu, uri) = image.destination(&[]);
        let mut served = image.serve(&[&uri], &more);
        let report = finish(name, &mut qemu, &mut served);
        qemu.assert_silent();
        let known = report["working_set"]["pages"].as_u64();
        let demand = report["destinations"][0]["pages"]["demand"].as_u64();
        (known.expect("a number"), demand.expect("a number"))
    };
    let (known, first) = boot("learning");
    // The guest visits all hot pages in each pass, and has no other way to them.
    assert!(known >= 2048 && first >= known, "{known} of {first}");
    let (more, second) = boot("second boot");
    assert!(more >= known, "{more}, {known}");
    assert!(second < first, "{second}, {first}");
}

/// A guest that is paused wherever it was, and what it takes until it says something again: bytes
/// that went through to it, and bytes of the image that `retpath serve` has in its memory.
fn first_byte(mib: u64) -> [u64; 2] {
    let quiet = u32::try_from(mib / 2).expect("a small number");
    let machine = Machine::new(mib, Guest::mib(1, quiet));
    let image = Image::saved(&machine);
    let (qemu, _) = image.destination(&[]);
    let relay = Relay::new(&qemu.socket());
    let start = Instant::now();
    // As good as no sweep: what comes was asked for.
    let served = image.serve(&[&relay.uri()], &["--bandwidth", "65536"]);
    let first = qemu.wait_said(SOON, "say anything", |said| said.first());
    let (forward, resident) = (relay.forwarded(), served.resident());
    println!(
        "{mib} MiB: first output {:?} after `serve` was started, {forward} bytes sent, {resident} \
         bytes resident",
        first - start
    );
    [forward, resident]
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn sends_the_first_page_of_a_larger_machine_as_fast() {
    let [small, large] = [256, 2048].map(first_byte);
    // The larger machine holds 1 GiB; it needs its devices and the pages of a few passes.
    let [limit, held] = [16 << 20, 256 << 20];
    for [sent, resident] in [small, large] {
        assert!(sent < limit && resident < held, "{small:?}, then {large:?}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serves_older_machine_types() {
    // The first one sends neither its name nor footers.
    let middle = types::up_to((5, 2), "machine types older than 5.2");
    for kind in types::without_footers().into_iter().chain(middle) {
        let image = Image::saved(&machine().kind(&kind));
        let (mut qemu, uri) = image.destination(&[]);
        let mut served = image.serve(&[&uri], &[]);
        finish(&kind, &mut qemu, &mut served);
        qemu.assert_silent();
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serves_another_kind_of_machine() {
    let image = Image::saved(&machine().kind("q35"));
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    finish("q35", &mut qemu, &mut served);
    qemu.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serves_several_blocks_and_shared_memory() {
    let blocks = vec![
        Ram::new("first", 8, Backing::Anonymous),
        Ram::new("shared", 8, Backing::Memfd),
    ];
    let image = Image::saved(&Machine::with_blocks(blocks, Guest::mib(1, 13)));
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    finish("two blocks", &mut qemu, &mut served);
    qemu.assert_silent();
}

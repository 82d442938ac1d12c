//! Failures of `retpath serve`: the message tells where the guest is, and the image can be served
//! again.

use std::fs::{self, OpenOptions};

use retpath_codec::wire::capability::POSTCOPY_RAM;
use retpath_support::SOON;
use retpath_support::harm::{HARMS, do_harm, flip};
use retpath_support::program::{Program, is_ignored};
use retpath_support::qemu::image::report;
use retpath_support::qemu::relay::Way;
use retpath_support::qemu::{Guest, Image, Machine, Qemu, Relay, types};
use retpath_support::sinks::{Sink, retpath};
use rustix::process::Signal;
use serde_json::Value;

fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// An image, and a QEMU that was booted from it and lacks most of its memory.
struct Half {
    image: Image,
    qemu: Qemu,
    relay: Relay,
    served: Program,
}

impl Half {
    fn start(more: &[&str]) -> Self {
        let image = Image::saved(&machine());
        let (qemu, _) = image.destination(&[]);
        let relay = Relay::new(&qemu.socket());
        // The background sweep would take minutes.
        let more = [&["--bandwidth", "64K"], more].concat();
        let served = image.serve(&[&relay.uri()], &more);
        qemu.wait_said(SOON, "go on", |said| said.first());
        Self {
            image,
            qemu,
            relay,
            served,
        }
    }

    /// Ends `retpath serve`; returns its report about its only QEMU.
    fn failure(&mut self) -> Value {
        let status = self.served.wait(SOON);
        assert_eq!(status.code(), Some(1), "{}", self.served);
        let report = report(&self.served);
        assert_eq!(report["ok"], false);
        report["destinations"][0]["failure"].clone()
    }
}

/// The image still boots a QEMU.
fn assert_serves(image: &Image) {
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    served.wait_success(SOON);
    qemu.wait_status(&["completed"], SOON);
    qemu.wait_healthy(3, SOON);
    qemu.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn reports_the_missing_memory_when_qemu_is_killed() {
    let mut half = Half::start(&["--retry", "1"]);
    half.qemu.program().kill();
    let failure = half.failure();
    assert_eq!(failure["guest"], "pages-missing", "{failure}");
    let errors = half.served.errors();
    assert!(errors.contains("no new link for 1 s"), "{errors}");
    assert!(errors.contains("only in the image"), "{errors}");
    assert!(errors.contains("can be served again"), "{errors}");
    assert_serves(&half.image);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn another_process_continues_after_sigkill() {
    let mut half = Half::start(&[]);
    half.served.kill();
    half.qemu.wait_status(&["postcopy-paused"], SOON);
    half.qemu.recover();
    let uri = half.relay.uri();
    let id = half.image.id();
    let mut served = half.image.serve(&[&uri], &["--resume", &id]);
    served.wait_success(SOON);
    half.qemu.wait_status(&["completed"], SOON);
    half.qemu.wait_healthy(10, SOON);
    let cuts = &report(&served)["destinations"][0]["cuts"];
    assert_eq!(cuts["resumes"], 1, "{cuts}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn stops_cleanly_when_interrupted() {
    let mut half = Half::start(&[]);
    half.served.signal(Signal::INT);
    let failure = half.failure();
    assert_eq!(failure["why"], "stopped");
    assert_eq!(failure["guest"], "pages-missing");
    let advice = failure["advice"].as_str().unwrap_or_default();
    let resume = format!("--resume {}", half.image.id());
    assert!(advice.contains(&resume), "{advice}");
    half.qemu.wait_status(&["postcopy-paused"], SOON);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn a_cut_at_one_qemu_does_not_affect_the_other_even_if_no_output_can_be_written() {
    let image = Image::saved(&machine());
    for sink in [Sink::NoReader, Sink::NoTerminal] {
        let ((mut good, one), (bad, two)) = (image.destination(&[]), image.destination(&[]));
        let relay = Relay::new(&bad.socket());
        assert_ne!(two, relay.uri());
        let (path, there) = (image.path(), relay.uri());
        let path = path.to_str().expect("paths of tests are text");
        let args = [
            "serve",
            "--image",
            path,
            "--connect",
            &one,
            "--connect",
            &there,
        ];
        let more = ["--bandwidth", "1M", "--retry", "1"];
        let mut served = retpath(&[&args[..], &more].concat(), sink, sink);
        // Most of its memory is still to come. It may have loaded the devices, and would then
        // recover over a new link.
        relay.wait(SOON, "PONGs", |links| {
            links.iter().any(|link| link.back >= 5 * 8).then_some(())
        });
        relay.tear_down();
        // It fails, without a panic or an abort.
        assert_eq!(served.wait(SOON).code(), Some(1), "{sink:?}");
        good.wait_status(&["completed"], SOON);
        good.wait_healthy(5, SOON);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn another_process_continues_after_sighup() {
    if is_ignored(Signal::HUP) {
        return;
    }
    let mut half = Half::start(&[]);
    half.served.signal(Signal::HUP);
    let failure = half.failure();
    assert_eq!(failure["guest"], "pages-missing", "{failure}");
    half.qemu.wait_status(&["postcopy-paused"], SOON);
    half.qemu.recover();
    let uri = half.relay.uri();
    let mut served = half.image.serve(&[&uri], &["--resume", &half.image.id()]);
    served.wait_success(SOON);
    half.qemu.wait_status(&["completed"], SOON);
    half.qemu.wait_healthy(10, SOON);
}

/// A link that only one side can still use.
fn half_close(way: Way) {
    let mut half = Half::start(&[]);
    half.relay.half_close(0, way);
    half.qemu.wait_pauses(1, SOON);
    half.qemu.try_recover();
    half.relay
        .wait(SOON, "a new link", |links| links.get(1).cloned());
    half.qemu.wait_status(&["postcopy-active"], SOON);
    half.qemu.wait_healthy(2, SOON);
    let errors = half.served.errors();
    assert!(errors.contains("migrate-recover"), "{errors}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn recovers_from_a_link_without_data_to_qemu() {
    half_close(Way::Forward);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn recovers_from_a_link_without_return_data() {
    half_close(Way::Back);
}

/// The image changes while a QEMU has a part of it. Nothing wrong reaches the guest, not even when
/// the migration is taken up before the image is put back; then it runs on.
fn survives_a_change_of_the_image(harm: fn(&fs::File)) {
    let mut half = Half::start(&[]);
    let (ram, id) = (half.image.ram(), half.image.id());
    let before = fs::read(&ram).unwrap();
    half.served.stopped(|| do_harm(&ram, harm));
    let failure = half.failure();
    let why = failure["why"].as_str().unwrap_or_default();
    assert!(why.contains("was changed"), "{why}");
    assert_eq!(failure["guest"], "pages-missing");
    let advice = failure["advice"].as_str().unwrap_or_default();
    let resume = format!("--resume {id}");
    for want in ["retpath verify", "migrate-recover", &resume] {
        assert!(advice.contains(want), "{want}: {advice}");
    }
    assert!(!advice.contains("is unchanged"), "{advice}");
    half.qemu.wait_status(&["postcopy-paused"], SOON);

    half.qemu.recover();
    let uri = half.relay.uri();
    let mut again = half.image.serve(&[&uri], &["--resume", &id]);
    assert_eq!(again.wait(SOON).code(), Some(1), "{again}");
    half.qemu.wait_status(&["postcopy-paused"], SOON);

    fs::write(&ram, before).unwrap();
    half.qemu.recover();
    let mut again = half.image.serve(&[&uri], &["--resume", &id]);
    again.wait_success(SOON);
    half.qemu.wait_status(&["completed"], SOON);
    half.qemu.wait_healthy(10, SOON);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whose_image_changes_while_it_is_served() {
    for (_, harm) in HARMS {
        survives_a_change_of_the_image(harm);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn never_sends_pages_of_an_image_that_changed_at_rest() {
    let image = Image::saved(&machine());
    let before = fs::read(image.ram()).unwrap();
    // In the memory that the guest checks, whatever it has asked for until then.
    let changed: Vec<u64> = (1024..1536).collect();
    flip(&image.ram(), &changed);
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    let failure = report(&served)["destinations"][0]["failure"].clone();
    let why = failure["why"].as_str().unwrap_or_default();
    assert!(why.contains("do not match their digest"), "{why}");
    qemu.wait_status(&["postcopy-paused"], SOON);
    fs::write(image.ram(), before).unwrap();
    qemu.recover();
    let uri = retpath_support::qemu::migration::unix(&qemu.socket());
    let mut again = image.serve(&[&uri], &["--resume", &image.id()]);
    again.wait_success(SOON);
    qemu.wait_status(&["completed"], SOON);
    qemu.wait_healthy(10, SOON);
}

/// The error about an image that is damaged before it is served; nothing is sent to QEMU.
fn refusal(damage: impl FnOnce(&Image)) -> String {
    let image = Image::saved(&machine());
    damage(&image);
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    assert_eq!(qemu.run_state(), "inmigrate");
    qemu.assert_silent();
    served.errors()
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn refuses_an_image_that_is_cut_short() {
    let errors = refusal(|image| {
        let file = OpenOptions::new().write(true).open(image.ram()).unwrap();
        file.set_len(4096).unwrap();
    });
    assert!(errors.contains("cut short"), "{errors}");
}

/// Replaces text in the manifest.
fn edit(from: &'static str, to: &'static str) -> impl FnOnce(&Image) {
    move |image| {
        let path = image.path().join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no {from} in {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn refuses_an_edited_manifest() {
    let errors = refusal(edit("retpath-image", "another-image"));
    assert!(errors.contains("\"format\""), "{errors}");
    let errors = refusal(edit("16777216", "16777217"));
    assert!(errors.contains("manifest.json"), "{errors}");
    let errors = refusal(edit("16777216", "33554432"));
    assert!(errors.contains("it has been changed"), "{errors}");
    let errors = refusal(edit("{", "["));
    assert!(errors.contains("not JSON"), "{errors}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn does_not_resume_to_a_fresh_qemu() {
    let image = Image::saved(&machine());
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &["--resume", &image.id(), "--retry", "1"]);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    let failure = report(&served)["destinations"][0]["failure"].clone();
    assert_eq!(failure["guest"], "not-resumed", "{failure}");
    qemu.program().wait(SOON);
}

/// Serves to a QEMU that was started as another machine.
fn misfit(other: &Machine) -> (Value, String) {
    let image = Image::saved(&machine());
    let mut qemu = Qemu::incoming(other);
    qemu.enable(&[POSTCOPY_RAM]);
    qemu.listen();
    let uri = retpath_support::qemu::migration::unix(&qemu.socket());
    let mut served = image.serve(&[&uri], &[]);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    qemu.program().wait(SOON);
    let failure = report(&served)["destinations"][0]["failure"].clone();
    assert_serves(&image);
    (failure, served.errors())
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn reports_that_nothing_is_lost_when_the_machine_differs() {
    let (_, kind) = types::types()
        .into_iter()
        .rev()
        .nth(1)
        .expect("a second type");
    let older = machine().kind(&kind);
    let larger = Machine::new(32, Guest::mib(1, 8));
    for other in [older, larger] {
        let (failure, errors) = misfit(&other);
        let guest = failure["guest"].as_str().unwrap_or_default();
        assert!(matches!(guest, "in-image" | "not-loaded"), "{failure}");
        assert!(errors.contains("nothing is lost"), "{errors}");
        assert!(errors.contains("own messages say why"), "{errors}");
        // 7.2 closes the link; 10.0 and 11.1 say that they have failed, unless the stream is cut
        // off while it is sent.
        if types::release() < (10, 0) {
            assert!(!errors.contains("SHUT 1"), "{errors}");
        }
    }
}

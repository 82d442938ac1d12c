//! Both roles against a QEMU that is configured otherwise than the options say: what its bytes tell
//! needs no option, and what they do not tell is said after some seconds of silence.

use retpath_codec::wire::capability::{
    MULTIFD, POSTCOPY_PREEMPT, POSTCOPY_RAM, RETURN_PATH, SWITCHOVER_ACK,
};
use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::image::report;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::relay::EOS;
use retpath_support::qemu::{Guest, Image, Machine, Qemu, Relay, types};
use rustix::process::Signal;
use serde_json::Value;

const EXTRA: &str = "Extra incoming migration connection; ignoring";

fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// Waits until both sides are done and the guest is well; gives what `serve` says of its QEMU.
fn finish(qemu: &mut Qemu, served: &mut Program) -> Value {
    qemu.wait_status(&["completed"], SOON);
    served.wait_success(SOON);
    qemu.wait_healthy(3, SOON);
    let one = report(served)["destinations"][0].clone();
    assert_eq!(one["cuts"]["pauses"], 0, "{one}");
    one
}

/// What `serve` says of its QEMU while it runs.
fn remarks(served: &Program) -> Vec<String> {
    let errors = served.errors();
    let remarks = errors.lines().filter(|line| line.contains(": unix:"));
    remarks.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serve_waits_for_a_qemu_that_does_not_listen_yet() {
    let image = Image::saved(&machine());
    let mut qemu = Qemu::incoming(image.machine());
    qemu.enable(&[POSTCOPY_RAM]);
    let uri = unix(&qemu.socket());
    let mut served = image.serve(&[&uri], &[]);
    let waits = |line: &str| {
        line.contains("retrying for up to 60 s")
            .then(|| line.to_owned())
    };
    let line = served.wait_error(SOON, waits);
    assert!(line.contains(&uri), "{line}");
    qemu.listen();
    finish(&mut qemu, &mut served);
    assert_eq!(remarks(&served).len(), 1, "{served}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serve_opens_the_preempt_channel_that_qemu_waits_for() {
    for (kind, early) in types::preempt_orders() {
        let image = Image::saved(&machine().kind(&kind));
        let (mut qemu, _) = image.destination(&[POSTCOPY_PREEMPT]);
        let relay = Relay::recording(&qemu.socket());
        let mut served = image.serve(&[&relay.uri()], &["--bandwidth", "8M"]);
        let one = finish(&mut qemu, &mut served);
        assert_eq!(one["preempt"], true, "{kind}");
        assert_eq!(remarks(&served), [""; 0]);
        assert_eq!(relay.links().len(), 2, "{relay}");
        assert!(relay.links()[1].forward > 8, "{relay}");
        assert_eq!(relay.carried(1).ends_with(EOS), early);
        qemu.assert_silent();
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serve_continues_without_a_preempt_channel_that_qemu_closes() {
    for (kind, _) in types::preempt_orders() {
        let image = Image::saved(&machine().kind(&kind));
        let (mut qemu, uri) = image.destination(&[]);
        // Slow enough for many requests.
        let more = ["--preempt", "--bandwidth", "8M"];
        let mut served = image.serve(&[&uri], &more);
        let one = finish(&mut qemu, &mut served);
        assert_eq!(one["preempt"], false, "{kind}");
        assert!(one["pages"]["demand"].as_u64() > Some(0), "{one}");
        let errors = served.errors();
        assert!(errors.contains("postcopy-preempt is off"), "{errors}");
        qemu.assert_silent_but(&[EXTRA]);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serve_resumes_to_a_qemu_with_a_preempt_channel_without_the_option() {
    for (kind, _) in types::preempt_orders() {
        let image = Image::saved(&machine().kind(&kind));
        let (mut qemu, uri) = image.destination(&[POSTCOPY_PREEMPT]);
        let mut first = image.serve(&[&uri], &["--preempt", "--bandwidth", "64K"]);
        qemu.wait_said(SOON, "go on", |said| said.first());
        first.kill();
        qemu.wait_status(&["postcopy-paused"], SOON);
        qemu.recover();
        let mut served = image.serve(&[&uri], &["--resume", &image.id(), "--bandwidth", "8M"]);
        let one = finish(&mut qemu, &mut served);
        assert_eq!(one["preempt"], true, "{kind}");
        assert_eq!(one["cuts"]["resumes"], 1, "{kind}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serve_accepts_an_unexpected_switchover_ack() {
    for kind in types::switchover_acks() {
        let image = Image::saved(&machine().kind(&kind));
        let (mut qemu, uri) = image.destination(&[RETURN_PATH, SWITCHOVER_ACK]);
        let mut served = image.serve(&[&uri], &[]);
        finish(&mut qemu, &mut served);
        assert_eq!(remarks(&served), [""; 0], "{kind}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serve_names_multifd_as_the_likely_cause_and_loses_nothing() {
    let image = Image::saved(&machine());
    for preempt in [false, true] {
        // The first release to allow multifd and postcopy-ram at once is 10.1; 8.0 to 10.0 refuse.
        let mut qemu = Qemu::incoming(image.machine());
        qemu.enable(&[MULTIFD]);
        qemu.listen();
        let uri = unix(&qemu.socket());
        let more: &[&str] = if preempt { &["--preempt"] } else { &[] };
        let mut served = image.serve(&[&uri], more);
        let likely = |line: &str| line.contains("most likely").then(|| line.to_owned());
        let line = served.wait_error(SOON, likely);
        assert!(line.contains("multifd off"), "{line}");
        assert!(line.contains("info migrate_capabilities"), "{line}");
        served.signal(Signal::INT);
        assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
        let failure = report(&served)["destinations"][0]["failure"].clone();
        assert_eq!(failure["guest"], "in-image", "{failure}");
        let said = served.errors().matches("most likely").count();
        assert_eq!(said, 1, "{served}");
    }
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    finish(&mut qemu, &mut served);
}

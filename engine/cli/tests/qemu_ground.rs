//! The ground on which `retpath` meets QEMU, proved with QEMU on both sides: what a test sees there
//! is then the fault of neither the guest nor the harness.
//!
//! With `--nocapture` each test prints the times it saw.

use std::fs;
use std::time::Instant;

use retpath_codec::wire::capability::{POSTCOPY_PREEMPT, POSTCOPY_RAM};
use retpath_support::SOON;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::pair::PAUSE;
use retpath_support::qemu::relay::EOS;
use retpath_support::qemu::{Backing, Guest, Machine, Pair, Qemu, Ram, types};

/// What a guest of 16 MiB is moved with: 300 ms of it do not fit through, so that it never
/// converges; the rest takes about a second.
const PRECOPY: u64 = 1 << 20;
const POSTCOPY: u64 = 8 << 20;

fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// Waits for the end, checks that the guest is well and both sides are content, prints the times.
fn finish(name: &str, pair: &mut Pair, switched: Instant) {
    let guest = &pair.destination;
    let first = guest.wait_said(SOON, "go on", |said| said.first());
    pair.wait_completed(SOON);
    let drained = switched.elapsed();
    pair.destination.wait_healthy(10, SOON);
    let blocktime = pair.destination.blocktime();
    println!(
        "{name}: first output after {:?}, all memory after {drained:?}, {blocktime}",
        first.saturating_duration_since(switched),
    );
    pair.source.wait_left(SOON);
    assert_eq!(pair.destination.run_state(), "running");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_through_precopy() {
    let mut pair = Pair::start(&machine(), &[], None);
    pair.bandwidth(0, 0);
    pair.source.stop();
    pair.source.migrate(&pair.relay.uri());
    pair.wait_completed(SOON);
    pair.destination.cont();
    pair.destination.wait_healthy(10, SOON);
    pair.source.wait_left(SOON);
    assert_eq!(pair.relay.links().len(), 1);
    pair.source.assert_silent();
    pair.destination.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_through_postcopy() {
    let mut pair = Pair::start(&machine(), &[POSTCOPY_RAM], None);
    pair.bandwidth(PRECOPY, POSTCOPY);
    let switched = pair.switch_after(PRECOPY);
    finish("postcopy", &mut pair, switched);
    assert_eq!(pair.relay.links().len(), 1);
    pair.source.assert_silent();
    pair.destination.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_through_the_preempt_channel() {
    for (kind, early) in types::preempt_orders() {
        let capabilities = [POSTCOPY_RAM, POSTCOPY_PREEMPT];
        let mut pair = Pair::start(&machine().kind(&kind), &capabilities, None);
        pair.bandwidth(PRECOPY, POSTCOPY);
        let switched = pair.switch_after(PRECOPY);
        finish(&format!("preempt, {kind}"), &mut pair, switched);
        let links = pair.relay.links();
        assert_eq!(links.len(), 2, "{}", pair.relay);
        assert!(links[1].forward > 0 && links[1].back == 0, "{}", pair.relay);
        assert_eq!(pair.relay.carried(1).ends_with(EOS), early);
        pair.source.assert_silent();
        pair.destination.assert_silent();
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_through_cuts() {
    let mut pair = Pair::start(&machine(), &[POSTCOPY_RAM], None);
    pair.bandwidth(PRECOPY, POSTCOPY);
    let switched = pair.switch_after(PRECOPY);
    for cut in 1..=3 {
        pair.relay.cut_after(700_001);
        pair.relay.wait_cuts(cut, SOON);
        pair.recover();
    }
    finish("three cuts", &mut pair, switched);
    pair.source.assert_silent_but(&PAUSE);
    pair.destination.assert_silent_but(&PAUSE);
    let links = pair.relay.links();
    assert_eq!(links.len(), 4, "{}", pair.relay);
    for link in &links[1..] {
        assert!(
            link.head.starts_with(&[8, 0, 10, 0]),
            "begins with RECV_BITMAP: {link:?}"
        );
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_through_a_pause_of_both_channels() {
    for (kind, _) in types::preempt_orders() {
        let capabilities = [POSTCOPY_RAM, POSTCOPY_PREEMPT];
        let mut pair = Pair::start(&machine().kind(&kind), &capabilities, None);
        pair.bandwidth(PRECOPY, POSTCOPY);
        let switched = pair.switch_after(PRECOPY);
        pair.source.pause();
        pair.recover();
        finish(&format!("preempt, {kind}, one pause"), &mut pair, switched);
        assert_eq!(pair.relay.links().len(), 4, "{}", pair.relay);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn moves_every_byte_of_every_block() {
    let blocks = vec![
        Ram::new("first", 8, Backing::Anonymous),
        Ram::new("shared", 8, Backing::Memfd),
    ];
    let machine = Machine::with_blocks(blocks, Guest::mib(1, 13));
    let mut pair = Pair::start_stopped(&machine, &[POSTCOPY_RAM]);
    pair.bandwidth(PRECOPY, POSTCOPY);
    pair.switch_after(PRECOPY);
    pair.wait_completed(SOON);
    assert_eq!(pair.destination.run_state(), "paused");
    let sent = pair.relay.ram(&[]);
    pair.source.assert_ram(&sent);
    pair.destination.assert_ram(&sent);
    let arrived = pair.destination.ram();
    assert_eq!(sent.blocks().len(), arrived.blocks().len());
    for (sent, arrived) in sent.blocks().iter().zip(arrived.blocks()) {
        assert_eq!(sent.name, arrived.name);
        assert!(sent.bytes() == arrived.bytes(), "{} differs", sent.name);
    }
    pair.destination.cont();
    pair.destination.wait_healthy(10, SOON);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn saves_a_stream_to_a_file() {
    let mut source = Qemu::boot(&machine());
    let path = source.save();
    let saved = fs::read(&path).unwrap();
    assert!(saved.starts_with(b"QEVM\0\0\0\x03"));
    assert_eq!(
        saved.last(),
        Some(&b'}'),
        "ends with the description of the devices"
    );

    let mut destination = Qemu::incoming(&machine());
    let uri = format!("exec:cat {}", path.display());
    destination.run("migrate-incoming", serde_json::json!({ "uri": uri }));
    destination.wait_status(&["completed"], SOON);
    destination.cont();
    destination.wait_healthy(10, SOON);
    destination.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn reports_what_is_wrong_with_a_destination() {
    let mut source = Qemu::boot(&machine());
    let mut other = Qemu::incoming(&Machine::new(32, Guest::mib(1, 8)));
    source.migrate(&unix(&other.listen()));
    let status = other.program().wait(SOON);
    assert_eq!(status.code(), Some(1));
    let errors = other.program().errors();
    assert!(errors.contains("pc.ram"), "{errors}");
}

//! Urgent pages on a channel of their own, and links that break: one channel and both.

use retpath_codec::wire::capability::{
    POSTCOPY_PREEMPT, POSTCOPY_RAM, RETURN_PATH, SWITCHOVER_ACK,
};
use rustix::process::Signal;
use serde_json::json;

use retpath_support::SOON;
use retpath_support::qemu::ground::{Ground, machine};
use retpath_support::qemu::{Guest, Machine, relay, types};

const PREEMPT: [&str; 2] = [POSTCOPY_RAM, POSTCOPY_PREEMPT];

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn receives_urgent_pages_over_the_preempt_channel() {
    for (kind, early) in types::preempt_orders() {
        let more = ["--touch", "500"];
        let mut ground = Ground::new(&machine().kind(&kind), &PREEMPT, &more);
        // Slow enough that the sweep leaves pages to request.
        ground
            .source
            .set(json!({ "max-postcopy-bandwidth": 2 << 20 }));
        ground.switch();
        let report = ground.finish();
        println!("{kind}: {report}");
        let links = ground.relay.links();
        assert_eq!(links.len(), 2, "{}", ground.relay);
        assert!(links[1].forward > 8, "{}", ground.relay);
        assert_eq!(ground.relay.carried(1).ends_with(relay::EOS), early);
        assert_eq!(report["manifest"]["source"]["preempt"], true);
        assert_eq!(ground.retpath.errors().lines().count(), 1);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn loses_nothing_when_the_preempt_channel_carries_no_page() {
    for (kind, _) in types::preempt_orders() {
        let mut ground = Ground::new(&machine().kind(&kind), &PREEMPT, &[]);
        ground.switch();
        ground.finish();
        assert_eq!(ground.relay.links().len(), 2, "{}", ground.relay);
        assert_eq!(ground.retpath.errors().lines().count(), 1);
    }
}

/// Cuts the link five times, at bytes that lie inside of pages.
fn cut(machine: &Machine, capabilities: &[&str], more: &[&str]) {
    let more = [&["--touch", "2000"], more].concat();
    let mut ground = Ground::new(machine, capabilities, &more);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 2 << 20 }));
    ground.switch();
    // From 10.2 on, the source takes a cut for a failure before it is in this state.
    ground.source.wait_status(&["postcopy-active"], SOON);
    for cut in 1..=5 {
        ground.relay.cut_after(700_001);
        ground.relay.wait_cuts(cut, SOON);
        ground.source.wait_status(&["postcopy-paused"], SOON);
        let uri = ground.relay.uri();
        ground.source.resume(&uri);
        ground
            .source
            .wait_status(&["postcopy-active", "completed"], SOON);
    }
    let report = ground.finish();
    println!("{report}");
    assert_eq!(report["pauses"], 5);
    assert_eq!(report["resumes"], 5);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn survives_five_cuts() {
    cut(&machine(), &[POSTCOPY_RAM], &[]);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn survives_five_cuts_of_both_channels() {
    for (kind, _) in types::preempt_orders() {
        cut(&machine().kind(&kind), &PREEMPT, &[]);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn acknowledges_the_switchover_when_the_source_asks() {
    for kind in types::switchover_acks() {
        let capabilities = [RETURN_PATH, POSTCOPY_RAM, SWITCHOVER_ACK];
        let machine = machine().kind(&kind);
        for postcopy in [true, false] {
            for more in [&[][..], &["--switchover-ack"]] {
                let mut ground = Ground::new(&machine, &capabilities, more);
                if postcopy {
                    ground.switch();
                } else {
                    ground.source.set(json!({ "max-bandwidth": 0 }));
                    ground.source.migrate(&ground.relay.uri());
                }
                let (report, _) = ground.finish_live();
                println!("{kind}: {report}");
                assert_eq!(ground.retpath.errors().lines().count(), 1);
            }
        }
    }
}

/// A source that waits for leave, of a machine type that is older than the message.
fn waiting(guest: Guest) -> Option<Ground> {
    if types::release() < (8, 1) {
        types::not_tested("SWITCHOVER_ACK (8.1 and newer)");
        return None;
    }
    let kind = types::up_to((8, 0), "SWITCHOVER_ACK with a machine type up to 8.0")?;
    let machine = Machine::new(16, guest).kind(&kind);
    let capabilities = [RETURN_PATH, POSTCOPY_RAM, SWITCHOVER_ACK];
    Some(Ground::new(&machine, &capabilities, &[]))
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn acknowledges_the_switchover_when_the_source_has_nothing_to_send() {
    // Busy with itself between two passes, so that there is nothing to send in between.
    let guest = Guest {
        pass_spin: 1 << 24,
        ..Guest::mib(1, 8)
    };
    let Some(mut ground) = waiting(guest) else {
        return;
    };
    ground.source.set(json!({ "max-bandwidth": 0 }));
    ground.source.migrate(&ground.relay.uri());
    let (report, _) = ground.finish_live();
    assert_eq!(report["ended_in"], "precopy");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn names_the_likely_cause_when_the_source_does_not_switch() {
    let Some(mut ground) = waiting(Guest::mib(1, 8)) else {
        return;
    };
    ground.switch();
    let likely = |line: &str| line.contains("most likely").then(|| line.to_owned());
    let line = ground.retpath.wait_error(SOON, likely);
    assert!(line.contains("--switchover-ack"), "{line}");
    assert!(line.contains("info migrate_capabilities"), "{line}");
    ground.retpath.signal(Signal::INT);
    assert_eq!(ground.retpath.wait(SOON).code(), Some(1));
    ground.source.wait_status(&["failed"], SOON);
    assert_eq!(ground.source.run_state(), "running");
}

//! Urgent pages on a channel of their own, and links that break: one channel and both.

use serde_json::json;

use super::ground::{Ground, machine};
use super::support::SOON;
use super::support::qemu::{Machine, relay, types};

const PREEMPT: [&str; 2] = ["postcopy-ram", "postcopy-preempt"];

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn takes_urgent_pages_from_the_preempt_channel() {
    for (kind, early) in types::preempt_orders() {
        let more = ["--preempt", "--touch", "500"];
        let mut ground = Ground::new(&machine().kind(&kind), &PREEMPT, &more);
        ground.switch();
        let report = ground.finish();
        println!("{kind}: {report}");
        let links = ground.relay.links();
        assert_eq!(links.len(), 2, "{}", ground.relay);
        assert!(links[1].forward > 8, "{}", ground.relay);
        assert_eq!(ground.relay.carried(1).ends_with(relay::EOS), early);
        assert_eq!(report["manifest"]["source"]["preempt"], true);
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
    cut(&machine(), &["postcopy-ram"], &[]);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn survives_five_cuts_of_both_channels() {
    for (kind, _) in types::preempt_orders() {
        cut(&machine().kind(&kind), &PREEMPT, &["--preempt"]);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn gives_leave_to_a_source_that_asks_for_it() {
    for kind in types::switchover_acks() {
        let capabilities = ["return-path", "postcopy-ram", "switchover-ack"];
        let machine = machine().kind(&kind);
        for postcopy in [true, false] {
            let mut ground = Ground::new(&machine, &capabilities, &["--switchover-ack"]);
            if postcopy {
                ground.switch();
            } else {
                ground.source.set(json!({ "max-bandwidth": 0 }));
                ground.source.migrate(&ground.relay.uri());
            }
            let (report, _) = ground.finish_live();
            println!("{kind}: {report}");
        }
    }
}

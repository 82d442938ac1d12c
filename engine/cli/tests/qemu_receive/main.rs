//! `retpath receive` and `retpath import` against real QEMU: the image equals the memory of the
//! stopped source.

mod chain;
mod channels;
mod failures;
mod huge;
mod import;
mod resumed;

use retpath_codec::wire::capability::{POSTCOPY_RAM, RETURN_PATH};
use serde_json::{Value, json};

use retpath_support::qemu::ground::{Ground, machine};
use retpath_support::qemu::{Backing, Guest, Machine, Ram, types};

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_every_byte_of_a_postcopy_migration() {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
    ground.switch();
    let report = ground.finish();
    assert_eq!(report["ended_in"], "postcopy");
    let source = &report["manifest"]["source"];
    assert_eq!(source["postcopy"], true);
    assert_eq!(source["footers"], true);
    // PING 0x42, for whose PONG it would wait indefinitely.
    assert_eq!(source["asks_loaded"], types::release() >= (10, 2));
    assert_eq!(source["switchover_start"], types::release() >= (10, 0));
    ground.source.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn fetches_touched_pages() {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &["--touch", "2000"]);
    ground.switch();
    let report = ground.finish();
    println!("{report}");
    assert_eq!(report["touches"]["done"], 2000);
    let faults = report["faults"].as_u64().expect("a number");
    assert!(faults > 0, "no touch found its page missing: {report}");
    assert_eq!(report["latency"]["total"]["count"], faults);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_migration_that_ends_in_precopy() {
    for capabilities in [&[][..], &[POSTCOPY_RAM], &[RETURN_PATH]] {
        let mut ground = Ground::new(&machine(), capabilities, &[]);
        ground.source.set(json!({ "max-bandwidth": 0 }));
        ground.source.stop();
        ground.source.migrate(&ground.relay.uri());
        let report = ground.finish();
        assert_eq!(report["ended_in"], "precopy");
        let description = report["manifest"]["description"].as_u64();
        assert!(description > Some(1000), "{report}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_pages_that_a_running_guest_changes_in_precopy() {
    let mut ground = Ground::new(&machine(), &[RETURN_PATH], &[]);
    ground.source.set(json!({ "max-bandwidth": 0 }));
    ground.source.migrate(&ground.relay.uri());
    let (report, _) = ground.finish_live();
    assert_eq!(report["ended_in"], "precopy");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_every_block() {
    let blocks = vec![
        Ram::new("first", 8, Backing::Anonymous),
        Ram::new("shared", 8, Backing::Memfd),
    ];
    let machine = Machine::with_blocks(blocks, Guest::mib(1, 13));
    let mut ground = Ground::new(&machine, &[POSTCOPY_RAM], &["--touch", "200"]);
    ground.switch();
    ground.finish();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_machine_type_without_footers() {
    let Some(kind) = types::without_footers() else {
        return;
    };
    let machine = machine().kind(&kind);
    // In precopy the source closes at the end, unless it waits for an answer first.
    let ways: [(bool, &[&str]); 4] = [
        (true, &[POSTCOPY_RAM]),
        (false, &[]),
        (false, &[RETURN_PATH]),
        (false, &[POSTCOPY_RAM]),
    ];
    for (postcopy, capabilities) in ways {
        let mut ground = Ground::new(&machine, capabilities, &["--touch", "50"]);
        if postcopy {
            ground.switch();
        } else {
            ground.source.set(json!({ "max-bandwidth": 0 }));
            ground.source.stop();
            ground.source.migrate(&ground.relay.uri());
        }
        let report = ground.finish();
        assert_eq!(report["manifest"]["machine"], Value::Null);
        assert_eq!(report["manifest"]["source"]["footers"], false);
        assert_eq!(report["manifest"]["description"].is_null(), postcopy);
    }
}

//! Blocks on huge pages beside others, some of them shared: every byte of each is kept.

use retpath_codec::wire::capability::{POSTCOPY_PREEMPT, POSTCOPY_RAM};
use retpath_engine::memory;
use serde_json::{Value, json};

use retpath_support::SOON;
use retpath_support::kernel::Pool;
use retpath_support::qemu::ground::{self, Ground};
use retpath_support::qemu::{Backing, Guest, Machine, Ram, types};

/// Huge pages that the machine takes.
const PAGES: u64 = 5;

fn machine() -> Machine {
    let blocks = vec![
        Ram::new("small", 4, Backing::Anonymous),
        Ram::new("huge", 8, Backing::Huge),
        Ram::new("shared", 4, Backing::Memfd),
        Ram::new("more", 2, Backing::Huge),
    ];
    Machine::with_blocks(blocks, Guest::mib(1, 15).scattered())
}

const MORE: [&str; 6] = [
    "--block-page-size",
    "huge=2M",
    "--block-page-size",
    "more=2M",
    "--touch",
    "200",
];

fn assert_sizes(report: &Value) {
    let blocks = report["manifest"]["blocks"].as_array().expect("a list");
    for (name, size) in [("small", 4096), ("huge", 2 << 20), ("more", 2 << 20)] {
        let block = blocks.iter().find(|block| block["name"] == name);
        assert_eq!(block.expect("the block")["page_size"], size, "{name}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_blocks_of_huge_pages() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &MORE);
    ground.switch();
    assert_sizes(&ground.finish());
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_huge_pages_that_come_over_both_channels() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    for (kind, _) in types::preempt_orders() {
        let more = [&MORE[..], &["--preempt"]].concat();
        let capabilities = [POSTCOPY_RAM, POSTCOPY_PREEMPT];
        let mut ground = Ground::new(&machine().kind(&kind), &capabilities, &more);
        ground.switch();
        let report = ground.finish();
        println!("{kind}: {report}");
        assert_sizes(&report);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn forgets_half_a_huge_page_where_the_link_is_cut() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &MORE);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 4 << 20 }));
    ground.switch();
    ground.source.wait_status(&["postcopy-active"], SOON);
    // QEMU 11.1 now and then continues the interrupted huge page behind its first target page,
    // which it never sends (seen in about 1 of 14 runs). `receive` refuses that, and the migration
    // pauses once more.
    let mut resumes = 0;
    loop {
        let cuts = ground.relay.cuts();
        if cuts < 3 {
            ground.relay.cut_after(2_500_001);
        }
        let states = ["postcopy-paused", "completed"];
        if ground.source.wait_status(&states, SOON) == "completed" {
            break;
        }
        let was_cut = ground.relay.cuts() > cuts;
        assert!(was_cut || ground.source.release() >= (11, 0), "no cut");
        let uri = ground.relay.uri();
        ground.source.resume(&uri);
        resumes += 1;
        ground
            .source
            .wait_status(&["postcopy-active", "completed"], SOON);
    }
    assert_eq!(ground.relay.cuts(), 3);
    let report = ground.finish();
    assert_eq!(report["resumes"], resumes);
    assert_sizes(&report);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn learns_page_sizes_from_a_source_that_may_switch() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
    ground.switch();
    assert_sizes(&ground.finish());
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn refuses_a_page_size_that_differs_from_the_sources() {
    let mut ground = Ground::new(
        &ground::machine(),
        &[POSTCOPY_RAM],
        &["--block-page-size", "pc.ram=2M"],
    );
    ground.source.migrate(&ground.relay.uri());
    let message = ground.refusal();
    assert!(message.contains("--block-page-size"), "{message}");
    assert!(message.contains("nothing is lost"), "{message}");
    ground.source.wait_status(&["failed"], SOON);
    ground.source.wait_healthy(5, SOON);
}

//! `retpath serve` boots QEMUs with blocks on huge pages beside others, some of them shared.
//!
//! Needs huge pages in the pool; reserves them where it may, and says so where it may not.

use retpath_codec::wire::capability::POSTCOPY_PREEMPT;
use retpath_engine::memory;
use retpath_support::SOON;
use retpath_support::kernel::Pool;
use retpath_support::qemu::{Backing, Guest, Image, Machine, Ram, Relay, types};

/// Huge pages that the machine takes, and those in which QEMU puts pages together, one a channel.
const PAGES: u64 = 5 + 2;

fn machine() -> Machine {
    let blocks = vec![
        Ram::new("small", 4, Backing::Anonymous),
        Ram::new("huge", 8, Backing::Huge),
        Ram::new("shared", 4, Backing::Memfd),
        Ram::new("more", 2, Backing::Huge),
    ];
    Machine::with_blocks(blocks, Guest::mib(1, 15).scattered())
}

/// A saved stream does not tell page sizes.
fn image(machine: &Machine) -> Image {
    let sizes = [
        "--block-page-size",
        "huge=2M",
        "--block-page-size",
        "more=2M",
    ];
    Image::import(machine, &sizes)
}

/// Boots the machine, cutting the links so many times.
fn boot(machine: &Machine, capabilities: &[&str], more: &[&str], cuts: usize) {
    let image = image(machine);
    let (mut qemu, _) = image.destination(capabilities);
    let relay = Relay::new(&qemu.socket());
    if cuts > 0 {
        relay.cut_after(2_500_001);
    }
    let mut served = image.serve(&[&relay.uri()], more);
    for cut in 1..=cuts {
        relay.wait_cuts(cut, SOON);
        qemu.wait_pauses(cut, SOON);
        if cut < cuts {
            relay.cut_after(2_500_001);
        }
        qemu.try_recover();
    }
    qemu.wait_status(&["completed"], SOON);
    served.wait_success(SOON);
    qemu.wait_healthy(10, SOON);
    if cuts == 0 {
        qemu.assert_silent();
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serves_huge_pages() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    boot(&machine(), &[], &[], 0);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serves_huge_pages_through_the_preempt_channel() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    for (kind, _) in types::preempt_orders() {
        let more = ["--preempt", "--bandwidth", "8M"];
        boot(&machine().kind(&kind), &[POSTCOPY_PREEMPT], &more, 0);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn sends_half_a_huge_page_again_where_the_link_was_cut() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    boot(&machine(), &[], &["--bandwidth", "4M"], 3);
    for (kind, _) in types::preempt_orders() {
        let more = ["--preempt", "--bandwidth", "4M"];
        boot(&machine().kind(&kind), &[POSTCOPY_PREEMPT], &more, 3);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn reports_that_nothing_is_lost_when_page_sizes_differ() {
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, PAGES) else {
        return;
    };
    // Imported as if all pages were small.
    let image = Image::saved(&machine());
    let (mut qemu, uri) = image.destination(&[]);
    let mut served = image.serve(&[&uri], &[]);
    assert_eq!(served.wait(SOON).code(), Some(1));
    qemu.program().wait(SOON);
    let errors = served.errors();
    assert!(errors.contains("nothing is lost"), "{errors}");
    assert!(errors.contains("--block-page-size"), "{errors}");
}

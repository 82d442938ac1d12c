//! QEMU's huge pages, proved with QEMU on both sides. Needs pages in the pool; reserves them where
//! it may.

use retpath_codec::wire::capability::POSTCOPY_RAM;
use retpath_engine::memory;
use retpath_support::SOON;
use retpath_support::kernel::Pool;
use retpath_support::qemu::{Backing, Guest, Machine, Pair, Ram};

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_on_huge_pages_whole_through_postcopy() {
    // Each side has 4 pages of its own, and the destination one more to put a page together.
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, 10) else {
        return;
    };
    let blocks = vec![
        Ram::new("small", 8, Backing::Anonymous),
        Ram::new("huge", 8, Backing::Huge),
    ];
    let machine = Machine::with_blocks(blocks, Guest::mib(1, 13));
    let mut pair = Pair::start(&machine, &[POSTCOPY_RAM], None);
    let huge = pair.source.blocks().remove(1);
    assert_eq!((huge.name.as_str(), huge.page_size), ("huge", 2 << 20));
    pair.bandwidth(1 << 20, 16 << 20);
    pair.switch_after(1 << 20);
    pair.wait_completed(SOON);
    pair.destination.wait_healthy(10, SOON);
    println!("{}", pair.destination.blocktime());
}

//! The ground on which `retpath` meets QEMU, proved with QEMU on both sides: what a test sees there
//! is then the fault of neither the guest nor the harness.

mod support;

use std::time::{Duration, Instant};

use support::SOON;
use support::qemu::{Guest, Machine, Pair, Qemu};

/// Moves a 16 MiB guest that writes 1 MiB without pause, by postcopy, and checks it there.
#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_guest_whole_through_postcopy() {
    let machine = Machine::new(16, Guest::mib(1, 8));
    let mut pair = Pair::start(&machine, &["postcopy-ram"], None);
    pair.bandwidth(1 << 20, 8 << 20);
    let switched = pair.switch_after(1 << 20);
    let first = pair.destination.wait_said(SOON, "go on", |said| said.first());
    pair.wait_completed(SOON);
    println!("first {:?} drain {:?}", first - switched, switched.elapsed());
    pair.destination.wait_healthy(10, SOON);
    println!("{}", pair.destination.query_migrate());
    println!("{}", pair.source.query_migrate());
    println!("{:?}", pair.source.states());
    println!("{:?}", pair.destination.states());
    println!("{}", pair.relay);
    println!("{:?}", pair.destination.start_time);
    println!("{:?}", pair.source.blocks());
}

//! How long a guest waits for its memory when it is booted by postcopy on a real QEMU: from another
//! QEMU, and from an image by `retpath serve`. Same guest, same destination, same bandwidth, by turns.
//!
//! ```text
//! cargo bench -p retpath --bench qemu                          every cell
//! cargo bench -p retpath --bench qemu -- 'preempt channel'     cells whose name contains this
//! ```
//!
//! RETPATH_QEMU names the QEMU; by default it is the 11.1 that `.ci/qemu-builds` installs.
//! RETPATH_BENCH_MIB (256) and RETPATH_BENCH_RUNS (5) change the machine's size and the number of
//! runs; RETPATH_BENCH_SOURCE limits them to one source, `qemu` or `serve`.
//!
//! Compares figures that QEMU's destination takes: how long vCPUs stood still
//! (`postcopy-blocktime`), the mean latency of a fault (10.1 and newer), and the time from the state
//! `postcopy-active` to `completed`. Asserts only that the guest is well.

use std::env;

use retpath_support::qemu::{Guest, Image, Machine};

mod boots;

use boots::{Figures, by_qemu, by_serve, cells, choose_qemu, number};

fn main() {
    choose_qemu();
    let mib = number("RETPATH_BENCH_MIB", 256);
    let runs = number("RETPATH_BENCH_RUNS", 5);
    let only = env::var("RETPATH_BENCH_SOURCE").unwrap_or_default();
    let quiet = u32::try_from(mib * 5 / 8).expect("a small number");
    let guest = Guest {
        sweep: 1024,
        stride: 509,
        ..Guest::mib(4, quiet)
    };
    let machine = Machine::new(mib, guest);
    let image = Image::saved(&machine);
    for (cell, preempt, bandwidth) in cells(&[0, 64 << 20]) {
        let (mut qemu, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            if only != "serve" {
                qemu.push(by_qemu(&machine, preempt, bandwidth));
            }
            if only != "qemu" {
                ours.push(by_serve(&image, preempt, bandwidth, &[]));
            }
        }
        println!("\n{mib} MiB, {cell}, median of {runs}");
        println!(
            "{:<30} {:>12} {:>12} {:>8}",
            "source", "QEMU", "retpath", "ratio"
        );
        for (name, figure) in Figures::ROWS {
            let [qemu, ours] = [&qemu, &ours].map(|runs| Figures::median(runs, figure));
            println!("{name:<30} {qemu:>12.1} {ours:>12.1} {:>8.2}", ours / qemu);
        }
    }
}

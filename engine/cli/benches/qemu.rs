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

use retpath_support::qemu::{Guest, Image, Machine};

mod boot;

use boot::{Settings, by_qemu, by_serve, cell, median, print_table};

fn main() {
    let settings = Settings::read(5);
    let Settings { mib, runs, .. } = settings;
    let quiet = u32::try_from(mib * 5 / 8).expect("a small number");
    let guest = Guest {
        sweep: 1024,
        stride: 509,
        ..Guest::mib(4, quiet)
    };
    let machine = Machine::new(mib, guest);
    let image = Image::saved(&machine);
    for preempt in [false, true] {
        for bandwidth in [0, 64 << 20] {
            let cell = cell(preempt, bandwidth);
            if !settings.wants(&cell) {
                continue;
            }
            let (mut qemu, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                if settings.wants_source("qemu") {
                    qemu.push(by_qemu(&machine, preempt, bandwidth));
                }
                if settings.wants_source("serve") {
                    ours.push(by_serve(&image, preempt, bandwidth, &[]));
                }
            }
            println!("\n{mib} MiB, {cell}, median of {runs}");
            print_table(&[("QEMU", median(&qemu)), ("retpath", median(&ours))]);
        }
    }
}

//! What it saves to send what continues a stream of requests, on a real QEMU: guests that go through
//! their memory in order, in strides and at random, booted from another QEMU and from an image by
//! `retpath serve` without and with prediction, by turns.
//!
//! ```text
//! cargo bench -p retpath --bench streams                       every cell
//! cargo bench -p retpath --bench streams -- 'stride 7'         cells whose name contains this
//! ```
//!
//! RETPATH_QEMU, RETPATH_BENCH_MIB (256), RETPATH_BENCH_RUNS (3) and RETPATH_BENCH_SOURCE are those
//! of the benchmark `qemu`. The limit is 64 MiB/s in every cell.

use retpath_support::qemu::{Guest, Image, Machine};

mod boot;

use boot::{Settings, by_qemu, by_serve, cell, median, print_table};

const BANDWIDTH: u64 = 64 << 20;

/// What prediction must reach with a guest: largest ratios.
struct Goals {
    /// Requests, to those without prediction.
    requests: f64,
    /// Time that the vCPU stood still, and what it is compared with.
    stall: (f64, &'static str),
}

const IN_ORDER: Goals = Goals {
    requests: 1.0 / 8.0,
    stall: (0.3, "QEMU"),
};

const RANDOM: Goals = Goals {
    requests: 1.05,
    stall: (1.05, "off"),
};

/// A guest that visits most of its memory in strides, over and over.
fn strided(mib: u64, stride: u32) -> Guest {
    let hot = u32::try_from(mib * 5 / 8).expect("a small number");
    Guest {
        stride,
        ..Guest::mib(hot, 1)
    }
}

fn main() {
    let settings = Settings::read(3);
    let Settings { mib, runs, .. } = settings;
    let guests = [
        ("in order", strided(mib, 1), IN_ORDER),
        ("stride 7", strided(mib, 7), IN_ORDER),
        ("far apart", strided(mib, 1).scattered(), RANDOM),
    ];
    for (name, guest, goals) in guests {
        let cells = [false, true].map(|preempt| (preempt, cell(preempt, BANDWIDTH)));
        let cells = cells.map(|(preempt, cell)| (preempt, format!("{name}, {cell}")));
        if !cells.iter().any(|(_, cell)| settings.wants(cell)) {
            continue;
        }
        let machine = Machine::new(mib, guest);
        let image = Image::saved(&machine);
        for (preempt, cell) in cells {
            if !settings.wants(&cell) {
                continue;
            }
            let (mut qemu, mut off, mut on) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..runs {
                if settings.wants_source("qemu") {
                    qemu.push(by_qemu(&machine, preempt, BANDWIDTH));
                }
                if settings.wants_source("serve") {
                    off.push(by_serve(&image, preempt, BANDWIDTH, &["--no-predict"]));
                    on.push(by_serve(&image, preempt, BANDWIDTH, &[]));
                }
            }
            println!("\n{mib} MiB, {cell}, median of {runs}");
            let [qemu, off, on] = [&qemu, &off, &on].map(|boots| median(boots));
            print_table(&[("QEMU", qemu), ("off", off), ("predicting", on)]);
            let [stall, requests, ..] = on;
            verdict("requests", requests / off[1], goals.requests, "off");
            let (most, beside) = goals.stall;
            let beside_stall = if beside == "off" { off[0] } else { qemu[0] };
            verdict("stood still", stall / beside_stall, most, beside);
        }
    }
}

fn verdict(what: &str, ratio: f64, most: f64, beside: &str) {
    let verdict = if ratio <= most { "met" } else { "MISSED" };
    println!("{what}: {ratio:.3} of {beside}, goal {most:.3}: {verdict}");
}

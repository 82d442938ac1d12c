//! What it saves to send what continues a stream of requests, on a real QEMU: guests that go through
//! their memory in order, in strides and at random, booted from another QEMU and from an image by
//! `retpath serve` without and with prediction, by turns.
//!
//! ```text
//! cargo bench -p retpath --bench streams                       every cell
//! cargo bench -p retpath --bench streams -- preempt            cells whose name contains this
//! ```
//!
//! RETPATH_QEMU, RETPATH_BENCH_MIB (256) and RETPATH_BENCH_RUNS (3) are those of the benchmark
//! `qemu`; RETPATH_BENCH_GUEST limits it to one guest, such as `stride 7`. The limit is 64 MiB/s in
//! every cell.

use std::env;

use retpath_support::qemu::{Guest, Image, Machine};

mod boots;

use boots::{Figures, by_qemu, by_serve, cells, choose_qemu, number};

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
    choose_qemu();
    let mib = number("RETPATH_BENCH_MIB", 256);
    let runs = number("RETPATH_BENCH_RUNS", 3);
    let only = env::var("RETPATH_BENCH_GUEST").unwrap_or_default();
    let guests = [
        ("in order", strided(mib, 1), IN_ORDER),
        ("stride 7", strided(mib, 7), IN_ORDER),
        ("far apart", strided(mib, 1).scattered(), RANDOM),
    ];
    for (name, guest, goals) in guests {
        if !only.is_empty() && only != name {
            continue;
        }
        let machine = Machine::new(mib, guest);
        let image = Image::saved(&machine);
        for (cell, preempt, bandwidth) in cells(&[64 << 20]) {
            let (mut qemu, mut off, mut on) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..runs {
                qemu.push(by_qemu(&machine, preempt, bandwidth));
                off.push(by_serve(&image, preempt, bandwidth, &["--no-predict"]));
                on.push(by_serve(&image, preempt, bandwidth, &[]));
            }
            println!("\n{mib} MiB, {name}, {cell}, median of {runs}");
            println!(
                "{:<30} {:>12} {:>12} {:>12}",
                "source", "QEMU", "off", "predicting"
            );
            for (row, figure) in Figures::ROWS {
                let [qemu, off, on] = [&qemu, &off, &on].map(|runs| Figures::median(runs, figure));
                println!("{row:<30} {qemu:>12.1} {off:>12.1} {on:>12.1}");
            }
            let ratio = |figure: fn(&Figures) -> f64, beside: &[Figures]| {
                Figures::median(&on, figure) / Figures::median(beside, figure)
            };
            let requests = ratio(|boot| boot.requests, &off);
            verdict("requests", requests, goals.requests, "off");
            let (most, beside) = goals.stall;
            let other = if beside == "off" { &off } else { &qemu };
            verdict(
                "stood still",
                ratio(|boot| boot.blocked, other),
                most,
                beside,
            );
        }
    }
}

fn verdict(what: &str, ratio: f64, most: f64, beside: &str) {
    let verdict = if ratio <= most { "met" } else { "MISSED" };
    println!("{what}: {ratio:.3} of {beside}, goal {most:.3}: {verdict}");
}

//! Compares serving an image with verification against its digests to serving it without: whole
//! migrations, alternating and with the same CPU affinity.
//!
//! `cargo bench -p retpath-image --bench image` prints a table; `-- --gate` also fails when a goal
//! is missed. The image is in the page cache, where the digests cost most.

use std::path::Path;

use retpath_image::Image;

use retpath_support::harness::{
    APART, Row, Setup, TOGETHER, Touch, finish, median, migrate, percentile,
};
use retpath_support::small_image::make_full;

/// Size of the guest.
const MIB: u64 = 512;

/// Runs one migration of the image.
fn served(image: &Path, verified: bool, mut setup: Setup) -> retpath_support::harness::Served {
    setup.mib = MIB;
    let image = image.to_owned();
    migrate(setup, move || {
        let image = match verified {
            true => Image::open(&image),
            false => Image::open_unverified(&image),
        };
        image.expect("image is complete")
    })
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|a| a == "--quick");
    let rounds = if quick { 3 } else { 9 };
    let folder = tempfile::tempdir().expect("temporary folder can be created");
    let image = make_full(folder.path(), MIB);
    let rows = [sweep(&image, rounds), faults(&image, rounds)];
    finish(&rows, "with digests", "without", &args);
}

/// Measures the background sweep into an idle destination, with the sides on two CPUs.
fn sweep(image: &Path, rounds: usize) -> Row {
    let setup = Setup {
        mib: MIB,
        pins: APART,
        touch: Touch::Nothing,
        bandwidth: 0,
        preempt: false,
    };
    let seconds = |verified| served(image, verified, setup).seconds;
    let speed = |seconds: f64| (MIB << 21) as f64 / seconds / 1e9;
    // The first run is slow while the machine finds unused memory.
    seconds(false);
    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..rounds {
        // Alternate, so that a change in machine speed favors neither variant.
        let first = seconds(true);
        without.push(speed(seconds(false) + seconds(false)));
        with.push(speed(first + seconds(true)));
    }
    let ratio = median(with.iter().zip(&without).map(|(a, b)| a / b).collect());
    Row {
        what: "sweep from an image",
        unit: "GB/s",
        ours: median(with),
        floor: median(without),
        ratio,
        goal: "≥ 0.95",
        met: ratio >= 0.95,
    }
}

/// Measures a remote fault with all threads on one CPU: each fault reads and checks a whole piece.
fn faults(image: &Path, rounds: usize) -> Row {
    let setup = Setup {
        mib: MIB,
        pins: TOGETHER,
        touch: Touch::Pages(5_000),
        bandwidth: 1,
        preempt: false,
    };
    let time = |verified| percentile(&served(image, verified, setup).touches, 500) / 1e3;
    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..rounds {
        with.push(time(true));
        without.push(time(false));
    }
    let ratio = median(with.iter().zip(&without).map(|(a, b)| a / b).collect());
    Row {
        what: "remote fault, one CPU, p50",
        unit: "µs",
        ours: median(with),
        floor: median(without),
        ratio,
        goal: "≤ 1.25",
        met: ratio <= 1.25,
    }
}

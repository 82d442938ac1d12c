//! Compares the background sweep of a machine with huge pages with its floor: a raw program
//! that reads the same bytes from a socket into one buffer and places it.
//!
//! `cargo bench -p retpath-engine --bench huge` prints a table; `-- --gate` also fails when
//! a goal is missed. Reserves 2 MiB pages for the run, and needs permission for that.
//! `floor.c` is the raw program; it needs a C compiler.

use retpath_engine::memory::{Backing, Memory, SealedMemory};
use retpath_support::harness::{APART, Floor, Row, Setup, Touch, finish, median, migrate_with};
use retpath_support::kernel::Pool;
use retpath_support::loops::receive_options;

const MIB: u64 = 1024;

/// Bytes of a host page.
const HUGE_2M: u64 = 2 << 20;
const HUGE_1G: u64 = 1 << 30;

/// Seconds from the guest's start to the last page of a machine with pages of `page` bytes.
fn sweep(page: u64) -> f64 {
    let setup = Setup {
        mib: MIB,
        pins: APART,
        touch: Touch::Nothing,
        bandwidth: 0,
        preempt: false,
    };
    let options = receive_options(false);
    let served = migrate_with(setup, (Backing::Huge2M, page), options, || {
        let memory = Memory::new(Backing::Anonymous, MIB << 20).expect("memory can be mapped");
        let run = vec![7; 1 << 16];
        for at in (0..MIB << 20).step_by(run.len()) {
            memory.write(at, &run).expect("range lies in the block");
        }
        let memory: SealedMemory = memory.seal().expect("memory is not shared");
        vec![memory]
    });
    served.seconds
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = if args.iter().any(|a| a == "--quick") {
        3
    } else {
        9
    };
    let pages = (MIB << 20) / HUGE_2M;
    let Some(_pool) = Pool::reserve(Backing::Huge2M, pages) else {
        return;
    };
    let floor = Floor::build();
    // The first run is slow while the machine finds unused memory.
    sweep(HUGE_2M);
    let mib = MIB.to_string();
    let bytes = (MIB << 20) as f64;
    let (mut small, mut large, mut floors, mut mapped) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        small.push(bytes / sweep(HUGE_2M) / 1e9);
        floors.push(floor.run(&["huge", "0", "1", &mib])[0] / 1e9);
        mapped.push(floor.run(&["continue", "0", "1", &mib])[0] / 1e9);
        // A page of 1 GiB is read and then placed.
        let place = floor.run(&["page", "0", &mib])[0];
        let read = bytes / floor.run(&["socket", "0", "1", &mib])[0];
        large.push((sweep(HUGE_1G), read + place));
    }
    let ratio = |ours: &[f64], floors: &[f64]| {
        median(ours.iter().zip(floors).map(|(a, b)| a / b).collect())
    };
    let (ours_1g, floors_1g): (Vec<f64>, Vec<f64>) = large.into_iter().unzip();
    let (by_copy, by_map) = (ratio(&small, &floors), ratio(&mapped, &floors));
    let one = ratio(&ours_1g, &floors_1g);
    let rows = [
        Row {
            what: "sweep of 2 MiB pages; floor: a raw program that reads the socket and places",
            unit: "GB/s",
            ours: median(small),
            floor: median(floors.clone()),
            ratio: by_copy,
            goal: "≥ 0.9",
            met: by_copy >= 0.9,
        },
        Row {
            what: "raw program that reads into the page and maps it (UFFDIO_CONTINUE); floor: the same",
            unit: "GB/s",
            ours: median(mapped),
            floor: median(floors),
            ratio: by_map,
            goal: "-",
            met: true,
        },
        Row {
            what: "one page of 1 GiB; floor: raw programs that read 1 GiB, then UFFDIO_COPY it",
            unit: "s",
            ours: median(ours_1g),
            floor: median(floors_1g),
            ratio: one,
            goal: "≤ 1.5",
            met: one <= 1.5,
        },
    ];
    finish(&rows, "engine", "floor", &args);
}

//! Compares page service with its floors: raw programs that do the same work without
//! the engine, alternating with it and with the same CPU affinity.
//!
//! `cargo bench -p retpath-engine` prints a table; `-- --gate` also fails when
//! a goal is missed. `floor.c` is the raw program; it needs a C compiler.

use retpath_engine::memory::{Backing, Memory, SealedMemory};

use retpath_support::harness::{
    APART, Floor, Pins, Row, Served, Setup, TOGETHER, Touch, finish, median, percentile,
};

fn migrate(mib: u64, pins: Pins, touch: Touch, bandwidth: u64, preempt: bool) -> Served {
    let setup = Setup {
        mib,
        pins,
        touch,
        bandwidth,
        preempt,
    };
    retpath_support::harness::migrate(setup, move || -> Vec<SealedMemory> {
        let len = mib << 20;
        let memory = Memory::new(Backing::Anonymous, len).expect("memory can be mapped");
        let page = vec![7; 1 << 16];
        for at in (0..len).step_by(page.len()) {
            memory.write(at, &page).expect("range lies in the block");
        }
        vec![memory.seal().expect("memory is not shared")]
    })
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = if args.iter().any(|a| a == "--quick") {
        3
    } else {
        9
    };
    let floor = Floor::build();
    let named = args.iter().any(|a| !a.starts_with('-'));
    let wanted = |name: &str| !named || args.iter().any(|a| a == name);
    let mut rows = Vec::new();
    if wanted("faults") {
        rows.extend(faults(&floor, rounds));
    }
    if wanted("sweep") {
        rows.extend(sweep(&floor, rounds));
    }
    if wanted("load") {
        rows.extend([
            under_load(
                rounds,
                "remote fault during a full-speed sweep, preempt channel, p99; floor: no sweep",
                true,
            ),
            under_load(
                rounds,
                "remote fault during a full-speed sweep, one channel, p99; floor: no sweep",
                false,
            ),
        ]);
    }

    finish(&rows, "engine", "floor", &args);
}

/// Measures a remote fault over a Unix socket with all threads on one CPU.
fn faults(floor: &Floor, rounds: usize) -> Vec<Row> {
    let (mut ours, mut floors) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..rounds {
        let served = migrate(40, TOGETHER, Touch::Pages(10_000), 1, false);
        let raw = floor.run(&["fault", "unix", "0", "0", "10000"]);
        for (i, thousandths) in [500, 990].into_iter().enumerate() {
            ours[i].push(percentile(&served.touches, thousandths) / 1e3);
            floors[i].push(raw[i] / 1e3);
        }
    }
    let mut rows = Vec::new();
    for (i, (what, goal, most)) in [
        ("remote fault, one CPU, p50", "≤ 1.15", 1.15),
        ("remote fault, one CPU, p99", "≤ 1.5", 1.5),
    ]
    .into_iter()
    .enumerate()
    {
        let ratio = median(ours[i].iter().zip(&floors[i]).map(|(a, b)| a / b).collect());
        rows.push(Row {
            what,
            unit: "µs",
            ours: median(ours[i].clone()),
            floor: median(floors[i].clone()),
            ratio,
            goal,
            met: ratio <= most,
        });
    }
    rows
}

/// Runs a migration twice, and returns the second, as the raw program does: memory that
/// was free for a while is slow to touch.
fn second(migration: impl Fn() -> Served) -> Served {
    migration();
    migration()
}

/// Measures the background sweep into an idle destination, with the sides on two CPUs.
fn sweep(floor: &Floor, rounds: usize) -> Vec<Row> {
    const MIB: u64 = 1024;
    let migration = || second(|| migrate(MIB, APART, Touch::Nothing, 0, false)).seconds;
    let (mut ours, mut slower, mut joined) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        ours.push((MIB << 20) as f64 / migration() / 1e9);
        let mib = MIB.to_string();
        let socket = floor.run(&["socket", "0", "1", &mib])[0];
        let copy = floor.run(&["copy", "0", &mib])[0];
        slower.push(socket.min(copy) / 1e9);
        joined.push(floor.run(&["both", "0", "1", &mib])[0] / 1e9);
    }
    let row = |what, floors: Vec<f64>| {
        let ratio = median(ours.iter().zip(&floors).map(|(a, b)| a / b).collect());
        Row {
            what,
            unit: "GB/s",
            ours: median(ours.clone()),
            floor: median(floors),
            ratio,
            goal: "≥ 0.8",
            met: ratio >= 0.8,
        }
    };
    vec![
        row(
            "sweep; floor: a raw program that reads the socket and places",
            joined,
        ),
        row(
            "sweep; floor: the slower of socket and UFFDIO_COPY, each alone",
            slower,
        ),
    ]
}

/// Compares faults during a full-speed background sweep with faults without a sweep.
fn under_load(rounds: usize, what: &'static str, preempt: bool) -> Row {
    let (mut loaded, mut idle) = (vec![], vec![]);
    for _ in 0..rounds {
        let quiet = migrate(40, APART, Touch::Pages(5_000), 1, preempt);
        idle.push(percentile(&quiet.touches, 990) / 1e3);
        let busy = second(|| migrate(2048, APART, Touch::Pages(5_000), 0, preempt));
        // Accesses to pages that the sweep already placed are not faults.
        let faults: Vec<u64> = busy.touches.into_iter().filter(|ns| *ns > 2_000).collect();
        loaded.push(percentile(&faults, 990) / 1e3);
    }
    let ratio = median(loaded.iter().zip(&idle).map(|(a, b)| a / b).collect());
    Row {
        what,
        unit: "µs",
        ours: median(loaded),
        floor: median(idle),
        ratio,
        goal: "≤ 2",
        met: ratio <= 2.0,
    }
}

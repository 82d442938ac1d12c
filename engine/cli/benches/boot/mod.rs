//! Boots a guest by postcopy, from QEMU or from `retpath serve`, and takes the destination's
//! figures. Shared by the benchmarks on a real QEMU.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use retpath_codec::wire::capability::{POSTCOPY_BLOCKTIME, POSTCOPY_PREEMPT, POSTCOPY_RAM};
use retpath_support::SOON;
use retpath_support::qemu::image::report;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::{Image, Machine, Qemu};

/// What one boot took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Time that the vCPU stood still, in ms.
    blocked: f64,
    /// Requests that reached the source.
    requests: f64,
    /// Mean latency of a fault in µs: QEMU's own figure, or else time stood still per request.
    fault: f64,
    /// From the start of the guest until all memory was there, in ms.
    drain: f64,
    /// From the start of the guest until it had checked all of its memory, in ms.
    settle: f64,
}

impl Figures {
    const NAMES: [&'static str; 5] = [
        "vCPU stood still, ms",
        "requests",
        "fault, mean, µs",
        "drain, ms",
        "guest through its memory, ms",
    ];

    fn list(self) -> [f64; 5] {
        [
            self.blocked,
            self.requests,
            self.fault,
            self.drain,
            self.settle,
        ]
    }
}

/// A destination that counts, and the moment it began to listen.
fn destination(machine: &Machine, preempt: bool) -> (Qemu, String) {
    let mut qemu = Qemu::incoming(machine);
    qemu.enable(&[POSTCOPY_RAM, POSTCOPY_BLOCKTIME]);
    if preempt {
        qemu.enable(&[POSTCOPY_PREEMPT]);
    }
    let uri = unix(&qemu.listen());
    (qemu, uri)
}

/// Waits for the end and takes the destination's figures. `requests` is asked after the end.
fn measure(qemu: &mut Qemu, requests: impl FnOnce() -> f64) -> Figures {
    qemu.wait_status(&["completed"], SOON * 3);
    qemu.wait_healthy(1, SOON * 3);
    let requests = requests();
    let when = |qemu: &mut Qemu, state: &str| {
        let found = qemu.states().iter().find(|(name, _)| name == state);
        found.map_or(0, |(_, micros)| *micros)
    };
    let (active, completed) = (when(qemu, "postcopy-active"), when(qemu, "completed"));
    let said = qemu.said();
    let sweep = said.sweeps.get(1).copied();
    let settle = sweep.zip(said.first());
    let settle = settle.map_or(Duration::ZERO, |(end, start)| end - start);
    let time = qemu.blocktime();
    let blocked = time.vcpu.iter().sum::<u64>() as f64;
    Figures {
        blocked,
        requests,
        fault: match time.latency {
            Some(nanos) => nanos as f64 / 1e3,
            None => blocked * 1e3 / requests.max(1.0),
        },
        drain: (completed - active) as f64 / 1e3,
        settle: settle.as_secs_f64() * 1e3,
    }
}

pub(crate) fn by_qemu(machine: &Machine, preempt: bool, bandwidth: u64) -> Figures {
    let mut source = Qemu::boot(machine);
    let (mut there, uri) = destination(machine, preempt);
    source.enable(&[POSTCOPY_RAM]);
    if preempt {
        source.enable(&[POSTCOPY_PREEMPT]);
    }
    // Next to nothing before the switch, as with `serve`.
    source.set(serde_json::json!({
        "max-bandwidth": 1 << 16, "max-postcopy-bandwidth": bandwidth,
    }));
    source.migrate(&uri);
    source.wait_status(&["active"], SOON);
    source.start_postcopy();
    let requests = || {
        source.wait_status(&["completed"], SOON);
        let info = source.query_migrate();
        info["ram"]["postcopy-requests"].as_f64().unwrap_or(0.0)
    };
    measure(&mut there, requests)
}

pub(crate) fn by_serve(image: &Image, preempt: bool, bandwidth: u64, options: &[&str]) -> Figures {
    let (mut there, uri) = destination(image.machine(), preempt);
    let bandwidth = bandwidth.to_string();
    let mut more = [&["--bandwidth", &bandwidth], options].concat();
    if preempt {
        more.push("--preempt");
    }
    let mut served = image.serve(&[&uri], &more);
    let requests = || {
        served.wait_success(SOON);
        let report = report(&served);
        let requests = &report["destinations"][0]["requests"];
        requests["arrived"].as_f64().unwrap_or(0.0)
    };
    measure(&mut there, requests)
}

pub(crate) fn median(runs: &[Figures]) -> [f64; 5] {
    let mut all = [0.0; 5];
    for (at, middle) in all.iter_mut().enumerate() {
        let mut values: Vec<f64> = runs.iter().map(|run| run.list()[at]).collect();
        values.sort_by(f64::total_cmp);
        *middle = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    }
    all
}

/// What the command line and the environment ask for.
pub(crate) struct Settings {
    /// Size of the machine in MiB.
    pub(crate) mib: u64,
    /// Boots of each kind, of which the median counts.
    pub(crate) runs: u64,
    only: String,
    filters: Vec<String>,
}

impl Settings {
    /// Reads them. Runs this program again if the environment names no QEMU.
    pub(crate) fn read(runs: u64) -> Self {
        if env::var_os("RETPATH_QEMU").is_none() {
            restart_with_default_qemu();
        }
        let number = |name: &str, default: u64| {
            let text = env::var(name).ok();
            text.map_or(default, |text| text.parse().expect("a number"))
        };
        // Cargo adds an option.
        let filters = env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with("--"));
        Self {
            mib: number("RETPATH_BENCH_MIB", 256),
            runs: number("RETPATH_BENCH_RUNS", runs),
            only: env::var("RETPATH_BENCH_SOURCE").unwrap_or_default(),
            filters: filters.collect(),
        }
    }

    /// Whether this cell of a table is to be measured.
    pub(crate) fn wants(&self, cell: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| cell.contains(filter))
    }

    /// Whether this kind of source is to be measured: `qemu` or `serve`.
    pub(crate) fn wants_source(&self, source: &str) -> bool {
        self.only.is_empty() || self.only == source
    }
}

/// The name of a cell: its channels and its limit in bytes per second.
pub(crate) fn cell(preempt: bool, bandwidth: u64) -> String {
    let channel = if preempt {
        "preempt channel"
    } else {
        "one channel"
    };
    match bandwidth {
        0 => format!("{channel}, no limit"),
        bytes => format!("{channel}, {} MiB/s", bytes >> 20),
    }
}

/// Prints the medians of several sources; from the second on, with the ratio to the first.
pub(crate) fn print_table(sources: &[(&str, [f64; 5])]) {
    print!("{:<30}", "source");
    for (at, (name, _)) in sources.iter().enumerate() {
        print!(" {name:>12}");
        if at > 0 {
            print!(" {:>8}", "ratio");
        }
    }
    println!();
    for (row, name) in Figures::NAMES.iter().enumerate() {
        print!("{name:<30}");
        for (at, (_, figures)) in sources.iter().enumerate() {
            print!(" {:>12.1}", figures[row]);
            if at > 0 {
                print!(" {:>8.2}", figures[row] / sources[0].1[row]);
            }
        }
        println!();
    }
}

/// Runs this program again with the QEMU that it compares on by default.
fn restart_with_default_qemu() -> ! {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut builds = Command::new(root.join(".ci/qemu-builds"));
    let builds = builds.arg("11.1").stderr(Stdio::inherit()).output();
    let builds = builds.expect(".ci/qemu-builds can be run");
    assert!(
        builds.status.success(),
        "cannot install QEMU 11.1: name one in RETPATH_QEMU"
    );
    let qemu = String::from_utf8(builds.stdout).expect("a path is UTF-8");
    let mut again = Command::new(env::current_exe().expect("this program has a path"));
    let error = again
        .args(env::args_os().skip(1))
        .env("RETPATH_QEMU", qemu.trim())
        .exec();
    panic!("cannot run this program again: {error}");
}

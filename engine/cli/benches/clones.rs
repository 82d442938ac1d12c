//! How the cost of serving many clones of one image at a time grows with their number: one
//! `retpath serve`, and destinations whose guests touch random pages while the background sweep runs.
//!
//! ```text
//! cargo bench -p retpath --bench clones              our own destinations, then QEMUs
//! cargo bench -p retpath --bench clones -- own 1 64
//! cargo bench -p retpath --bench clones -- qemu 8
//! ```
//!
//! Our own destinations are processes of their own, like QEMUs. RETPATH_QEMU picks the QEMU;
//! RETPATH_BENCH_MIB (64) is the memory of a clone. Every number of clones is repeated until at least
//! 16 clones have been served.
//!
//! * Total: bytes of all clones over the time from the start of the first guest until the last clone
//!   has its memory.
//! * CPU: of `serve`, and of all destinations, for each GiB.
//! * Own memory, threads, descriptors: most that `serve` had at a time.
//! * Fault p99: of one clone; the clone with the lowest and the one with the highest. `fair` is the
//!   quotient, and `last` that of the times at which the first and the last clone were complete.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use retpath_codec::wire::capability::{POSTCOPY_BLOCKTIME, POSTCOPY_RAM};
use retpath_engine::socket::Address;
use retpath_support::SOON;
use retpath_support::clones::{Footprint, Touches, cpu_time, receive_clone};
use retpath_support::harness::{median, percentile};
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::{Guest, Image, Machine, Qemu};
use retpath_support::small_image::make_full;
use serde_json::Value;

/// Numbers of our own destinations, and of QEMUs.
const OWN: [usize; 4] = [1, 4, 16, 64];
const QEMUS: [usize; 3] = [1, 4, 8];

/// Clones that are served of each number.
const SAMPLE: usize = 16;

/// Time between two touches of a guest: with 64 clones, the touches of pages that are there take a
/// twentieth of the two CPUs.
const PAUSE: Duration = Duration::from_millis(2);

/// Goals: of the total in relation to one clone's, of fairness, and of a clone's own memory.
const LEAST_TOTAL: f64 = 0.8;
const MOST_UNFAIR: f64 = 2.0;

/// What serving some clones at a time took.
#[derive(Default)]
struct Run {
    /// Seconds until the last clone had its memory.
    seconds: f64,
    /// CPU seconds of `serve` and of the destinations.
    cpu: [f64; 2],
    footprint: Footprint,
    clones: Vec<Figures>,
}

/// One clone.
#[derive(Default)]
struct Figures {
    /// Seconds from the start of the first guest until it had its memory.
    seconds: f64,
    /// Nanoseconds of each fault, as the guest saw it.
    faults: Vec<u64>,
    /// 99th percentile of the source's part of them, from the request's arrival until its page was
    /// laid out, in nanoseconds.
    source: u64,
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, uri, seed] = &args[..]
        && first == "destination"
    {
        destination(uri, seed);
        return;
    }
    let mib = env::var("RETPATH_BENCH_MIB").map_or(64, |text| text.parse().expect("a number"));
    let counts: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let or = |default: &[usize]| match counts.is_empty() {
        true => default.to_vec(),
        false => counts.clone(),
    };
    let wanted = |name: &str| {
        !args.iter().any(|arg| arg == "own" || arg == "qemu") || args.iter().any(|arg| arg == name)
    };
    if wanted("own") {
        let folder = tempfile::tempdir().expect("temporary folder can be created");
        let image = make_full(folder.path(), mib);
        // The first run is slow while the machine finds unused memory.
        own(&image, 1);
        table("own destinations", mib, &or(&OWN), |count| {
            own(&image, count)
        });
    }
    if wanted("qemu") {
        let quiet = u32::try_from(mib * 5 / 8).expect("a small number");
        let guest = Guest {
            sweep: 1024,
            stride: 509,
            ..Guest::mib(4, quiet)
        };
        let image = Image::saved(&Machine::new(mib, guest));
        table("QEMUs", mib, &or(&QEMUS), |count| qemus(&image, count));
    }
}

/// Serves the image to all of these; returns what that took, and the figures that the source has.
fn serve(image: &Path, uris: &[String]) -> Run {
    let folder = tempfile::tempdir().expect("temporary folder can be created");
    let report = folder.path().join("report");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_retpath"));
    serve
        .args(["serve", "--format", "json", "--image"])
        .arg(image);
    serve.args(uris.iter().flat_map(|uri| ["--connect", uri]));
    let out = File::create(&report).expect("temporary folder is writable");
    serve.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    let (footprint, cpu) = watch(&mut serve.spawn().expect("retpath starts"));
    let report = fs::read(report).expect("report is readable");
    let report: Value = serde_json::from_slice(&report).expect("report is JSON");
    let clone = |at| Figures {
        source: report["destinations"][at]["latency"]["source"]["p99_ns"]
            .as_u64()
            .unwrap_or(0),
        ..Figures::default()
    };
    Run {
        footprint,
        cpu: [cpu, 0.0],
        clones: (0..uris.len()).map(clone).collect(),
        ..Run::default()
    }
}

/// Watches a process until it ends; returns what it used.
fn watch(process: &mut Child) -> (Footprint, f64) {
    let mut most = Footprint::default();
    let cpu = loop {
        if let Ok(now) = Footprint::of(process.id()) {
            most = most.max(now);
        }
        match cpu_time(process.id()) {
            (true, cpu) => break cpu,
            _ => thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(
        process
            .wait()
            .expect("child is not reaped elsewhere")
            .success()
    );
    (most, cpu.as_secs_f64())
}

/// The part of a destination process: receives one clone, and prints its times and faults.
fn destination(uri: &str, seed: &str) {
    let address: Address = uri.parse().expect("an address");
    let mut listener = address.listen(false).expect("address is free");
    let seed = seed.parse().expect("a number");
    let touches = Touches { seed, pause: PAUSE };
    let clone = receive_clone(&mut listener, Some(touches));
    println!("{}", nanos(clone.started));
    println!("{}", nanos(clone.completed));
    for fault in clone.faults {
        println!("{fault}");
    }
}

fn nanos(time: SystemTime) -> u64 {
    let time = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(time.expect("later than 1970").as_nanos()).expect("earlier than 2554")
}

fn own(image: &Path, count: usize) -> Run {
    let folder = tempfile::tempdir().expect("temporary folder can be created");
    let sockets: Vec<_> = (0..count)
        .map(|at| folder.path().join(at.to_string()))
        .collect();
    let uris: Vec<_> = sockets
        .iter()
        .map(|path| format!("unix:{}", path.display()))
        .collect();
    let this = env::current_exe().expect("a program has a path");
    let start_one = |(seed, uri): (usize, &String)| {
        let mut one = Command::new(&this);
        one.args(["destination", uri, &seed.to_string()]);
        one.stdout(Stdio::piped())
            .spawn()
            .expect("destination starts")
    };
    let mut destinations: Vec<Child> = uris.iter().enumerate().map(start_one).collect();
    while !sockets.iter().all(|path| path.exists()) {
        thread::sleep(Duration::from_millis(1));
    }
    let mut run = serve(image, &uris);
    let (mut times, mut cpu) = (Vec::new(), 0.0);
    for (destination, clone) in destinations.iter_mut().zip(&mut run.clones) {
        let mut text = String::new();
        let mut out = destination.stdout.take().expect("stdout is piped");
        out.read_to_string(&mut text).expect("output is text");
        cpu += watch(destination).1;
        let numbers: Vec<u64> = text
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect();
        let [started, completed, faults @ ..] = &numbers[..] else {
            panic!("a destination printed no times");
        };
        times.push((*started, *completed));
        clone.faults = faults.to_vec();
    }
    run.cpu[1] = cpu;
    run.timed(&times, 1e9);
    run
}

fn qemus(image: &Image, count: usize) -> Run {
    let destination = || {
        let mut qemu = Qemu::incoming(image.machine());
        qemu.enable(&[POSTCOPY_RAM, POSTCOPY_BLOCKTIME]);
        let uri = unix(&qemu.listen());
        (qemu, uri)
    };
    let (mut destinations, uris): (Vec<Qemu>, Vec<String>) =
        (0..count).map(|_| destination()).unzip();
    let before = destinations
        .iter_mut()
        .map(|qemu| cpu_time(qemu.program().id()).1);
    let before: Duration = before.sum();
    let mut run = serve(&image.path(), &uris);
    let after = destinations
        .iter_mut()
        .map(|qemu| cpu_time(qemu.program().id()).1);
    run.cpu[1] = (after.sum::<Duration>() - before).as_secs_f64();
    let mut times = Vec::new();
    for qemu in &mut destinations {
        qemu.wait_status(&["completed"], SOON);
        qemu.wait_healthy(1, SOON);
        let mut when = |state: &str| {
            let found = qemu.states().iter().find(|(name, _)| name == state);
            found.map_or(0, |(_, micros)| *micros)
        };
        times.push((when("postcopy-active"), when("completed")));
    }
    run.timed(&times, 1e6);
    run
}

impl Run {
    /// Sets the times from each clone's start and end, of which `unit` are a second.
    fn timed(&mut self, times: &[(u64, u64)], unit: f64) {
        let first = times.iter().map(|(started, _)| *started).min().unwrap_or(0);
        for (clone, (_, completed)) in self.clones.iter_mut().zip(times) {
            clone.seconds = (completed - first) as f64 / unit;
            self.seconds = self.seconds.max(clone.seconds);
        }
    }
}

/// Prints a row for each number of clones.
fn table(what: &str, mib: u64, counts: &[usize], run: impl Fn(usize) -> Run) {
    println!("\n{what} of {mib} MiB");
    println!(
        "| clones | total, MiB/s | of one | CPU of serve, ms/GiB | of destinations | own memory, KiB \
         | threads | descriptors | fault p99, µs | fair | in the source | first–last, ms |"
    );
    println!("{}|", "|---".repeat(12));
    let mut one = None;
    for &count in counts {
        let runs: Vec<Run> = (0..SAMPLE.div_ceil(count).max(2))
            .map(|_| run(count))
            .collect();
        let data = mib as f64 * count as f64;
        let middle = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(of).collect());
        let total = middle(&|run| data / run.seconds);
        let of_one = total / *one.get_or_insert(total);
        let [source, destinations] = [0, 1].map(|side| {
            let all: f64 = runs.iter().map(|run| run.cpu[side]).sum();
            all * 1e3 / (data * runs.len() as f64 / 1024.0)
        });
        let footprints = runs.iter().map(|run| run.footprint);
        let footprint = footprints.fold(Footprint::default(), Footprint::max);
        let faults = Spread::of((0..count).filter_map(|at| p99(&runs, at)));
        let in_source = runs
            .iter()
            .map(|run| run.clones.iter().map(|one| one.source as f64));
        let in_source = Spread::of(in_source.flatten());
        let times = |run: &Run| Spread::of(run.clones.iter().map(|one| one.seconds));
        let (first, last) = (
            middle(&|run| times(run).least),
            middle(&|run| times(run).most),
        );
        println!(
            "| {count} | {total:.0} | {of_one:.2}{} | {source:.0} | {destinations:.0} | {} | {} | {} \
             | {} | {:.1}{} | {} | {:.0}–{:.0} |",
            goal(of_one >= LEAST_TOTAL),
            footprint.own >> 10,
            footprint.threads,
            footprint.descriptors,
            faults.micros(),
            faults.ratio(),
            goal(faults.ratio() <= MOST_UNFAIR || faults.least == 0.0),
            in_source.micros(),
            first * 1e3,
            last * 1e3,
        );
    }
}

fn goal(met: bool) -> &'static str {
    if met { "" } else { " (missed)" }
}

/// The 99th percentile of one clone's faults in nanoseconds. Its place in the command line is its
/// identity across the runs.
fn p99(runs: &[Run], at: usize) -> Option<f64> {
    let faults = runs.iter().flat_map(|run| &run.clones[at].faults);
    let mut faults: Vec<u64> = faults.copied().collect();
    faults.sort_unstable();
    (!faults.is_empty()).then(|| percentile(&faults, 990))
}

/// The least and the most of one figure of all clones.
struct Spread {
    least: f64,
    most: f64,
}

impl Spread {
    fn of(all: impl Iterator<Item = f64>) -> Self {
        let all: Vec<f64> = all.collect();
        Self {
            least: all.iter().copied().reduce(f64::min).unwrap_or(0.0),
            most: all.iter().copied().reduce(f64::max).unwrap_or(0.0),
        }
    }

    fn ratio(&self) -> f64 {
        self.most / self.least.max(1.0)
    }

    fn micros(&self) -> String {
        format!("{:.0}–{:.0}", self.least / 1e3, self.most / 1e3)
    }
}

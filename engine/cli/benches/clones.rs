//! How the cost of serving many clones of one image at a time grows with their number: one
//! `retpath serve`, and destinations whose guests touch random pages while the background sweep runs.
//!
//! ```text
//! cargo bench -p retpath --bench clones              our own destinations, then QEMUs
//! cargo bench -p retpath --bench clones -- own 1 64
//! cargo bench -p retpath --bench clones -- qemu 8
//! cargo bench -p retpath --bench clones -- ram       one clone of 1, 4 and 16 GiB of RAM
//! ```
//!
//! Our own destinations are processes of their own, like QEMUs. RETPATH_QEMU picks the QEMU;
//! RETPATH_BENCH_MIB (64) is the memory of a clone. Every number of clones is repeated three times and
//! until at least 16 clones have been served.
//!
//! * Total: bytes of all clones over the time from the start of the first guest until the last clone
//!   has its memory.
//! * CPU: of `serve`, and of all destinations, for each GiB.
//! * Own memory, threads, descriptors: most that `serve` had at a time.
//! * Fault p99: of one clone; the clone with the lowest and the one with the highest. `fair` is their
//!   quotient. QEMU has no percentiles, so only the source's part is known, from request to page.
//! * First–last: when the first and the last clone had all of their memory.

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
use retpath_support::clones::{Footprint, Touches, cpu_time, cpu_time_of_children, receive_clone};
use retpath_support::harness::{median, percentile};
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::{Guest, Image, Machine, Qemu};
use retpath_support::small_image::{make_full, make_sparse};
use serde_json::Value;

/// Numbers of our own destinations, and of QEMUs.
const OWN: [usize; 4] = [1, 4, 16, 64];
const QEMUS: [usize; 3] = [1, 4, 8];

/// Clones that are served of each number.
const SAMPLE: usize = 16;

/// Runs of each number of clones.
const LEAST_RUNS: usize = 3;

/// How often the guests touch pages.
#[derive(Clone, Copy)]
enum Demand {
    /// 4,000 times a second in all, however many there are.
    Constant,
    /// 500 times a second each.
    Growing,
}

impl Demand {
    fn name(self) -> &'static str {
        match self {
            Self::Constant => "4,000 touches a second in all",
            Self::Growing => "500 touches a second each",
        }
    }

    /// Time between two touches of one guest.
    fn pause(self, count: usize) -> Duration {
        match self {
            Self::Constant => Duration::from_micros(250 * count as u64),
            Self::Growing => Duration::from_millis(2),
        }
    }
}

/// Goals: of the total in relation to one clone's, of fairness, and of a clone's own memory.
const LEAST_TOTAL: f64 = 0.8;
const MOST_UNFAIR: f64 = 2.0;

/// What serving some clones at a time took.
#[derive(Default)]
struct Run {
    /// Seconds from the start of `serve` until the first guest started.
    start: f64,
    /// Seconds from then until the last clone had its memory.
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
    /// Seconds until the guest of a QEMU had checked all of its memory.
    through: f64,
    /// Nanoseconds of each fault, as the guest saw it.
    faults: Vec<u64>,
    /// 99th percentile of the source's part of them, from the request's arrival until its page was
    /// laid out, in nanoseconds.
    source: u64,
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, uri, numbers @ ..] = &args[..]
        && first == "destination"
    {
        let numbers = numbers.iter().map(|text| text.parse().expect("a number"));
        destination(uri, &numbers.collect::<Vec<_>>());
        return;
    }
    let mib = env::var("RETPATH_BENCH_MIB").map_or(64, |text| text.parse().expect("a number"));
    let counts: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let or = |default: &[usize]| match counts.is_empty() {
        true => default.to_vec(),
        false => counts.clone(),
    };
    let wanted = |name: &str| {
        !args
            .iter()
            .any(|arg| ["own", "qemu", "ram"].contains(&&arg[..]))
            || args.iter().any(|arg| arg == name)
    };
    if wanted("own") {
        let folder = tempfile::tempdir().expect("temporary folder can be created");
        let image = make_full(folder.path(), mib);
        // The first run is slow while the machine finds unused memory.
        own(&image, 1, Demand::Constant, 0);
        for demand in [Demand::Constant, Demand::Growing] {
            let what = format!("own destinations, {}", demand.name());
            let run = |count| own(&image, count, demand, 0);
            table(&what, mib, &or(&OWN), run);
        }
    }
    if args.iter().any(|arg| arg == "ram") {
        ram();
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

/// Watches a process until it ends; returns what it used, and its CPU seconds.
fn watch(process: &mut Child) -> (Footprint, f64) {
    let before = cpu_time_of_children();
    let mut most = Footprint::default();
    let ended = loop {
        if let Ok(now) = Footprint::of(process.id()) {
            most = most.max(now);
        }
        match process.try_wait().expect("child is not reaped elsewhere") {
            Some(ended) => break ended,
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(ended.success(), "a process {ended}");
    (most, (cpu_time_of_children() - before).as_secs_f64())
}

/// The part of a destination process: receives one clone, and prints its times and faults, or how
/// long each of its recoveries took.
fn destination(uri: &str, numbers: &[u64]) {
    let [seed, pause, cuts] = *numbers else {
        panic!("a destination takes three numbers");
    };
    let address: Address = uri.parse().expect("an address");
    let mut listener = address.listen(false).expect("address is free");
    let pause = Duration::from_micros(pause);
    let touches = Touches { seed, pause };
    let clone = receive_clone(&mut listener, Some(touches), cuts, &mut || ());
    println!("{}", nanos(clone.started));
    println!("{}", nanos(clone.completed));
    let nanos = match cuts {
        0 => clone.faults,
        _ => clone.outages,
    };
    for nanos in nanos {
        println!("{nanos}");
    }
}

fn nanos(time: SystemTime) -> u64 {
    let time = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(time.expect("later than 1970").as_nanos()).expect("earlier than 2554")
}

fn own(image: &Path, count: usize, demand: Demand, cuts: u64) -> Run {
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
        one.args(["destination", uri]);
        let pause = demand.pause(count).as_micros();
        one.args([seed.to_string(), pause.to_string(), cuts.to_string()]);
        one.stdout(Stdio::piped())
            .spawn()
            .expect("destination starts")
    };
    let mut destinations: Vec<Child> = uris.iter().enumerate().map(start_one).collect();
    while !sockets.iter().all(|path| path.exists()) {
        thread::sleep(Duration::from_millis(1));
    }
    let before = SystemTime::now();
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
    let first = times.iter().map(|(started, _)| *started).min();
    run.start = (first.unwrap_or(0) - nanos(before)) as f64 / 1e9;
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
        .map(|qemu| cpu_time(qemu.program().id()));
    let before: Duration = before.sum();
    let mut run = serve(&image.path(), &uris);
    let after = destinations
        .iter_mut()
        .map(|qemu| cpu_time(qemu.program().id()));
    run.cpu[1] = (after.sum::<Duration>() - before).as_secs_f64();
    let mut times = Vec::new();
    for (qemu, clone) in destinations.iter_mut().zip(&mut run.clones) {
        qemu.wait_status(&["completed"], SOON);
        qemu.wait_healthy(1, SOON);
        let mut when = |state: &str| {
            let found = qemu.states().iter().find(|(name, _)| name == state);
            found.map_or(0, |(_, micros)| *micros)
        };
        times.push((when("postcopy-active"), when("completed")));
        let said = qemu.said();
        let through = said.sweeps.get(1).copied().zip(said.first());
        clone.through = through.map_or(0.0, |(end, start)| (end - start).as_secs_f64());
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
    println!("\n{mib} MiB each, {what}");
    println!(
        "| clones | total, MiB/s | of one | CPU of serve, ms/GiB | of destinations | own memory, KiB \
         | threads | descriptors | fault p99, µs | fair | in the source | first–last, ms \
         | guest through its memory |"
    );
    println!("{}|", "|---".repeat(13));
    let mut one = None;
    for &count in counts {
        let runs: Vec<Run> = (0..SAMPLE.div_ceil(count).max(LEAST_RUNS))
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
        let through = |run: &Run| Spread::of(run.clones.iter().map(|one| one.through));
        let (first_through, last_through) = (
            middle(&|run| through(run).least),
            middle(&|run| through(run).most),
        );
        println!(
            "| {count} | {total:.0} | {of_one:.2}{} | {source:.0} | {destinations:.0} | {} | {} | {} \
             | {} | {:.1}{} | {} | {:.0}–{:.0} | {:.0}–{:.0} |",
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
            first_through * 1e3,
            last_through * 1e3,
        );
    }
}

/// Prints what one clone costs by the size of its RAM, of which a sixteenth is data.
fn ram() {
    println!("\none clone, a sixteenth of its RAM is data, the rest holes");
    println!(
        "| RAM, GiB | data, MiB | start, ms | drain, ms | drain, ms/GiB of RAM | CPU of serve, ms/GiB \
         | own memory, KiB | recoveries | recovery, median, ms | received bitmap, KiB |"
    );
    println!("{}|", "|---".repeat(10));
    for gib in [1, 4, 16] {
        let folder = tempfile::tempdir().expect("temporary folder can be created");
        let image = make_sparse(folder.path(), gib << 10, 16);
        let runs: Vec<Run> = (0..3)
            .map(|_| own(&image, 1, Demand::Constant, 0))
            .collect();
        let middle = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(of).collect());
        let (start, drain) = (middle(&|run| run.start), middle(&|run| run.seconds));
        let cpu = middle(&|run| run.cpu[0]) / gib as f64;
        let own_memory = runs.iter().map(|run| run.footprint.own).max().unwrap_or(0);
        let cut = own(&image, 1, Demand::Constant, 5);
        let mut outages = cut.clones[0].faults.clone();
        outages.sort_unstable();
        let outage = match outages.is_empty() {
            true => 0.0,
            false => percentile(&outages, 500),
        };
        println!(
            "| {gib} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.1} | {} |",
            gib * 64,
            start * 1e3,
            drain * 1e3,
            drain * 1e3 / gib as f64,
            cpu * 1e3,
            own_memory >> 10,
            outages.len(),
            outage / 1e6,
            // A bit for each page of 4 KiB.
            gib * 32,
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

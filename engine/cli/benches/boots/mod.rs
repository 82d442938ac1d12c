//! Boots of one guest on a real QEMU, from another QEMU and from an image, and what they take by the
//! figures of QEMU's destination.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use retpath_codec::wire::capability::{POSTCOPY_BLOCKTIME, POSTCOPY_PREEMPT, POSTCOPY_RAM};
use retpath_support::SOON;
use retpath_support::qemu::image::report;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::{Image, Machine, Qemu};

/// What one boot took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Time that the vCPU stood still, in ms.
    pub(crate) blocked: f64,
    /// Requests that reached the source.
    pub(crate) requests: f64,
    /// Mean latency of a fault in µs: QEMU's own figure, or else time stood still per request.
    pub(crate) fault: f64,
    /// From the start of the guest until all memory was there, in ms.
    pub(crate) drain: f64,
    /// From the start of the guest until it had checked all of its memory, in ms.
    pub(crate) settle: f64,
    /// From the start of the guest until it had been through all pages of its working set, which it
    /// visits in every pass, in ms.
    pub(crate) pass: f64,
}

impl Figures {
    /// Every figure, with its name.
    pub(crate) const ROWS: [(&'static str, fn(&Self) -> f64); 6] = [
        ("vCPU stood still, ms", |one| one.blocked),
        ("requests", |one| one.requests),
        ("fault, mean, µs", |one| one.fault),
        ("drain, ms", |one| one.drain),
        ("guest through its memory, ms", |one| one.settle),
        ("through its working set, ms", |one| one.pass),
    ];

    /// The middle value of a figure, if there were any runs.
    pub(crate) fn median(runs: &[Self], figure: fn(&Self) -> f64) -> f64 {
        let mut values: Vec<f64> = runs.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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

/// A moment in microseconds of the system's clock, as QEMU gives the time of its states.
fn micros(moment: Instant) -> f64 {
    let then = SystemTime::now() - moment.elapsed();
    let since = then.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("the clock is right").as_secs_f64() * 1e6
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
    // The first pass had begun before the guest was saved.
    let pass = said.passes.get(1).copied();
    let pass = pass.map_or(0.0, |end| micros(end) - active as f64);
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
        pass: pass / 1e3,
    }
}

/// Boots from another QEMU.
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

/// Boots from an image by `retpath serve`, with further arguments.
pub(crate) fn by_serve(
    image: &Image,
    preempt: bool,
    bandwidth: u64,
    arguments: &[&str],
) -> Figures {
    let (mut there, uri) = destination(image.machine(), preempt);
    let bandwidth = bandwidth.to_string();
    let mut more = [&["--bandwidth", &bandwidth], arguments].concat();
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

/// The channels and limits of a benchmark's table, with their names, as far as the command line
/// picks them.
pub(crate) fn cells(bandwidths: &[u64]) -> Vec<(String, bool, u64)> {
    // Cargo adds an option.
    let filters = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let filters: Vec<String> = filters.collect();
    let mut cells = Vec::new();
    for preempt in [false, true] {
        for &bandwidth in bandwidths {
            let channel = if preempt {
                "preempt channel"
            } else {
                "one channel"
            };
            let limit = match bandwidth {
                0 => "no limit".to_owned(),
                bytes => format!("{} MiB/s", bytes >> 20),
            };
            let name = format!("{channel}, {limit}");
            if filters.is_empty() || filters.iter().any(|filter| name.contains(filter)) {
                cells.push((name, preempt, bandwidth));
            }
        }
    }
    cells
}

/// A number in an environment variable.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    let text = env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Runs this program again with the QEMU that it compares on by default, unless RETPATH_QEMU names
/// one.
pub(crate) fn choose_qemu() {
    if env::var_os("RETPATH_QEMU").is_some() {
        return;
    }
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

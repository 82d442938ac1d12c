//! Page service beside its floors: raw programs that do the same work with no
//! engine in between, run in turn with it and pinned alike.
//!
//! `cargo bench -p retpath-engine` prints a table; `-- --gate` also fails when
//! a goal is missed. `floor.c` is the raw program; it needs a C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use retpath_codec::{NameBuf, forward};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::channel::{Address, ChannelError, Link};
use retpath_engine::destination;
use retpath_engine::memory::{Backing, Frozen, Memory};
use retpath_engine::run::{
    Connector, Control, Guest, Machine, ReceiveOptions, ServeOptions, receive, serve,
};
use retpath_engine::source::{self, PageSource, Preempt, Source};

const PAGE: u64 = 4096;

/// Which CPUs the two sides run on.
#[derive(Clone, Copy)]
struct Pins {
    destination: usize,
    source: usize,
}

const TOGETHER: Pins = Pins {
    destination: 0,
    source: 0,
};
const APART: Pins = Pins {
    destination: 0,
    source: 1,
};

/// What the guest does once it runs.
#[derive(Clone, Copy, PartialEq)]
enum Touch {
    Nothing,
    /// Touches this many pages, spread over the block.
    Pages(u64),
}

struct Served {
    /// From the guest's start to the last page.
    seconds: f64,
    /// Nanoseconds of each touch, sorted.
    touches: Vec<u64>,
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("the CPU exists");
}

struct Still(Frozen);

impl PageSource for Still {
    fn read(&self, _: usize, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let bytes = self
            .lend(0, offset, out.len())
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lend(&self, _: usize, offset: u64, len: usize) -> Option<&[u8]> {
        self.0.page(offset, len)
    }
}

impl Machine for Still {
    fn pages(&self) -> &dyn PageSource {
        self
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), String> {
        if core.phase() == source::Phase::Precopy {
            core.switch(Vec::new()).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

struct Dial(Address);

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        self.0.connect(false)
    }
}

struct Bench {
    touch: Touch,
    memory: Option<Arc<Memory>>,
    started: Option<Instant>,
    touches: Option<mpsc::Receiver<Vec<u64>>>,
    pins: Pins,
    control: Control,
}

impl Guest for Bench {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, String> {
        let memory = Memory::new(Backing::Anonymous, block.len).map_err(|e| e.to_string())?;
        let memory = Arc::new(memory);
        self.memory = Some(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        self.started = Some(Instant::now());
        let Touch::Pages(count) = self.touch else {
            return;
        };
        let memory = Arc::clone(self.memory.as_ref().expect("announced"));
        let (send, touches) = mpsc::channel();
        self.touches = Some(touches);
        let (pins, control) = (self.pins, self.control.clone());
        thread::spawn(move || {
            pin(pins.destination);
            let pages = memory.len() / PAGE;
            let mut took = Vec::with_capacity(usize::try_from(count).expect("fits"));
            for i in 0..count {
                let page = (i * 7919) % pages;
                let start = Instant::now();
                memory.touch(page * PAGE).expect("inside");
                took.push(u64::try_from(start.elapsed().as_nanos()).expect("short"));
            }
            took.sort_unstable();
            send.send(took).expect("the bench waits");
            control.stop();
        });
    }

    fn failed(&mut self, _: &retpath_engine::run::RunError) -> bool {
        // Stopped after the last touch: nobody waits.
        true
    }
}

/// One migration of `mib` MiB.
fn migrate(mib: u64, pins: Pins, touch: Touch, bandwidth: u64, preempt: bool) -> Served {
    let dir = tempfile::tempdir().expect("a folder");
    let uri: Address = format!("unix:{}", dir.path().join("s").display())
        .parse()
        .expect("good");
    let mut listener = uri.listen(false).expect("listens");
    let address = listener.address().clone();
    let source = thread::spawn(move || {
        pin(pins.source);
        let len = mib << 20;
        let mut blocks = Blocks::new(PAGE).expect("4 KiB");
        let name = NameBuf::new("pc.ram").expect("a good name");
        blocks
            .add(Block {
                name,
                len,
                page: PAGE,
            })
            .expect("a good block");
        let memory = Memory::new(Backing::Anonymous, len).expect("memory");
        let page = vec![7; 1 << 16];
        for at in (0..len).step_by(page.len()) {
            memory.write(at, &page).expect("inside");
        }
        let mut config = source::Config::new("bench");
        config.bandwidth = bandwidth;
        config.preempt = preempt.then_some(Preempt::Late);
        let mut core = Source::new(config, blocks).expect("a good configuration");
        let mut machine = Still(memory.freeze().expect("nobody else has it"));
        let control = Control::new().expect("a control");
        let options = ServeOptions {
            retry: Duration::ZERO,
            ..ServeOptions::default()
        };
        // Ends with an error where the destination stops early.
        let _ = serve(
            &mut core,
            &mut machine,
            &mut Dial(address),
            &options,
            &control,
        );
    });
    pin(pins.destination);
    let control = Control::new().expect("a control");
    let mut guest = Bench {
        touch,
        memory: None,
        started: None,
        touches: None,
        pins,
        control: control.clone(),
    };
    let options = ReceiveOptions {
        core: destination::Config {
            preempt,
            ..Default::default()
        },
        stream: forward::Options::default(),
        patience: Duration::from_secs(60),
        recovery: Duration::from_secs(30),
    };
    let _ = receive(&mut listener, &mut guest, options, &control);
    let seconds = guest
        .started
        .expect("the guest ran")
        .elapsed()
        .as_secs_f64();
    let touches = guest
        .touches
        .map(|t| t.recv().expect("touched"))
        .unwrap_or_default();
    drop(listener);
    source.join().expect("the source ends");
    Served { seconds, touches }
}

/// Builds the raw program.
fn floor(dir: &Path) -> PathBuf {
    let program = dir.join("floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let built = Command::new("cc")
        .args(["-O2", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "floor.c needs a C compiler named cc"
    );
    program
}

/// Runs the raw program; the numbers behind the name that it prints.
fn raw(program: &Path, args: &[&str]) -> Vec<f64> {
    let output = Command::new(program)
        .args(args)
        .output()
        .expect("the raw program runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.split_whitespace()
        .skip(1)
        .map(|n| n.parse().expect("a number"))
        .collect()
}

fn percentile(sorted: &[u64], thousandths: usize) -> f64 {
    sorted[(sorted.len() - 1) * thousandths / 1000] as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line of the table.
struct Row {
    what: &'static str,
    unit: &'static str,
    ours: f64,
    floor: f64,
    ratio: f64,
    goal: &'static str,
    met: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = if args.iter().any(|a| a == "--quick") {
        3
    } else {
        9
    };
    let dir = tempfile::tempdir().expect("a folder");
    let program = floor(dir.path());
    let named = args.iter().any(|a| !a.starts_with('-'));
    let wanted = |name: &str| !named || args.iter().any(|a| a == name);
    let mut rows = Vec::new();
    if wanted("faults") {
        rows.extend(faults(&program, rounds));
    }
    if wanted("sweep") {
        rows.extend(sweep(&program, rounds));
    }
    if wanted("load") {
        rows.extend(under_load(rounds));
    }

    println!("| what | engine | floor | ratio | goal | |\n|---|---|---|---|---|---|");
    for row in &rows {
        let met = if row.met { "met" } else { "missed" };
        println!(
            "| {} | {:.1} {unit} | {:.1} {unit} | {:.2} | {} | {met} |",
            row.what,
            row.ours,
            row.floor,
            row.ratio,
            row.goal,
            unit = row.unit,
        );
    }
    if args.iter().any(|a| a == "--gate") && rows.iter().any(|row| !row.met) {
        std::process::exit(1);
    }
}

/// A remote fault, all on one CPU, over a unix socket.
fn faults(program: &Path, rounds: usize) -> Vec<Row> {
    let (mut ours, mut floors) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..rounds {
        let served = migrate(40, TOGETHER, Touch::Pages(10_000), 1, false);
        let raw = raw(program, &["fault", "unix", "0", "0", "10000"]);
        for (i, thousandths) in [500, 990].into_iter().enumerate() {
            ours[i].push(percentile(&served.touches, thousandths) / 1e3);
            floors[i].push(raw[i] / 1e3);
        }
    }
    let mut rows = Vec::new();
    for (i, (what, goal, most)) in [
        ("remote fault, one CPU, p50", "≤ 1.3", 1.3),
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

/// The sweep into an idle destination, the sides on two CPUs.
fn sweep(program: &Path, rounds: usize) -> Vec<Row> {
    const MIB: u64 = 1024;
    let migration = || migrate(MIB, APART, Touch::Nothing, 0, false).seconds;
    // Memory that this machine has not used lately is slow the first time.
    migration();
    let (mut ours, mut slower, mut joined) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        ours.push((MIB << 20) as f64 / migration() / 1e9);
        let mib = MIB.to_string();
        let socket = raw(program, &["socket", "0", "1", &mib])[0];
        let copy = raw(program, &["copy", "0", &mib])[0];
        slower.push(socket.min(copy) / 1e9);
        joined.push(raw(program, &["both", "0", "1", &mib])[0] / 1e9);
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

/// Faults while the sweep runs at full speed, against faults without a sweep.
fn under_load(rounds: usize) -> Vec<Row> {
    let (mut loaded, mut idle) = (vec![], vec![]);
    for _ in 0..rounds {
        let quiet = migrate(40, APART, Touch::Pages(5_000), 1, true);
        idle.push(percentile(&quiet.touches, 990) / 1e3);
        let busy = migrate(2048, APART, Touch::Pages(5_000), 0, true);
        // What the sweep had brought already is no fault.
        let faults: Vec<u64> = busy.touches.into_iter().filter(|ns| *ns > 2_000).collect();
        loaded.push(percentile(&faults, 990) / 1e3);
    }
    let ratio = median(loaded.iter().zip(&idle).map(|(a, b)| a / b).collect());
    vec![Row {
        what: "remote fault during a full-speed sweep, p99; floor: the same without a sweep",
        unit: "µs",
        ours: median(loaded),
        floor: median(idle),
        ratio,
        goal: "≤ 3",
        met: ratio <= 3.0,
    }]
}

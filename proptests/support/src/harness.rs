//! Benchmark harness: one migration between two threads, and a table of ratios.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use retpath_codec::NameBuf;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, ReceiveOptions, receive};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::source::{self, PageSource, Preempt, Source};

use tempfile::TempDir;

use super::loops::{Dial, Net, PAGE, Still, listen, receive_options, serve_with};

/// CPU affinity of the two sides.
#[derive(Clone, Copy)]
pub struct Pins {
    pub destination: usize,
    pub source: usize,
}

pub const TOGETHER: Pins = Pins {
    destination: 0,
    source: 0,
};
pub const APART: Pins = Pins {
    destination: 0,
    source: 1,
};

/// Guest accesses after the switch.
#[derive(Clone, Copy, PartialEq)]
pub enum Touch {
    Nothing,
    /// Accesses this many pages, spread over the block.
    Pages(u64),
}

pub struct Served {
    /// Time from the guest's start to the last page.
    pub seconds: f64,
    /// Nanoseconds of each access, sorted.
    pub touches: Vec<u64>,
}

pub fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("the CPU exists");
}

struct Bench {
    touch: Touch,
    backing: Backing,
    memory: Option<Arc<Memory>>,
    started: Option<Instant>,
    touches: Option<mpsc::Receiver<Vec<u64>>>,
    pins: Pins,
    control: Control,
}

impl DestinationHandler for Bench {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Arc::new(Memory::new(self.backing, block.len)?);
        self.memory = Some(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        self.started = Some(Instant::now());
        let Touch::Pages(count) = self.touch else {
            return;
        };
        let memory = Arc::clone(self.memory.as_ref().expect("block was announced"));
        let (send, touches) = mpsc::channel();
        self.touches = Some(touches);
        let (pins, control) = (self.pins, self.control.clone());
        thread::spawn(move || {
            pin(pins.destination);
            let pages = memory.len() / PAGE;
            let mut took = Vec::with_capacity(usize::try_from(count).expect("fits in usize"));
            for i in 0..count {
                let page = (i * 7919) % pages;
                let start = Instant::now();
                memory.touch(page * PAGE).expect("page lies in the block");
                took.push(u64::try_from(start.elapsed().as_nanos()).expect("fits in u64"));
            }
            took.sort_unstable();
            send.send(took).expect("benchmark thread receives");
            control.stop();
        });
    }

    fn failed(&mut self, _: &retpath_engine::driver::RunError) -> bool {
        // Stopped after the last access: no thread waits for a page.
        true
    }
}

/// Parameters of a migration.
#[derive(Clone, Copy)]
pub struct Setup {
    pub mib: u64,
    pub pins: Pins,
    pub touch: Touch,
    pub bandwidth: u64,
    pub preempt: bool,
}

/// Runs one migration of the memory that `memory` creates on the source's CPU.
pub fn migrate<P>(setup: Setup, memory: impl FnOnce() -> P + Send + 'static) -> Served
where
    P: PageSource + 'static,
{
    let options = receive_options(setup.preempt);
    migrate_with(setup, (Backing::Anonymous, PAGE), options, memory)
}

/// As [`migrate`], with the destination's memory and host page size, and its options.
pub fn migrate_with<P>(
    setup: Setup,
    (backing, page): (Backing, u64),
    options: ReceiveOptions,
    memory: impl FnOnce() -> P + Send + 'static,
) -> Served
where
    P: PageSource + 'static,
{
    let Setup {
        mib,
        pins,
        touch,
        bandwidth,
        preempt,
    } = setup;
    let (_dir, mut listener) = listen(Net::Unix);
    let address = listener.address().clone();
    let source = thread::spawn(move || {
        pin(pins.source);
        let (name, len) = (NameBuf::new("pc.ram").expect("valid name"), mib << 20);
        let mut blocks = Blocks::new(PAGE).expect("valid page size");
        blocks.add(Block { name, len, page }).expect("valid block");
        let mut config = source::Config::new("bench");
        config.bandwidth = bandwidth;
        config.preempt = preempt.then_some(Preempt::Late);
        let mut core = Source::new(config, blocks).expect("valid configuration");
        let mut machine = Still(memory());
        // Fails if the destination stops early.
        let mut dial = Dial(address);
        let _ = serve_with(&mut core, &mut machine, &mut dial, Duration::ZERO);
    });
    pin(pins.destination);
    let control = Control::new().expect("control descriptor can be created");
    let mut guest = Bench {
        touch,
        backing,
        memory: None,
        started: None,
        touches: None,
        pins,
        control: control.clone(),
    };
    let _ = receive(&mut listener, &mut guest, options, &control);
    let seconds = guest.started.expect("guest ran").elapsed().as_secs_f64();
    let touches = guest
        .touches
        .map(|t| t.recv().expect("guest thread reports"))
        .unwrap_or_default();
    drop(listener);
    source.join().expect("source thread does not panic");
    Served { seconds, touches }
}

/// The raw program of the engine's benchmarks.
pub struct Floor {
    program: PathBuf,
    _dir: TempDir,
}

impl Floor {
    /// Compiles it.
    pub fn build() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder can be created");
        let program = dir.path().join("floor");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/benches/floor.c");
        let built = Command::new("cc")
            .args(["-O2", "-pthread", "-o"])
            .arg(&program)
            .arg(source)
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "floor.c needs a C compiler named cc"
        );
        Self { program, _dir: dir }
    }

    /// Runs it and returns the numbers after the name it prints.
    pub fn run(&self, args: &[&str]) -> Vec<f64> {
        let output = Command::new(&self.program)
            .args(args)
            .output()
            .expect("raw program starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).expect("output is UTF-8");
        text.split_whitespace()
            .skip(1)
            .map(|n| n.parse().expect("output is a number"))
            .collect()
    }
}

pub fn percentile(sorted: &[u64], thousandths: usize) -> f64 {
    sorted[(sorted.len() - 1) * thousandths / 1000] as f64
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line of the table.
pub struct Row {
    pub what: &'static str,
    pub unit: &'static str,
    pub ours: f64,
    pub floor: f64,
    pub ratio: f64,
    pub goal: &'static str,
    pub met: bool,
}

/// Prints the table; fails if a goal is missed and `--gate` is given.
pub fn finish(rows: &[Row], ours: &str, floor: &str, args: &[String]) {
    println!("| what | {ours} | {floor} | ratio | goal | |\n|---|---|---|---|---|---|");
    for row in rows {
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

//! A thousand short migrations with random cuts: no wrong page, and nothing
//! left behind.

#![cfg(feature = "uffd")]

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use retpath_codec::{NameBuf, forward};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::{self, Phase};
use retpath_engine::driver::{
    Connector, Control, DestinationHandler, HandlerError, ReceiveOptions, ServeOptions,
    SourceHandler, receive, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{self, PageSource, Preempt, Source};

const PAGE: u64 = 4096;
const PAGES: u64 = 96;

/// Migrations at a time: most of each is waiting for its source to see SHUT.
const LANES: u64 = 20;

struct Still(Vec<Vec<u8>>);

impl SourceHandler for Still {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        if core.phase() == source::SourcePhase::Precopy {
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

/// Cuts its own link from the moment on when the guest runs.
struct Cutting {
    memory: Option<Arc<Memory>>,
    control: Control,
    /// Microseconds before each cut.
    waits: Vec<u64>,
    cutter: Option<thread::JoinHandle<()>>,
}

impl DestinationHandler for Cutting {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Memory::new(Backing::Anonymous, block.len).map_err(|e| e.to_string())?;
        let memory = Arc::new(memory);
        self.memory = Some(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        let (control, waits) = (self.control.clone(), self.waits.clone());
        self.cutter = Some(thread::spawn(move || {
            for wait in waits {
                thread::sleep(Duration::from_micros(wait));
                control.pause();
            }
        }));
    }
}

/// A page's byte: a third of them are zero.
fn byte(page: u64, seed: u64) -> u8 {
    match (page * 7 + seed) % 3 {
        0 => 0,
        _ => u8::try_from((page + seed) % 255 + 1).expect("a byte"),
    }
}

/// One migration; says how often its link broke.
fn migrate(seed: u64) -> u64 {
    let dir = tempfile::tempdir().expect("a folder");
    let uri: Address = format!("unix:{}", dir.path().join("s").display())
        .parse()
        .expect("good");
    let mut listener = uri.listen(false).expect("listens");
    let at = listener.address().clone();
    let preempt = [None, Some(Preempt::Early), Some(Preempt::Late)][(seed % 3) as usize];
    let server = thread::spawn(move || {
        let mut blocks = Blocks::new(PAGE).expect("4 KiB");
        let name = NameBuf::new("pc.ram").expect("good");
        blocks
            .add(Block {
                name,
                len: PAGES * PAGE,
                page: PAGE,
            })
            .expect("good");
        let memory = (0..PAGES)
            .flat_map(|page| [byte(page, seed); PAGE as usize])
            .collect();
        let mut config = source::Config::new("soak");
        config.preempt = preempt;
        // Slow enough for the cuts to come in between.
        config.bandwidth = 8 << 20;
        let mut core = Source::new(config, blocks).expect("good");
        let control = Control::new().expect("control");
        let options = ServeOptions {
            reconnect_timeout: Duration::from_secs(30),
            ..ServeOptions::default()
        };
        let mut machine = Still(vec![memory]);
        serve(&mut core, &mut machine, &mut Dial(at), &options, &control).expect("served");
        assert_eq!(core.phase(), source::SourcePhase::Completed);
    });
    let control = Control::new().expect("control");
    let waits = (0..seed % 4)
        .map(|cut| (seed * 7919 + cut * 104_729) % 4000)
        .collect();
    let mut guest = Cutting {
        memory: None,
        control: control.clone(),
        waits,
        cutter: None,
    };
    let options = ReceiveOptions {
        core: destination::Config {
            preempt: preempt.is_some(),
            ..Default::default()
        },
        stream: forward::Options::default(),
        reconnect_timeout: Duration::from_secs(30),
        recovery_timeout: Duration::from_secs(30),
        accept_unproven_end: false,
    };
    let core = receive(&mut listener, &mut guest, options, &control).expect("received");
    assert_eq!(core.phase(), Phase::Finished);
    assert_eq!(core.stats().present, 0, "a page was placed twice");
    server.join().expect("the source's thread");
    guest
        .cutter
        .expect("the guest ran")
        .join()
        .expect("the cutter");
    let memory = guest.memory.expect("announced");
    let mut got = vec![0; PAGE as usize];
    for page in 0..PAGES {
        memory.read(page * PAGE, &mut got).expect("inside");
        assert!(
            got.iter().all(|b| *b == byte(page, seed)),
            "seed {seed}, page {page}"
        );
    }
    core.stats().pauses
}

/// Open descriptors and threads of this process, and its resident KiB.
fn footprint() -> [usize; 3] {
    let count = |path| fs::read_dir(path).expect("procfs").count();
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a line");
    let rss = rss
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    [count("/proc/self/fd"), count("/proc/self/task"), rss]
}

/// `count` migrations from `first` on, some at a time.
fn round(first: u64, count: u64) -> u64 {
    let lane = |lane| {
        thread::spawn(move || {
            (lane..count)
                .step_by(LANES as usize)
                .map(|n| migrate(first + n))
                .sum::<u64>()
        })
    };
    let lanes: Vec<_> = (0..LANES).map(lane).collect();
    lanes
        .into_iter()
        .map(|lane| lane.join().expect("no lane fails"))
        .sum()
}

#[test]
#[ignore = "takes minutes; run by .ci/run"]
fn leaves_nothing_behind_after_a_thousand_migrations() {
    round(0, 2 * LANES);
    let before = footprint();
    let cuts = round(1000, 1000);
    let after = footprint();
    println!("{cuts} cuts; descriptors, threads, resident KiB: {before:?}, then {after:?}");
    assert!(cuts > 500, "only {cuts} links broke");
    assert_eq!(after[..2], before[..2], "descriptors and threads");
    assert!(
        after[2] < before[2] + 16 * 1024,
        "{before:?} KiB, then {after:?}"
    );
}

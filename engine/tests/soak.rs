//! A thousand short migrations with random cuts: every page is correct, and no descriptor, thread
//! or memory leaks.

#![cfg(feature = "uffd")]

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use retpath_engine::blocks::Block;
use retpath_engine::destination::Phase;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, receive};
use retpath_engine::memory::Memory;
use retpath_engine::source::{self, Preempt, Source};
use retpath_support::loops::{
    self, Dial, LONG, Net, PAGE, Still, listen, receive_options, serve_with,
};

const PAGES: u64 = 96;

/// Number of concurrent migrations; each mostly waits for its source to receive SHUT.
const LANES: u64 = 20;

/// A guest that cuts its own link once it runs.
struct Cutting {
    memory: Option<Arc<Memory>>,
    control: Control,
    /// Microseconds before each cut.
    waits: Vec<u64>,
    cutter: Option<thread::JoinHandle<()>>,
}

impl DestinationHandler for Cutting {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = loops::memory(block)?;
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

/// Returns the fill byte of a page; a third of the pages are zero.
fn byte(page: u64, seed: u64) -> u8 {
    match (page * 7 + seed) % 3 {
        0 => 0,
        _ => u8::try_from((page + seed) % 255 + 1).expect("a byte"),
    }
}

/// Runs one migration and returns how often its link broke.
fn migrate(seed: u64) -> u64 {
    let (_dir, mut listener) = listen(Net::Unix);
    let at = listener.address().clone();
    let preempt = [None, Some(Preempt::Early), Some(Preempt::Late)][(seed % 3) as usize];
    let server = thread::spawn(move || {
        let blocks = loops::blocks(&[("pc.ram", PAGES * PAGE)]);
        let memory: Vec<u8> = (0..PAGES)
            .flat_map(|page| [byte(page, seed); PAGE as usize])
            .collect();
        let mut config = source::Config::new("soak");
        config.preempt = preempt;
        // Limit the bandwidth, so that cuts happen during the transfer.
        config.bandwidth = 8 << 20;
        let mut core = Source::new(config, blocks).expect("valid configuration");
        let mut machine = Still(vec![memory]);
        serve_with(&mut core, &mut machine, &mut Dial(at), LONG).expect("migration completes");
        assert_eq!(core.phase(), source::SourcePhase::Completed);
    });
    let control = Control::new().expect("control can be created");
    let waits = (0..seed % 4)
        .map(|cut| (seed * 7919 + cut * 104_729) % 4000)
        .collect();
    let mut guest = Cutting {
        memory: None,
        control: control.clone(),
        waits,
        cutter: None,
    };
    let options = receive_options(preempt.is_some());
    let core = receive(&mut listener, &mut guest, options, &control).expect("migration completes");
    assert_eq!(core.phase(), Phase::Finished);
    assert_eq!(core.stats().present, 0, "a page was placed twice");
    server.join().expect("source thread does not panic");
    guest
        .cutter
        .expect("the guest ran")
        .join()
        .expect("the cutter");
    let memory = guest.memory.expect("announced");
    let mut got = vec![0; PAGE as usize];
    for page in 0..PAGES {
        memory
            .read(page * PAGE, &mut got)
            .expect("range lies in the block");
        assert!(
            got.iter().all(|b| *b == byte(page, seed)),
            "seed {seed}, page {page}"
        );
    }
    core.stats().pauses
}

/// Returns the number of open descriptors and threads of this process, and its resident KiB.
fn footprint() -> [usize; 3] {
    let count = |path| fs::read_dir(path).expect("procfs is mounted").count();
    let status = fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a line");
    let rss = rss
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("value is a number");
    [count("/proc/self/fd"), count("/proc/self/task"), rss]
}

/// Runs `count` migrations with seeds from `first`, and returns how many links broke.
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
fn leaks_nothing_in_a_thousand_migrations() {
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

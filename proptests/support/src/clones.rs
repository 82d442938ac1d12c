//! Clones of one image: destinations whose guests touch pages at random, and what the process that
//! serves them uses.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use retpath_engine::blocks::Block;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, receive};
use retpath_engine::memory::Memory;
use retpath_engine::socket::Listener;
use retpath_random::Random;

use super::loops::{self, PAGE, receive_options};

/// Shortest access that counts as a fault: one to a page that is there takes less.
const FAULT: Duration = Duration::from_micros(2);

/// How a clone's guest touches its memory while the rest of it arrives.
#[derive(Clone, Copy)]
pub struct Touches {
    pub seed: u64,
    /// Time between two touches.
    pub pause: Duration,
}

/// A clone that has all of its memory.
pub struct Clone {
    pub memory: Vec<Arc<Memory>>,
    /// When the guest started, and when the migration was complete.
    pub started: SystemTime,
    pub completed: SystemTime,
    /// Nanoseconds of each access that was a fault.
    pub faults: Vec<u64>,
}

/// Receives one clone.
///
/// # Panics
///
/// Panics if the migration fails.
pub fn receive_clone(listener: &mut Listener, touches: Option<Touches>) -> Clone {
    let control = Control::new().expect("control descriptor can be created");
    let complete = Arc::new(AtomicBool::new(false));
    let mut guest = Guest {
        touches,
        memory: Vec::new(),
        started: None,
        complete: Arc::clone(&complete),
        toucher: None,
    };
    let received = receive(listener, &mut guest, receive_options(false), &control);
    let completed = SystemTime::now();
    complete.store(true, Relaxed);
    received.expect("migration completes");
    let faults = guest.toucher.map(|toucher| toucher.join());
    Clone {
        memory: guest.memory,
        started: guest.started.expect("the guest ran"),
        completed,
        faults: faults.map_or_else(Vec::new, |faults| faults.expect("the guest runs on")),
    }
}

struct Guest {
    touches: Option<Touches>,
    memory: Vec<Arc<Memory>>,
    started: Option<SystemTime>,
    complete: Arc<AtomicBool>,
    toucher: Option<JoinHandle<Vec<u64>>>,
}

impl DestinationHandler for Guest {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = loops::memory(block)?;
        self.memory.push(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        self.started = Some(SystemTime::now());
        let Some(touches) = self.touches else {
            return;
        };
        let memory = Arc::clone(self.memory.first().expect("a block was announced"));
        let complete = Arc::clone(&self.complete);
        self.toucher = Some(thread::spawn(move || touch(&memory, touches, &complete)));
    }
}

/// Touches pages until the clone is complete; returns the nanoseconds of each fault.
fn touch(memory: &Memory, touches: Touches, complete: &AtomicBool) -> Vec<u64> {
    let mut random = Random::new(touches.seed);
    let mut faults = Vec::new();
    while !complete.load(Relaxed) {
        let page = random.below(memory.len() / PAGE);
        let start = Instant::now();
        memory.touch(page * PAGE).expect("page lies in the block");
        let took = start.elapsed();
        if took >= FAULT {
            faults.push(u64::try_from(took.as_nanos()).expect("fits in u64"));
        }
        thread::sleep(touches.pause);
    }
    faults
}

/// What a running process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    pub threads: u64,
    pub descriptors: u64,
    /// Its own memory in bytes, without mapped files and the page cache.
    pub own: u64,
}

impl Footprint {
    /// Looks at a process.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended.
    pub fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        Ok(Self {
            threads: number("Threads:").ok_or_else(gone)?,
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64,
            own: number("RssAnon:").ok_or_else(gone)? << 10,
        })
    }

    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self {
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
            own: self.own.max(other.own),
        }
    }
}

/// Returns whether a child process has ended, and the CPU time that it has used. The child must not
/// have been waited for.
///
/// # Panics
///
/// Panics if there is no such process.
pub fn cpu_time(process: u32) -> (bool, Duration) {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // The command's name, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("stat has a name");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    let per_second = rustix::param::clock_ticks_per_second();
    let millis = (ticks(11) + ticks(12)) * 1000 / per_second;
    (fields[0] == "Z", Duration::from_millis(millis))
}

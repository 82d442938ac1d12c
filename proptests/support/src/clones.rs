//! Clones of one image: destinations whose guests touch pages at random, and what the process that
//! serves them uses.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use retpath_engine::blocks::Block;
use retpath_engine::destination::Destination;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, RunError, receive};
use retpath_engine::memory::Memory;
use retpath_engine::socket::Listener;
use retpath_random::Random;

use super::loops::{self, PAGE, receive_options};

/// Nanoseconds of the shortest access that counts as a fault: one to a page that is there takes less.
const FAULT: u64 = 2_000;

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
    /// Nanoseconds from each cut of the link until the migration was resumed.
    pub outages: Vec<u64>,
}

/// Receives one clone; calls `runs` when its guest starts, before the rest of its memory arrives.
/// From then on the link is cut `cuts` times, if the migration lasts as long.
///
/// # Panics
///
/// Panics if the migration fails.
pub fn receive_clone(
    listener: &mut Listener,
    touches: Option<Touches>,
    cuts: u64,
    runs: &mut dyn FnMut(),
) -> Clone {
    let control = Control::new().expect("control descriptor can be created");
    let complete = Arc::new(AtomicBool::new(false));
    let mut guest = Guest {
        runs,
        touches,
        cuts,
        control: control.clone(),
        broken: None,
        outages: Vec::new(),
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
        outages: guest.outages,
        memory: guest.memory,
        started: guest.started.expect("the guest ran"),
        completed,
        faults: faults.map_or_else(Vec::new, |faults| faults.expect("the guest runs on")),
    }
}

struct Guest<'a> {
    runs: &'a mut dyn FnMut(),
    touches: Option<Touches>,
    /// Cuts that have not been made.
    cuts: u64,
    control: Control,
    /// When the link broke.
    broken: Option<Instant>,
    outages: Vec<u64>,
    memory: Vec<Arc<Memory>>,
    started: Option<SystemTime>,
    complete: Arc<AtomicBool>,
    toucher: Option<JoinHandle<Vec<u64>>>,
}

impl DestinationHandler for Guest<'_> {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = loops::memory(block)?;
        self.memory.push(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        (self.runs)();
        self.started = Some(SystemTime::now());
        self.cut();
        let Some(touches) = self.touches else {
            return;
        };
        let memory = Arc::clone(self.memory.first().expect("a block was announced"));
        let complete = Arc::clone(&self.complete);
        self.toucher = Some(thread::spawn(move || touch(&memory, touches, &complete)));
    }

    fn broken(&mut self, _: &Destination, _: &RunError) {
        self.broken.get_or_insert_with(Instant::now);
    }

    fn recovered(&mut self, _: &Destination) {
        self.outages.extend(self.broken.take().map(nanos_since));
        self.cut();
    }
}

impl Guest<'_> {
    /// Breaks the link soon, if it is to be cut again.
    fn cut(&mut self) {
        if self.cuts > 0 {
            self.cuts -= 1;
            let control = self.control.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(10));
                control.pause();
            });
        }
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
        let took = nanos_since(start);
        if took >= FAULT {
            faults.push(took);
        }
        thread::sleep(touches.pause);
    }
    faults
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).expect("fits in u64")
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

/// Returns the CPU time of a running process, in steps of 10 ms or so.
///
/// # Panics
///
/// Panics if there is no such process.
pub fn cpu_time(process: u32) -> Duration {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // The command's name, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("stat has a name");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    let millis = (ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second();
    Duration::from_millis(millis)
}

/// Returns the CPU time of all child processes that have been waited for.
pub fn cpu_time_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("arguments are valid");
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

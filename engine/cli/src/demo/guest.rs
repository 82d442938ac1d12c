//! The destination's guest: memory, and threads that touch it at random as
//! soon as it runs.
//!
//! The threads share the pages out: each page is touched once, by one of them,
//! in an order that follows from the seed. What a thread finds is compared
//! with the source's memory on the spot: what it waited for must be right the
//! moment it wakes, not only in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use indicatif::ProgressBar;
use retpath_codec::BlockName;

use super::compare::{Found, Place};
use super::held::Held;
use super::random::{Random, Shuffle};
use super::{TARGET, TARGET_BYTES};
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::Destination;
use retpath_engine::driver::{DestinationHandler, HandlerError, RunError};
use retpath_engine::memory::Memory;
use retpath_engine::source::PageSource;

/// Memory that is touched.
pub(super) struct Touched {
    world: Arc<World>,
    threads: u64,
    seed: u64,
    running: Vec<JoinHandle<Found>>,
    bar: ProgressBar,
    /// Why the guest could not be run.
    failure: Option<String>,
}

/// What the threads share.
#[derive(Debug)]
struct World {
    blocks: Blocks,
    memory: Vec<Arc<Memory>>,
    held: Arc<Held>,
    /// Nothing more is to be touched.
    stop: AtomicBool,
    /// Pages that are missing read as zeros from now on.
    lost: AtomicBool,
}

impl Touched {
    /// Memory of `blocks` that is compared with `held`.
    pub(super) fn new(
        blocks: Blocks,
        memory: Vec<Arc<Memory>>,
        held: Arc<Held>,
        (threads, seed): (u64, u64),
        bar: ProgressBar,
    ) -> Self {
        Self {
            world: Arc::new(World {
                blocks,
                memory,
                held,
                stop: AtomicBool::new(false),
                lost: AtomicBool::new(false),
            }),
            threads,
            seed,
            running: Vec::new(),
            bar,
            failure: None,
        }
    }

    /// Lets the threads end; says what they found.
    ///
    /// # Errors
    ///
    /// They could not be started, or one has panicked.
    pub(super) fn finish(self) -> Result<Found, String> {
        self.world.stop.store(true, SeqCst);
        let mut all = Found::default();
        for thread in self.running {
            all.add(
                thread
                    .join()
                    .map_err(|_| "a touching thread has panicked")?,
            );
        }
        self.failure.map_or(Ok(all), Err)
    }

    fn start(&mut self) -> std::io::Result<()> {
        for number in 0..self.threads {
            let world = Arc::clone(&self.world);
            let (count, seed) = (self.threads, self.seed);
            let touch = move || world.touch(number, count, seed);
            let name = format!("touch {number}");
            let thread = thread::Builder::new().name(name).stack_size(128 << 10);
            self.running.push(thread.spawn(touch)?);
        }
        Ok(())
    }
}

impl World {
    /// Touches every `count`-th page of the order, from number `first` on.
    fn touch(&self, first: u64, count: u64, seed: u64) -> Found {
        let pages = self.blocks.total_pages();
        let order = Shuffle::new(pages, seed);
        let mut random = Random::new(seed, 5 + first);
        let step = usize::try_from(count).unwrap_or(usize::MAX);
        let mut found = Found::default();
        let mut bytes = vec![0; TARGET_BYTES];
        for at in (first..pages).step_by(step) {
            if self.stop.load(SeqCst) {
                break;
            }
            let Some(place) = self.place(order.number(at)) else {
                break;
            };
            let memory = &self.memory[place.block];
            let at = place.offset + random.below(TARGET);
            let read = memory.touch(at).map(drop);
            let read = read.and_then(|()| memory.read(place.offset, &mut bytes));
            let want = self.held.lend(place.block, place.offset, TARGET_BYTES);
            let same = read.is_ok() && want == Some(&bytes[..]);
            if self.lost.load(SeqCst) {
                break;
            }
            found.page(place, same);
        }
        found
    }

    /// Where a target page is, counted through all blocks.
    fn place(&self, number: u64) -> Option<Place> {
        let mut offset = number * TARGET;
        for (block, Block { len, .. }) in self.blocks.iter().enumerate() {
            if offset < *len {
                return Some(Place { block, offset });
            }
            offset -= len;
        }
        None
    }
}

impl DestinationHandler for Touched {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let id = self.world.blocks.find(block.name.name());
        let memory = id.and_then(|id| self.world.memory.get(id));
        memory
            .map(|memory| Some(Arc::clone(memory)))
            .ok_or_else(|| format!("no memory was made for RAM block {}", block.name).into())
    }

    fn run(&mut self) {
        if let Err(error) = self.start() {
            let threads = self.threads;
            self.failure = Some(format!("{threads} threads cannot be started: {error}"));
        }
    }

    fn progress(&mut self, core: &Destination) {
        let stats = core.stats();
        let left = core.pages().missing() * TARGET;
        let all = self.bar.length().unwrap_or(0);
        self.bar.set_position(all.saturating_sub(left));
        let mut message = format!("{} by demand", stats.demand);
        if stats.pauses > 0 {
            message += &format!(", {} cuts", stats.pauses);
        }
        self.bar.set_message(message);
    }

    fn failed(&mut self, _: &RunError) -> bool {
        // Before the memory is let go, so that whoever wakes then knows.
        self.world.lost.store(true, SeqCst);
        true
    }
}

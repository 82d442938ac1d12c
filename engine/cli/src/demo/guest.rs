//! The destination's guest: memory, and threads that touch it in random order as soon as it runs.
//!
//! The threads divide the pages among them; each page is touched once. A thread compares what it
//! finds with the source's memory on the spot: a page must be right when its waiter wakes, not only
//! at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use indicatif::ProgressBar;
use retpath_codec::BlockName;

use super::content::{Content, Random};
use super::report::{Compared, Page};
use super::{TARGET, TARGET_BYTES};
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination::Destination;
use retpath_engine::driver::{DestinationHandler, HandlerError, RunError};
use retpath_engine::memory::Memory;
use retpath_engine::source::PageSource;
use tracing::info;

/// A guest whose memory is touched.
pub(super) struct TouchedGuest {
    shared: Arc<Shared>,
    threads: u16,
    running: Vec<JoinHandle<Compared>>,
    bar: ProgressBar,
    /// Why the threads could not be started.
    failure: Option<io::Error>,
}

/// What the threads use.
#[derive(Debug)]
struct Shared {
    blocks: Blocks,
    memory: Vec<Arc<Memory>>,
    content: Arc<Content>,
    /// Target pages, counted through all blocks, in the order in which they are touched.
    order: Vec<u64>,
    seed: u64,
    /// The threads are to end.
    stop: AtomicBool,
    /// Missing pages read as zeros from now on.
    lost: AtomicBool,
}

impl TouchedGuest {
    /// A guest with `memory` that should receive `content`.
    ///
    /// # Errors
    ///
    /// There is no memory for the order of the pages.
    pub(super) fn new(
        blocks: Blocks,
        memory: Vec<Arc<Memory>>,
        content: Arc<Content>,
        (threads, seed): (u16, u64),
        bar: ProgressBar,
    ) -> Result<Self, String> {
        let order = Random::new(seed, 1).order(blocks.total_pages());
        Ok(Self {
            shared: Arc::new(Shared {
                blocks,
                memory,
                content,
                order: order.ok_or("cannot allocate memory for the order of the pages")?,
                seed,
                stop: AtomicBool::new(false),
                lost: AtomicBool::new(false),
            }),
            threads,
            running: Vec::new(),
            bar,
            failure: None,
        })
    }

    /// Ends the threads; returns what they found.
    ///
    /// # Errors
    ///
    /// The threads could not be started, or one panicked.
    pub(super) fn finish(self) -> Result<Compared, String> {
        self.shared.stop.store(true, SeqCst);
        let mut all = Compared::default();
        for thread in self.running {
            all.add(thread.join().map_err(|_| "a touching thread panicked")?);
        }
        let threads = self.threads;
        self.failure.map_or(Ok(all), |error| {
            Err(format!("cannot start {threads} threads: {error}"))
        })
    }

    fn start(&mut self) -> io::Result<()> {
        for number in 0..self.threads {
            let shared = Arc::clone(&self.shared);
            let count = self.threads;
            let touch = move || shared.touch(number, count);
            let name = format!("touch {number}");
            let thread = thread::Builder::new().name(name).stack_size(128 << 10);
            self.running.push(thread.spawn(touch)?);
        }
        Ok(())
    }
}

impl Shared {
    /// Touches every `count`-th page of the order, beginning with number `first`.
    fn touch(&self, first: u16, count: u16) -> Compared {
        let mut random = Random::new(self.seed, 5 + u64::from(first));
        let mine = self.order.iter().skip(first.into());
        let mut found = Compared::default();
        let mut bytes = [0; TARGET_BYTES];
        for number in mine.step_by(count.into()) {
            if self.stop.load(SeqCst) {
                break;
            }
            let Some(page) = self.page(*number) else {
                break;
            };
            let memory = &self.memory[page.block];
            let touched = memory.touch(page.offset + random.below(TARGET)).map(drop);
            let read = touched.and_then(|()| memory.read(page.offset, &mut bytes));
            let sent = &self.content.memory;
            let want = sent.lend(page.block, page.offset, TARGET_BYTES);
            let is_same = read.is_ok() && want == Some(&bytes[..]);
            if self.lost.load(SeqCst) {
                break;
            }
            found.page(page, is_same);
        }
        found
    }

    /// The place of a target page that is counted through all blocks.
    fn page(&self, number: u64) -> Option<Page> {
        let mut offset = number * TARGET;
        for (block, Block { len, .. }) in self.blocks.iter().enumerate() {
            if offset < *len {
                return Some(Page { block, offset });
            }
            offset -= len;
        }
        None
    }
}

impl DestinationHandler for TouchedGuest {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let id = self.shared.blocks.find(block.name.name());
        let memory = id.and_then(|id| self.shared.memory.get(id));
        memory
            .map(|memory| Some(Arc::clone(memory)))
            .ok_or_else(|| format!("unknown RAM block {}", block.name).into())
    }

    fn run(&mut self) {
        info!("the guest runs");
        self.failure = self.start().err();
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
        // Set before missing pages read as zeros, so that a waking thread sees it.
        self.shared.lost.store(true, SeqCst);
        true
    }
}

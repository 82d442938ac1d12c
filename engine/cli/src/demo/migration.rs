//! The migration: a source and a destination in this process, and the links between them.
//!
//! The destination's guest is a number of threads that touch pages in random order as soon as it
//! runs. They divide the pages among them, so each page is touched once. A thread compares what it
//! finds with the source's memory on the spot: a page must be right when its waiter wakes, not only
//! at the end.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use indicatif::ProgressBar;
use retpath_codec::{BlockName, forward};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, BlockId, Blocks};
use retpath_engine::destination::{self, Destination};
use retpath_engine::driver::{
    Connector, Control, DestinationHandler, HandlerError, ReceiveOptions, RunError, ServeOptions,
    SourceHandler, receive, serve,
};
use retpath_engine::memory::{Error as MemoryError, Memory};
use retpath_engine::socket::{ChannelError, ConnectionQueue, Link};
use retpath_engine::source::{Config, PageSource, Preempt, Source};
use retpath_engine::stats::Stats;
use tracing::{debug, info};

use super::content::Content;
use super::cuts::Cuts;
use super::{Args, SocketKind, TARGET, TARGET_BYTES};

/// How long either side waits for the other to reconnect or to resume: both are in this process, so
/// this happens at once, or never.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is migrated.
pub(super) struct Job<'a> {
    pub(super) args: &'a Args,
    pub(super) blocks: &'a Blocks,
    pub(super) content: &'a Content,
    /// The destination's memory of each block.
    pub(super) memory: Vec<Arc<Memory>>,
    /// The pages in the order in which they are touched.
    pub(super) order: Vec<Page>,
    pub(super) bar: &'a ProgressBar,
}

/// The place of a target page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) block: BlockId,
    pub(super) offset: u64,
}

/// The result of comparing target pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) pages: u64,
    pub(super) wrong: u64,
    pub(super) first_wrong: Option<Page>,
}

/// A migration that has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Migrated {
    pub(super) destination: Stats,
    pub(super) source: Stats,
    /// The pages that threads touched, at that time.
    pub(super) touched: Compared,
    /// Cuts that happened.
    pub(super) cuts: usize,
    /// Time from the first connection until the destination had everything.
    pub(super) time: Duration,
}

/// Every target page, in order.
pub(super) fn pages(blocks: &Blocks) -> impl Iterator<Item = Page> {
    blocks
        .iter()
        .enumerate()
        .flat_map(|(block, Block { len, .. })| {
            let offsets = (0..len / TARGET).map(|number| number * TARGET);
            offsets.map(move |offset| Page { block, offset })
        })
}

impl Compared {
    pub(super) fn page(&mut self, page: Page, is_same: bool) {
        self.pages += 1;
        if !is_same {
            self.wrong += 1;
            self.first_wrong.get_or_insert(page);
        }
    }

    fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.or(other.first_wrong);
    }
}

impl Job<'_> {
    /// Whether a page at the destination is the source's.
    fn is_same(&self, Page { block, offset }: Page) -> Result<bool, MemoryError> {
        let mut got = [0; TARGET_BYTES];
        self.memory[block].read(offset, &mut got)?;
        Ok(self.content.memory[block].page(offset, TARGET_BYTES) == Some(&got))
    }

    /// Compares every page.
    ///
    /// # Errors
    ///
    /// The destination's memory is shorter than its block.
    pub(super) fn compare(&self) -> Result<Compared, MemoryError> {
        let mut compared = Compared::default();
        for page in pages(self.blocks) {
            compared.page(page, self.is_same(page)?);
        }
        Ok(compared)
    }

    /// Migrates over links that `cuts` breaks.
    pub(super) fn migrate(&self, cuts: Cuts, random: &mut Rng) -> Result<Migrated, String> {
        let mut network = Network::new(self.args.channel, cuts)?;
        let mut queue = network.queue.clone();
        let control = || Control::new().map_err(no_descriptor);
        let (of_source, of_destination) = (control()?, control()?);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let source = || {
                let served = self.serve(&mut network, &of_source);
                if served.is_err() {
                    of_destination.stop();
                }
                served.map(|(stats, time)| (stats, time, network.cuts.done()))
            };
            let source = thread::Builder::new()
                .name("source".into())
                .spawn_scoped(scope, source);
            let source =
                source.map_err(|error| format!("cannot start the source's thread: {error}"))?;
            let mut guest = Guest {
                job: self,
                scope,
                stop: &stop,
                random: random.fork(),
                threads: Ok(Vec::new()),
            };
            let received = receive(&mut queue, &mut guest, self.options(), &of_destination);
            if received.is_err() {
                of_source.stop();
            }
            let served = source.join().map_err(|_| "the source's thread panicked")?;
            let touched = guest.finish();
            match (received, served) {
                (Ok(core), Ok((source, time, cuts))) => Ok(Migrated {
                    destination: core.stats().clone(),
                    source,
                    touched: touched?,
                    cuts,
                    time,
                }),
                (Err(RunError::Stopped) | Ok(_), Err(error)) => {
                    Err(format!("the source failed: {error}"))
                }
                (Err(error), Err(RunError::Stopped) | Ok(_)) => Err(error.to_string()),
                // One broke the link, and the other noticed.
                (Err(ours), Err(theirs)) => Err(format!("{ours}; the source failed: {theirs}")),
            }
        })
    }

    fn options(&self) -> ReceiveOptions {
        let sizes = self
            .blocks
            .iter()
            .map(|block| (block.name.clone(), block.page));
        let sizes: Vec<_> = sizes.collect();
        ReceiveOptions::default()
            .core(
                destination::Config::default()
                    .preempt(self.args.preempt)
                    .page_sizes(sizes.clone()),
            )
            .stream(forward::Options::default().page_sizes(sizes))
            .reconnect_timeout(TIMEOUT)
            .recovery_timeout(TIMEOUT)
    }

    /// Serves the content; returns the source's counters, and how long it took.
    fn serve(
        &self,
        network: &mut Network,
        control: &Control,
    ) -> Result<(Stats, Duration), RunError> {
        let config = Config::new("retpath-demo")
            .preempt(self.args.preempt.then_some(Preempt::Late))
            .bandwidth(self.args.bandwidth)
            .predict(!self.args.no_predict)
            .ping_loaded(true);
        let mut core = Source::new(config, self.blocks.clone())?;
        let options = ServeOptions::default().reconnect_timeout(TIMEOUT);
        let start = Instant::now();
        let mut machine = StoppedMachine(self.content);
        serve(&mut core, &mut machine, network, &options, control)?;
        Ok((core.stats().clone(), start.elapsed()))
    }
}

/// A machine whose guest does not run: it is switched at once.
struct StoppedMachine<'a>(&'a Content);

impl SourceHandler for StoppedMachine<'_> {
    fn pages(&self) -> &dyn PageSource {
        &self.0.memory
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        info!("switching to postcopy");
        Ok(core.switch(Vec::new())?)
    }
}

fn no_descriptor(error: io::Error) -> String {
    format!("cannot create an event descriptor: {error}")
}

/// Connects the source with the destination, over links that no other process can reach.
struct Network {
    /// For TCP.
    listener: Option<TcpListener>,
    /// The destination's ends of new links.
    queue: ConnectionQueue,
    cuts: Cuts,
}

impl Network {
    fn new(kind: SocketKind, cuts: Cuts) -> Result<Self, String> {
        let listener = match kind {
            SocketKind::Unix => None,
            SocketKind::Tcp => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                Some(listener.map_err(|error| format!("cannot listen on tcp:127.0.0.1: {error}"))?)
            }
        };
        let queue = ConnectionQueue::new().map_err(no_descriptor)?;
        Ok(Self {
            listener,
            queue,
            cuts,
        })
    }

    /// The ends of a new link, at source and destination.
    fn link(&self) -> io::Result<(Link, Link)> {
        let Some(listener) = &self.listener else {
            return Link::pair();
        };
        let near = TcpStream::connect(listener.local_addr()?)?;
        loop {
            let (far, from) = listener.accept()?;
            // Not a connection of another process.
            if from == near.local_addr()? {
                return Ok((Link::new(near.into())?, Link::new(far.into())?));
            }
        }
    }
}

impl Connector for Network {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        if channel == Channel::Main {
            self.cuts.arm();
        }
        let failed = |what, address: &str, error| ChannelError::Io {
            what,
            address: address.into(),
            error,
        };
        let ends = self.link();
        let ends =
            ends.map_err(|error| failed("cannot connect to", "the destination's socket", error))?;
        debug!(%channel, cuts = self.cuts.done(), "connected");
        let (source, destination) = self.cuts.link(ends);
        let pushed = self.queue.push(destination);
        pushed.map_err(|error| failed("cannot write", "the queue's event descriptor", error))?;
        Ok(source)
    }
}

/// The destination's guest.
struct Guest<'scope, 'env> {
    job: &'env Job<'env>,
    scope: &'scope Scope<'scope, 'env>,
    /// The threads are to end. From now on missing pages may read as zeros.
    stop: &'env AtomicBool,
    random: Rng,
    /// The threads, or why they could not be started.
    threads: io::Result<Vec<ScopedJoinHandle<'scope, Compared>>>,
}

impl Guest<'_, '_> {
    /// Ends the threads; returns what they found.
    fn finish(self) -> Result<Compared, String> {
        self.stop.store(true, SeqCst);
        let threads = self.threads.map_err(|error| {
            let count = self.job.args.threads;
            format!("cannot start {count} threads: {error}")
        })?;
        let mut all = Compared::default();
        for thread in threads {
            all.add(thread.join().map_err(|_| "a touching thread panicked")?);
        }
        Ok(all)
    }
}

/// Touches every `count`-th page of the order, beginning with number `first`.
fn touch(
    job: &Job<'_>,
    stop: &AtomicBool,
    (first, count): (u16, u16),
    mut random: Rng,
) -> Compared {
    let mut found = Compared::default();
    for page in job.order.iter().skip(first.into()).step_by(count.into()) {
        let touched = job.memory[page.block].touch(page.offset + random.u64(..TARGET));
        let is_same = touched.and_then(|_| job.is_same(*page)).unwrap_or(false);
        if stop.load(SeqCst) {
            break;
        }
        found.page(*page, is_same);
    }
    found
}

impl DestinationHandler for Guest<'_, '_> {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let id = self.job.blocks.find(block.name.name());
        let memory = id.and_then(|id| self.job.memory.get(id));
        let memory = memory.ok_or_else(|| format!("unknown RAM block {}", block.name))?;
        Ok(Some(Arc::clone(memory)))
    }

    fn run(&mut self) {
        info!("the guest runs");
        let (job, stop, count) = (self.job, self.stop, self.job.args.threads);
        let start = |number| {
            let random = self.random.fork();
            let thread = thread::Builder::new().name(format!("touch {number}"));
            let touch = move || touch(job, stop, (number, count), random);
            thread.stack_size(128 << 10).spawn_scoped(self.scope, touch)
        };
        self.threads = (0..count).map(start).collect();
    }

    fn progress(&mut self, core: &Destination) {
        let stats = core.stats();
        let left = core.pages().missing() * TARGET;
        self.job
            .bar
            .set_position(self.job.args.size.saturating_sub(left));
        let mut message = format!("{} by demand", stats.demand);
        if stats.pauses > 0 {
            message += &format!(", {} cuts", stats.pauses);
        }
        self.job.bar.set_message(message);
    }

    fn failed(&mut self, _: &RunError) -> bool {
        // Set before missing pages read as zeros, so that a waking thread sees it.
        self.stop.store(true, SeqCst);
        true
    }
}

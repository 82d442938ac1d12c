//! `retpath demo`: a whole postcopy migration over a socket, with every page compared.
//!
//! ```text
//!  source (a thread)                      destination (the main thread)
//!    content of every page                  memory, empty, behind userfaultfd
//!    serves    ◀──── requests ────────────  threads touch pages in random order
//!              ───── pages ──────────────▶  places pages, wakes the threads
//!                                           at the end: compares every page
//! ```
//!
//! Nothing is simulated: both sides are the engine's loops, the bytes on the socket are QEMU's
//! protocol, and the faults are the kernel's. Both sides are in one process so that either can be
//! compared with the other; they share nothing but the socket while pages move. Signals end the
//! process at once: no guest depends on it, and it leaves no file behind.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use retpath_codec::forward;
use rustix::fs::{Mode, OFlags};

use crate::exit::{Error, Exit};
use crate::progress::{self, byte_bar};
use crate::signals::fail_writes_past_the_file_size_limit;
use crate::size::Human;
use crate::{Format, output};
use retpath_engine::blocks::Blocks;
use retpath_engine::destination;
use retpath_engine::driver::{Control, ReceiveOptions, RunError, receive};
use retpath_engine::memory::{self, Backing, Memory};
use retpath_engine::socket::{Address, Listener};
use retpath_engine::stats::Stats;
use retpath_engine::uffd::Uffd;

mod args;
mod content;
mod cuts;
mod guest;
mod report;
mod source;

pub(crate) use args::Args;

use args::Channel;
use content::Content;
use cuts::{Cuts, Side};
use guest::TouchedGuest;
use report::{Compared, Report};
use source::{Served, serve_content};

/// Bytes of a target page.
const TARGET: u64 = 4096;
const TARGET_BYTES: usize = 4096;

/// Runs the demonstration.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    args.check().map_err(Error::Usage)?;
    let bar = byte_bar(Some(args.size), true);
    bar.set_draw_target(progress::target());
    let done = demonstrate(args, &bar);
    bar.finish_and_clear();
    Ok(done?)
}

fn demonstrate(args: &Args, bar: &ProgressBar) -> Result<Exit, String> {
    let blocks = args.layout()?;
    // The limit applies to huge pages, too, which are in a memfd.
    fail_writes_past_the_file_size_limit()
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let route = Uffd::open().map_err(|error| error.to_string())?.route();
    let memory = allocate(&blocks, args)?;
    bar.set_message("filling the source's memory");
    bar.tick();
    let content = Content::new(&blocks, args.seed)
        .map_err(|error| format!("cannot fill the source's memory: {error}"))?;
    let content = Arc::new(content);
    let bytes = content.bytes_to_send();
    let cuts = Cuts::new(args.seed, args.cuts, bytes, args.blocks).ok_or_else(|| {
        let cuts = args.cuts;
        format!("{cuts} cuts do not fit into {bytes} bytes of pages: choose a larger --size")
    })?;
    let (touching, shown) = ((args.threads, args.seed), bar.clone());
    let guest = TouchedGuest::new(
        blocks.clone(),
        memory.clone(),
        Arc::clone(&content),
        touching,
        shown,
    )?;
    let cuts = Arc::new(cuts);
    let (destination, touched, source) = migrate(args, &blocks, guest, &content, &cuts)?;

    bar.set_message("comparing every page");
    let mut end = Compared::default();
    for ((block, memory), id) in blocks.iter().zip(&memory).zip(0..) {
        end.block(id, block.len, memory, &content)?;
    }
    bar.finish_and_clear();
    print(&Report {
        args,
        blocks: &blocks,
        route,
        end,
        touched,
        destination,
        source: &source,
        source_zero: content.zero,
        cuts: u64::try_from(cuts.done()).unwrap_or(u64::MAX),
    })
}

/// Prints the report; fails if a page is wrong or the report cannot be written.
fn print(report: &Report<'_>) -> Result<Exit, String> {
    let complaints = report.complaints();
    let text = match report.args.format {
        Format::Text => report.text(),
        Format::Json => format!("{}\n", report.json(&complaints)),
    };
    let printed = output::print(&text);
    for complaint in &complaints {
        output::note(format_args!("retpath demo: {complaint}"));
    }
    let verdict = match complaints.is_empty() {
        true => "every page is right; ",
        false => "",
    };
    printed.map_err(|error| {
        format!("{verdict}the report cannot be written to standard output: {error}")
    })?;
    Ok(match complaints.is_empty() {
        true => Exit::Success,
        false => Exit::Failure,
    })
}

/// Migrates; returns the destination's counters, what the threads found, and the source's report.
fn migrate(
    args: &Args,
    blocks: &Blocks,
    mut guest: TouchedGuest,
    content: &Content,
    cuts: &Arc<Cuts>,
) -> Result<(Stats, Compared, Served), String> {
    let (mut listener, address, _socket) = listen(args.channel)?;
    let accepted = Arc::clone(cuts);
    listener.on_accept(move |link| accepted.linked(Side::Destination, link));
    let control =
        || Control::new().map_err(|error| format!("cannot create an event descriptor: {error}"));
    let (of_source, of_destination) = (control()?, control()?);
    let page_sizes = blocks.iter().map(|block| (block.name.clone(), block.page));
    let page_sizes: Vec<_> = page_sizes.collect();
    let options = ReceiveOptions {
        core: destination::Config {
            preempt: args.preempt,
            page_sizes: page_sizes.clone(),
            ..destination::Config::default()
        },
        stream: forward::Options::default().page_sizes(page_sizes),
        // The source reconnects at once, or has ended.
        reconnect_timeout: Duration::from_secs(30),
        recovery_timeout: Duration::from_secs(30),
        ..ReceiveOptions::default()
    };
    let (received, served) = thread::scope(|scope| {
        let work = || {
            let to = (&address, &**cuts);
            let served = serve_content(args, blocks.clone(), content, to, &of_source);
            if served.is_err() {
                of_destination.stop();
            }
            served
        };
        let source = thread::Builder::new().name("source".into());
        let source = source.spawn_scoped(scope, work);
        let source =
            source.map_err(|error| format!("cannot start the source's thread: {error}"))?;
        let received = receive(&mut listener, &mut guest, options, &of_destination);
        if received.is_err() {
            of_source.stop();
        }
        let served = source.join();
        Ok::<_, String>((
            received,
            served.map_err(|_| "the source's thread panicked")?,
        ))
    })?;
    let touched = guest.finish();
    match (received, served) {
        (Ok(core), Ok(served)) => Ok((core.stats().clone(), touched?, served)),
        (Err(RunError::Stopped) | Ok(_), Err(error)) => Err(format!("the source failed: {error}")),
        (Err(error), Err(RunError::Stopped) | Ok(_)) => Err(error.to_string()),
        // One broke the link, and the other noticed.
        (Err(ours), Err(theirs)) => Err(format!("{ours}; the source failed: {theirs}")),
    }
}

/// Listens; returns the address to connect to, and what must stay open while it is used.
///
/// A Unix socket is removed from the file system before anybody connects: it is reached through an
/// open descriptor. So no other process can connect, and no file is left whatever ends this one.
fn listen(channel: Channel) -> Result<(Listener, Address, Option<OwnedFd>), String> {
    let bind = |address: Address| address.listen(false).map_err(|error| error.to_string());
    let (host, port) = ("127.0.0.1".into(), 0);
    if channel == Channel::Tcp {
        let listener = bind(Address::Tcp { host, port })?;
        let address = listener.address().clone();
        return Ok((listener, address, None));
    }
    let name = format!("retpath-demo-{:016x}", RandomState::new().hash_one(()));
    let folder = std::env::temp_dir().join(name);
    let made = DirBuilder::new().mode(0o700).create(&folder);
    made.map_err(|error| format!("cannot create the folder {}: {error}", folder.display()))?;
    let path = folder.join("demo.sock");
    let listener = bind(Address::Unix(path.clone()));
    let socket = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    // Best effort: what cannot be removed does no harm.
    let _ = fs::remove_file(&path);
    let _ = fs::remove_dir(&folder);
    let listener = listener?;
    let socket = socket.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let address = PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()));
    Ok((listener, Address::Unix(address), Some(socket)))
}

/// Allocates the destination's memory.
fn allocate(blocks: &Blocks, args: &Args) -> Result<Vec<Arc<Memory>>, String> {
    let backing = args.backing();
    let is_huge = matches!(backing, Backing::Huge2M | Backing::Huge1G);
    // Huge pages come from the pool, which is not part of the available memory.
    let need = args.size.saturating_mul(if is_huge { 1 } else { 2 });
    if let Some(free) = available().filter(|free| *free < need) {
        let (size, need, free) = (Human(args.size), need >> 20, free >> 20);
        return Err(format!(
            "moving {size} needs {need} MiB of memory for source and destination, but only {free} \
             MiB are available: choose a smaller --size"
        ));
    }
    let allocate = |len| {
        Memory::new(backing, len).map_err(|error| match error {
            memory::Error::NoHugePages { .. } => {
                format!("{error}; `retpath doctor` shows the pools")
            }
            error => error.to_string(),
        })
    };
    if is_huge {
        // All at once and dropped again, so that the error names a pool that suffices for all blocks.
        allocate(args.size)?;
    }
    let memory = blocks.iter().map(|block| allocate(block.len).map(Arc::new));
    memory.collect()
}

/// Bytes of memory that programs can still allocate, if the kernel tells.
fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
fn test_args(options: &[&str]) -> Args {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let line: Line = clap::Parser::parse_from(std::iter::once(&"demo").chain(options));
    line.args
}

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

use std::fs;
use std::sync::Arc;

use fastrand::Rng;
use indicatif::ProgressBar;

use crate::exit::{Error, Exit};
use crate::output;
use crate::progress::{self, byte_bar};
use crate::signals::fail_writes_past_the_file_size_limit;
use crate::size::Human;
use crate::uffd_error;
use retpath_engine::blocks::Blocks;
use retpath_engine::memory::{self, Backing, Memory};
use retpath_engine::uffd::Uffd;

mod args;
mod content;
mod cuts;
mod fault_injector;
mod migration;
mod report;

pub(crate) use args::Args;

use args::SocketKind;
use content::Content;
use cuts::Cuts;
use migration::{Job, Page, pages};
use report::Report;

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
    let blocks = &args.layout()?;
    // The limit applies to huge pages, too, which are in a memfd.
    fail_writes_past_the_file_size_limit()
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let route = Uffd::open().map_err(uffd_error)?.route();
    let memory = allocate(blocks, args)?;
    let mut random = Rng::with_seed(args.seed);
    let order = shuffled_pages(blocks, &mut random);
    let order = order.ok_or("cannot allocate memory for the order of the pages")?;
    bar.set_message("filling the source's memory");
    bar.tick();
    let content = &Content::new(blocks, &mut random)
        .map_err(|error| format!("cannot fill the source's memory: {error}"))?;
    let bytes = content.bytes_to_send();
    let cuts = Cuts::new(&mut random, args.cuts, bytes, args.blocks).ok_or_else(|| {
        let cuts = args.cuts;
        format!("{cuts} cuts do not fit into {bytes} bytes of pages: choose a larger --size")
    })?;
    let job = Job {
        args,
        blocks,
        content,
        memory,
        order,
        bar,
    };
    let migrated = job.migrate(cuts, &mut random)?;
    bar.set_message("comparing every page");
    let end = job.compare().map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    print(&Report {
        job: &job,
        route,
        end,
        migrated: &migrated,
    })
}

/// Prints the report; fails if a page is wrong or the report cannot be written.
fn print(report: &Report<'_>) -> Result<Exit, String> {
    let complaints = report.complaints();
    let format = report.job.args.format;
    let text = format.render(|| report.text(), || report.json(&complaints));
    let printed = output::print(&text);
    for complaint in &complaints {
        output::note(format_args!("retpath demo: {complaint}"));
    }
    let (verdict, exit) = match complaints.is_empty() {
        true => ("every page is right; ", Exit::Success),
        false => ("", Exit::Failure),
    };
    printed.map_err(|error| {
        format!("{verdict}the report cannot be written to standard output: {error}")
    })?;
    Ok(exit)
}

/// Every page in random order; `None` without memory for them.
fn shuffled_pages(blocks: &Blocks, random: &mut Rng) -> Option<Vec<Page>> {
    let mut order = Vec::new();
    let total = usize::try_from(blocks.total_pages()).ok()?;
    order.try_reserve_exact(total).ok()?;
    order.extend(pages(blocks));
    random.shuffle(&mut order);
    Some(order)
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

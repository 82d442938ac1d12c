//! `retpath demo`: a whole migration between two processes, with every page
//! compared.
//!
//! ```text
//!  this process: destination              child: source
//!    makes memory, listens
//!    starts ───────────────────────────▶  fills a memfd, seals it
//!    maps the same memfd ◀── descriptor ─
//!    accepts ◀───── the migration ──────▶ serves
//!    threads touch pages at random
//!    compares every page ◀─── report ───  ends
//! ```
//!
//! Nothing here simulates: both are what `retpath` is made of, the wire is
//! QEMU's. Each process notices when the other one is gone, and ends with a
//! message. Signals end this one at once, and so both: no guest depends on them. Exit code 0 if every
//! page is right, 1 if one is wrong, missing or was placed twice or something
//! failed, 2 for wrong usage.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use retpath_codec::forward;

use super::signals::fail_writes_past_the_file_size_limit;
use super::size::Human;
use super::{Format, output};
use retpath_engine::blocks::Blocks;
use retpath_engine::destination::{self, Destination, ErrorKind};
use retpath_engine::driver::{Control, ReceiveOptions, RunError, receive};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, Listener};
use retpath_engine::uffd::Uffd;

mod compare;
mod content;
mod cuts;
mod folder;
mod guest;
mod held;
mod job;
mod peer;
mod random;
mod report;
mod source;
mod summary;
mod talk;

pub use source::{SourceArgs, run_source};

use compare::{Found, Verdict, compare};
use cuts::Fuses;
use folder::Folder;
use guest::Touched;
use held::Held;
use job::Job;
use peer::Peer;
use report::Report;

/// Bytes of a target page.
const TARGET: u64 = 4096;
const TARGET_BYTES: usize = 4096;

/// Command line of `retpath demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: Job,
    /// How many threads touch pages while they are moved.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(..=1024))]
    threads: u64,
    /// What joins the two processes.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    channel: Channel,
    /// How to print the result; json is one object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Channel {
    /// A socket in a folder of its own.
    #[default]
    Unix,
    /// A port of the loopback interface that the kernel chooses.
    Tcp,
}

impl Channel {
    fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }
}

/// Runs the demonstration.
pub fn run(args: &Args) -> ExitCode {
    if let Err(wrong) = args.job.check() {
        return output::wrong_usage(wrong);
    }
    let bar = bar(args.job.size);
    match demonstrate(args, &bar) {
        Ok(code) => code,
        Err(why) => {
            bar.finish_and_clear();
            output::note(format_args!("retpath demo: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(args: &Args, bar: &ProgressBar) -> Result<ExitCode, String> {
    let job = &args.job;
    let blocks = job.layout()?;
    // The limit holds for memory of huge pages, too, which is a file.
    fail_writes_past_the_file_size_limit()
        .map_err(|error| format!("listening for signals: {error}"))?;
    // First what can be missing on this machine, with what to do about it.
    let route = Uffd::open().map_err(|error| error.to_string())?.route();
    let memory = make(&blocks, job)?;

    let folder = match args.channel {
        Channel::Unix => Some(Folder::new()?),
        Channel::Tcp => None,
    };
    let address = match &folder {
        Some(folder) => Address::Unix(folder.path().join("demo.sock")),
        None => Address::Tcp {
            host: "127.0.0.1".into(),
            port: 0,
        },
    };
    let listener = address.listen(false).map_err(|error| error.to_string())?;
    let start = Peer::start(job, listener.address());
    let mut peer = start.map_err(|error| format!("starting the source's process: {error}"))?;
    bar.set_message("filling the source's memory");
    bar.tick();
    let held = Arc::new(Held::map(&peer.memory()?, &blocks)?);

    let guest = Touched::new(
        blocks.clone(),
        memory.clone(),
        held.clone(),
        (args.threads, job.seed),
        bar.clone(),
    );
    let (core, source, touched) = migrate(job, listener, guest, peer)?;
    drop(folder);

    bar.set_message("comparing every page");
    let mut end = Found::default();
    for ((block, memory), id) in blocks.iter().zip(&memory).zip(0..) {
        end.add(compare(id, block.len, memory, &held)?);
    }
    bar.finish_and_clear();
    let verdict = Verdict {
        blocks: &blocks,
        end,
        touched,
        destination: core.stats(),
        source: &source,
        cuts: job.cuts,
    };
    let complaints = verdict.complaints();
    let report = Report {
        args,
        route,
        verdict: &verdict,
    };
    let text = match args.format {
        Format::Text => report.text(),
        Format::Json => format!("{}\n", report.json(&complaints)),
    };
    let printed = output::print(&text);
    for complaint in &complaints {
        output::note(format_args!("retpath demo: {complaint}"));
    }
    if let Err(error) = printed {
        let verdict = match complaints.is_empty() {
            true => "every page is right; ",
            false => "",
        };
        return Err(format!(
            "{verdict}the report cannot be written to standard output: {error}"
        ));
    }
    Ok(match complaints.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Receives everything; gives what both sides say about it.
fn migrate(
    job: &Job,
    mut listener: Listener,
    mut guest: Touched,
    mut peer: Peer,
) -> Result<(Destination, summary::SourceSummary, Found), String> {
    let fuses = Fuses::default();
    let control = Control::new().map_err(|error| format!("making a descriptor: {error}"))?;
    let listening = peer.listen(fuses.clone(), control.clone());
    listening.map_err(|error| format!("listening to the source's process: {error}"))?;
    listener.on_accept(move |link| fuses.accepted(link));

    let layout = job.layout()?;
    let page_sizes: Vec<_> = layout
        .iter()
        .map(|block| (block.name.clone(), block.page))
        .collect();
    let options = ReceiveOptions {
        core: destination::Config {
            preempt: job.preempt,
            page_sizes: page_sizes.clone(),
            ..destination::Config::default()
        },
        stream: forward::Options::default().page_sizes(page_sizes),
        // The source's process is watched: it comes back, or `control` ends
        // this.
        reconnect_timeout: Duration::from_secs(3600),
        recovery_timeout: Duration::from_secs(30),
        accept_unproven_end: false,
    };
    let received = receive(&mut listener, &mut guest, options, &control);
    match received {
        Ok(core) => {
            let touched = guest.finish();
            let source = peer.report()?;
            Ok((core, source, touched?))
        }
        Err(error) => {
            let may_be_its_fault = is_its_fault(&error);
            let why = peer.stop(may_be_its_fault);
            // What the threads found is of no interest any more.
            let _ = guest.finish();
            Err(why
                .filter(|_| may_be_its_fault)
                .unwrap_or_else(|| error.to_string()))
        }
    }
}

/// Whether an error may only be what is seen here of the source's own.
fn is_its_fault(error: &RunError) -> bool {
    match error {
        RunError::Stopped
        | RunError::Closed
        | RunError::Link { .. }
        | RunError::Abandoned { .. } => true,
        RunError::Destination(error) => error.kind == ErrorKind::LinkLost,
        _ => false,
    }
}

/// Memory for all blocks.
fn make(blocks: &Blocks, job: &Job) -> Result<Vec<Arc<Memory>>, String> {
    let backing = job.page_size.backing();
    let copies = match backing {
        Backing::Anonymous | Backing::Shared => 2,
        // The destination's comes from the pool.
        Backing::Huge2M | Backing::Huge1G => 1,
    };
    let need = job.size.saturating_mul(copies);
    if let Some(free) = available().filter(|free| *free < need) {
        let size = Human(job.size);
        let (need, free) = (need >> 20, free >> 20);
        return Err(format!(
            "moving {size} takes {need} MiB of memory, for it is in both processes, and only \
             {free} MiB are available: choose a smaller --size"
        ));
    }
    if copies == 1 {
        // All at once, so that the error names a pool that does for all
        // blocks; this reserves pages and gives them back.
        Memory::new(backing, job.size).map_err(|error| error.to_string())?;
    }
    let memory = blocks.iter().map(|block| {
        let made = Memory::new(backing, block.len).map(Arc::new);
        made.map_err(|error| error.to_string())
    });
    memory.collect()
}

/// What shows how far it is; hidden unless standard error is a terminal.
fn bar(bytes: u64) -> ProgressBar {
    let style = "{wide_bar} {binary_bytes}/{binary_total_bytes}  {msg}";
    let bar = ProgressBar::new(bytes);
    // A template that does not parse would cost the looks only.
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Bytes of memory that programs can still get, if the kernel says it.
fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

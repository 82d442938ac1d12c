//! `retpath serve`: boots QEMUs from an image, by postcopy.
//!
//! Every `--connect` is a QEMU that waits with `-incoming defer`, and gets a thread and a migration
//! of its own, which succeeds or fails independently. They share the image, which is opened
//! read-only. Each piece of it is compared with its digest before it is sent. The switch to postcopy
//! comes first: the guest runs as soon as its devices are loaded, pages that it touches are sent
//! first, and all others after them.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;
use retpath_engine::driver::Control;
use retpath_engine::release::Release;
use retpath_engine::socket::Address;
use retpath_engine::source::{Offer, Preempt};
use retpath_image::shown;

use crate::exit::{self, Error, Exit};
use crate::image::UNPROVEN_END;
use crate::signals::Signals;
use crate::{Format, output, size};

mod boot;
mod mismatch;
mod outcome;
mod report;
mod served_image;
mod working_set;

use boot::Boot;
use outcome::Outcome;
use report::Report;
use served_image::{Resumed, ServedImage};
use working_set::WorkingSetFile;

/// Interval between two checks for signals.
const POLL: Duration = Duration::from_millis(20);

const EXAMPLES: &str = "  \
  retpath serve --image vm --connect unix:/tmp/q1
  retpath serve --image vm --connect unix:/tmp/q1 --connect tcp:127.0.0.1:4444 --bandwidth 100M
  retpath serve --image vm --connect unix:/tmp/q1 --working-set vm.pages
  retpath serve --image vm --connect unix:/tmp/q1 --resume none";

const DETAILS: &str = "\
Each QEMU is started with the command line of the machine in the image, and waits:
  qemu-system-x86_64 ... -incoming defer
  (qemu) migrate_set_capability postcopy-ram on
  (qemu) migrate_incoming URI
or with `-global migration.x-postcopy-ram=on -incoming URI`. It may be started later: see --wait.

When a link breaks, give that QEMU `migrate_recover URI` within --retry seconds. The image is opened \
read-only, and can be served to any number of QEMUs at a time. It must not change meanwhile: a \
change is detected before a wrong byte is sent, and ends the migration. Then restore the image, check \
it with `retpath verify`, and continue with --resume.

SIGINT, SIGTERM, SIGQUIT and SIGHUP end this command; the migration of a guest that runs by then can \
be continued with --resume. While the process is stopped (SIGTSTP), a guest blocks when it touches \
memory that it does not have yet.";

fn after_help() -> String {
    exit::help(
        EXAMPLES,
        "every QEMU has all of its memory, even if the report could not be written",
        "a QEMU does not; a line says why, where its guest is, and what to do",
    )
}

fn after_long_help() -> String {
    format!("{DETAILS}\n\n{}", after_help())
}

/// Command line of `retpath serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(), after_long_help = after_long_help())]
pub(crate) struct Args {
    /// Folder of the image, as `retpath receive` and `retpath import` make it
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// Address of a waiting QEMU: unix:PATH, tcp:HOST:PORT or fd:N; once for each QEMU
    #[arg(long, value_name = "URI", required = true)]
    connect: Vec<Address>,
    /// Open the preempt channel for requested pages from the start
    ///
    /// Without this option, a QEMU with the capability postcopy-preempt gets it a few seconds later.
    #[arg(long)]
    preempt: bool,
    /// Limit of the background sweep to each QEMU, in bytes per second; 0 is no limit
    ///
    /// Requested pages, and those of a working set, are sent without limit.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size::parse)]
    bandwidth: u64,
    /// Time to wait for a QEMU that does not listen yet; 0 fails at once
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Time to retry a broken link; 0 fails at once
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry: u64,
    /// Time after which a stalled link counts as broken
    ///
    /// A link is stalled while nothing moves on it although it is QEMU's turn. Without this option
    /// there is no limit: its user may have paused QEMU.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stall: Option<u64>,
    /// Resume interrupted migrations from the image with this id
    ///
    /// Each QEMU is in the state postcopy-paused, and listens after `migrate-recover`. ID is the id
    /// of the image that was served; `serve` prints it when it starts. Another image is refused. ID
    /// is `none` for an image without an id, made by an earlier version.
    #[arg(long, value_name = "ID")]
    resume: Option<Resumed>,
    /// Do not compare RAM with the image's digests
    ///
    /// For an image that `retpath verify` has just checked. Changes to its files while they are
    /// served are still detected.
    #[arg(long)]
    no_verify: bool,
    /// Send pages in the order in which earlier boots needed them
    ///
    /// If FILE does not exist, this boot learns: the background sweep waits until the guest has
    /// requested nothing for 2 seconds, at most 60 seconds, and FILE is created at the end. If it
    /// does, its pages are sent first, and those that are requested nevertheless are added at the
    /// end. FILE belongs to one image; one that is damaged, or another image's, is not used and not
    /// changed.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    working_set: Option<PathBuf>,
    /// QEMU release of the machine type, if its name does not tell
    #[arg(long, value_name = "X.Y")]
    machine_release: Option<Release>,
    /// Connect to tcp: addresses other than loopback, without encryption
    ///
    /// Whoever can read the connection reads the guest's memory.
    #[arg(long)]
    allow_plaintext: bool,
    /// Format of the report; json is one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Serves until every QEMU has its memory or has failed.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    args.check().map_err(Error::Usage)?;
    Ok(serve(args)?)
}

impl Args {
    /// Checks the options against each other.
    fn check(&self) -> Result<(), String> {
        for (at, address) in self.connect.iter().enumerate() {
            if self.connect[..at].contains(address) {
                return Err(format!("--connect {address} is given twice"));
            }
            if matches!(address, Address::Fd(_)) && self.preempt {
                return Err(format!(
                    "--preempt needs a second connection, which {address} cannot provide"
                ));
            }
        }
        Ok(())
    }

    /// Whether to open a preempt channel for a QEMU that seems to wait for one.
    fn offer(&self, address: &Address, kind: Option<Preempt>) -> Offer {
        match (address, kind) {
            // An inherited descriptor is one connection.
            (Address::Fd(_), _) => Offer::Never,
            (_, Some(kind)) => Offer::Kind(kind),
            (_, None) => Offer::Either,
        }
    }

    fn retry(&self, address: &Address) -> Duration {
        match address {
            // An inherited descriptor cannot be connected again.
            Address::Fd(_) => Duration::ZERO,
            _ => Duration::from_secs(self.retry),
        }
    }
}

fn serve(args: &Args) -> Result<Exit, String> {
    let image = ServedImage::open(args)?;
    image.announce(args);
    if image.has_unproven_end() {
        output::note(format_args!(
            "retpath serve: {}: its end is unproven: {UNPROVEN_END}",
            shown(&args.image)
        ));
    }
    let working_set = WorkingSetFile::open(args, &image);
    let bars = MultiProgress::new();
    let controls = args.connect.iter().map(|_| Control::new());
    let controls: Vec<Control> = controls
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot create an event descriptor: {error}"))?;
    let signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;

    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let jobs = args.connect.iter().zip(&controls);
        let here = thread::current();
        let running: Vec<_> = jobs
            .map(|(address, control)| {
                let boot = || Boot::new(args, &image, &working_set, address, &bars);
                let (serve, here) = (boot(), here.clone());
                let serve = move || {
                    let outcome = serve.serve(control);
                    here.unpark();
                    outcome
                };
                let started = thread::Builder::new().spawn_scoped(scope, serve);
                started.map_err(|error| {
                    Box::new(boot().refuse(format!("cannot start a thread: {error}")))
                })
            })
            .collect();
        while !running.iter().flatten().all(|one| one.is_finished()) {
            if signals.came() {
                controls.iter().for_each(Control::stop);
            }
            thread::park_timeout(POLL);
        }
        let join = |thread: thread::ScopedJoinHandle<'_, Outcome>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let end = |one: Result<_, Box<Outcome>>| one.map_or_else(|refused| *refused, join);
        running.into_iter().map(end).collect()
    });

    let working_set = working_set.finish(&outcomes);
    let report = Report {
        args,
        working_set: working_set.as_ref(),
        served: &image,
        outcomes: &outcomes,
    };
    let text = args.format.render(|| report.text(), || report.json());
    let failed = outcomes.iter().filter(|one| one.failure.is_some()).count();
    let done = match failed {
        0 => "every QEMU has everything".to_owned(),
        _ => format!(
            "{failed} of {} QEMUs failed, as reported above",
            outcomes.len()
        ),
    };
    output::print_report("serve", &done, &text);
    Ok(match failed {
        0 => Exit::Success,
        _ => Exit::Failure,
    })
}

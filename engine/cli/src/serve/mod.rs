//! `retpath serve`: boots QEMUs from an image, by postcopy.
//!
//! Every `--connect` is a QEMU that waits with `-incoming defer`, and gets a thread and a migration
//! of its own, which succeeds or fails independently. They share the image, which is opened
//! read-only. Each piece of it is compared with its digest before it is sent. The switch to postcopy
//! comes first: the guest runs as soon as its devices are loaded, pages that it touches are sent
//! first, and all others after them.
//!
//! Exit code 0 if every QEMU has everything, 1 if one has not or something failed, 2 for wrong
//! usage.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;

use super::machine::UNPROVEN_END;
use super::signals::Signals;
use super::{Format, output, size};
use retpath_engine::driver::{Control, Offer};
use retpath_engine::release::Release;
use retpath_engine::socket::Address;
use retpath_engine::source::Preempt;

mod boot;
mod fate;
mod mismatch;
mod report;
mod stock;

use boot::{Boot, Outcome};
use report::Report;
use stock::{Resumed, Stock};

/// How often to look for signals.
const LOOK: Duration = Duration::from_millis(20);

const HELP: &str = "\
Each QEMU is started with the command line of the machine in the image, and waits:
  qemu-system-x86_64 ... -incoming defer
  (qemu) migrate_set_capability postcopy-ram on
  (qemu) migrate_incoming URI
or with `-global migration.x-postcopy-ram=on -incoming URI`. It may be started later: see
--wait.
When a link breaks, give that QEMU `migrate_recover URI` within --retry seconds.
The image is opened read-only, and can be served to any number of QEMUs at a time. It
must not change meanwhile: a change is detected before a wrong byte is sent, and ends
the migration. Then restore the image, check it with `retpath verify`, and continue
with --resume.

SIGINT, SIGTERM, SIGQUIT and SIGHUP end this command; the migration of a guest that runs
by then can be continued with --resume. While the process is stopped (SIGTSTP), a guest
blocks when it touches memory that it does not have yet.

Exit codes:
  0  every QEMU has all of its memory, even if the report could not be written
  1  one does not; a line says why, where its guest is and what to do
  2  the command was called wrongly";

/// Command line of `retpath serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The image's folder, as `retpath receive` and `retpath import` make it.
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// Where a QEMU listens: unix:PATH, tcp:HOST:PORT or fd:N. Once for each QEMU to boot.
    #[arg(long, value_name = "URI", required = true)]
    connect: Vec<Address>,
    /// Open the preempt channel for requested pages from the start. Without this option a QEMU
    /// with the capability postcopy-preempt gets it a few seconds later.
    #[arg(long)]
    preempt: bool,
    /// Most bytes per second, to each QEMU, of pages that are not asked for; 0 is no limit.
    #[arg(long, value_name = "BYTES/S", default_value = "0", value_parser = size::parse)]
    bandwidth: u64,
    /// How long to wait for a QEMU that does not listen yet; 0 gives up at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// How long to try to replace a broken link; 0 gives up at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry: u64,
    /// Take a link for broken over which nothing has moved for so long, although it is QEMU's
    /// turn. Without it a QEMU is waited for: its user may have paused it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stall: Option<u64>,
    /// Take up migrations that were left unfinished: each QEMU is in state postcopy-paused and
    /// listens after `migrate-recover`.
    ///
    /// ID is the id of the image that was served; `serve` prints it when it starts. Another image is
    /// refused. ID is `none` for an image without an id, made by an earlier version.
    #[arg(long, value_name = "ID")]
    resume: Option<Resumed>,
    /// Do not compare RAM with the image's digests, for an image that `retpath verify` has just
    /// checked. Changes to its files while they are served are still detected.
    #[arg(long)]
    no_verify: bool,
    /// The QEMU release that the machine type belongs to, if its name does not tell.
    #[arg(long, value_name = "X.Y")]
    machine_release: Option<Release>,
    /// Allow plain TCP beyond loopback: whoever can read it reads the guest's memory.
    #[arg(long)]
    allow_plaintext: bool,
    /// How to print the result; json is one object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Serves until every QEMU has its memory or has failed.
pub fn run(args: &Args) -> ExitCode {
    if let Err(wrong) = args.check() {
        return output::wrong_usage(wrong);
    }
    match serve(args) {
        Ok(code) => code,
        Err(why) => {
            output::note(format_args!("retpath serve: {why}"));
            ExitCode::FAILURE
        }
    }
}

impl Args {
    /// What clap cannot know.
    fn check(&self) -> Result<(), String> {
        for (at, address) in self.connect.iter().enumerate() {
            if self.connect[..at].contains(address) {
                return Err(format!("{address} is given twice: each QEMU listens alone"));
            }
            if matches!(address, Address::Fd(_)) && self.preempt {
                return Err(format!(
                    "--preempt needs a second connection, and {address} is only one"
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
            // What is inherited cannot be connected again.
            Address::Fd(_) => Duration::ZERO,
            _ => Duration::from_secs(self.retry),
        }
    }
}

fn serve(args: &Args) -> Result<ExitCode, String> {
    let stock = Stock::open(args)?;
    stock.announce(args);
    if stock.has_unproven_end() {
        output::note(format_args!(
            "retpath serve: {}: its end is unproven: {UNPROVEN_END}",
            args.image.display()
        ));
    }
    let bars = MultiProgress::new();
    let controls = args.connect.iter().map(|_| Control::new());
    let controls: Vec<Control> = controls
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no descriptor is left: {error}"))?;
    let signals = Signals::new().map_err(|error| format!("listening for signals: {error}"))?;

    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let jobs = args.connect.iter().zip(&controls);
        let here = thread::current();
        let running: Vec<_> = jobs
            .map(|(address, control)| {
                let boot = || Boot::new(args, &stock, address, &bars);
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
            thread::park_timeout(LOOK);
        }
        let join = |thread: thread::ScopedJoinHandle<'_, Outcome>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let end = |one: Result<_, Box<Outcome>>| one.map_or_else(|refused| *refused, join);
        running.into_iter().map(end).collect()
    });

    let report = Report {
        args,
        stock: &stock,
        outcomes: &outcomes,
    };
    let text = match args.format {
        Format::Text => report.text(),
        Format::Json => format!("{}\n", report.json()),
    };
    let failed = outcomes.iter().filter(|one| one.failure.is_some()).count();
    let done = match failed {
        0 => "every QEMU has everything".to_owned(),
        _ => format!("{failed} of {} QEMUs failed, as said above", outcomes.len()),
    };
    output::print_report("serve", &done, &text);
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

//! `retpath serve`: boots QEMUs from an image, by postcopy.
//!
//! Every `--connect` is a QEMU that waits with `-incoming defer`, and gets a thread, a migration
//! and a fate of its own; all of them share one mapping of the image, which is opened for reading
//! only. The switch is made at once: the guest runs as soon as its devices are loaded, pages that
//! it touches are sent first, and all others behind them.
//!
//! Exit code 0 if every QEMU has everything, 1 if one has not or something failed, 2 for wrong
//! usage.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;

use super::signals::Signals;
use super::{Format, print, size};
use crate::channel::Address;
use crate::release::Release;
use crate::run::Control;

mod boot;
mod fate;
mod report;
mod stock;

use boot::{Boot, Outcome};
use report::Report;
use stock::Stock;

/// How often to look for signals.
const LOOK: Duration = Duration::from_millis(20);

const HELP: &str = "\
Each QEMU is started with the command line of the machine in the image, and waits:
  qemu-system-x86_64 ... -incoming defer
  (qemu) migrate_set_capability postcopy-ram on
  (qemu) migrate_incoming URI
When a link breaks, give that QEMU `migrate_recover URI` within --retry seconds.
The image is only read, and can be served to any number of QEMUs at a time.

Exit codes:
  0  every QEMU has everything
  1  one has not, and a line says why, where its guest is and what to do
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
    /// Send pages that are asked for on a channel of their own; for a QEMU with the capability
    /// postcopy-preempt.
    #[arg(long)]
    preempt: bool,
    /// Most bytes per second, to each QEMU, of pages that are not asked for; 0 is no limit.
    #[arg(long, value_name = "BYTES/S", default_value = "0", value_parser = size::parse)]
    bandwidth: u64,
    /// How long to try to replace a broken link; 0 gives up at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry: u64,
    /// Take a link for broken over which nothing has moved for so long, although it is QEMU's
    /// turn. Without it a QEMU is waited for: its user may have paused it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stall: Option<u64>,
    /// Take up migrations that were left unfinished: each QEMU is in state postcopy-paused and
    /// listens after `migrate-recover`.
    #[arg(long)]
    resume: bool,
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
        eprintln!("error: {wrong}\n\nFor more information, try '--help'.");
        return ExitCode::from(2);
    }
    match serve(args) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("retpath serve: {why}");
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
                let boot = Boot::new(args, &stock, address, &bars);
                let here = here.clone();
                let serve = move || {
                    let outcome = boot.serve(control);
                    here.unpark();
                    outcome
                };
                let started = thread::Builder::new().spawn_scoped(scope, serve);
                // The others are served all the same.
                started.map_err(|error| {
                    let boot = Boot::new(args, &stock, address, &bars);
                    Box::new(boot.cannot_begin(format!("starting a thread: {error}")))
                })
            })
            .collect();
        let is_over = |one: &Result<thread::ScopedJoinHandle<'_, Outcome>, Box<Outcome>>| {
            one.as_ref().map_or(true, |thread| thread.is_finished())
        };
        while !running.iter().all(is_over) {
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
        let outcome = |one: Result<_, Box<Outcome>>| one.map_or_else(|failed| *failed, join);
        running.into_iter().map(outcome).collect()
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
    print(&text).map_err(|error| format!("writing to standard output: {error}"))?;
    Ok(match outcomes.iter().all(|one| one.failure.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

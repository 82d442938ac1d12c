//! `retpath receive`: a live migration becomes an image.
//!
//! The destination of a QEMU that runs `migrate`. The guest does not run here:
//! its device state is kept as it came, its RAM is written to files. The source
//! is told that the migration is over once the image is on disk; before that,
//! whatever goes wrong, it is told that it may have its guest back.
//!
//! Memory use is what the guest has in pages that are not zero. Exit code 0 if
//! the image is there, 1 if not, with what is lost and what is not on standard
//! error, 2 for wrong usage.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::decode::{PageSize, page_size};
use super::signals::Signals;
use super::{Format, machine, print};
use crate::channel::Address;
use crate::destination::{Destination, Ending};
use crate::image::Writer;
use crate::run::{Control, ReceiveOptions, RunError, receive};
use crate::uffd::Uffd;

mod guest;
mod live;
mod report;
mod touch;

use guest::{Incoming, Source};
use live::Live;
use report::Report;

const HELP: &str = "\
At the source, in QEMU's monitor:
  migrate -d URI              the guest stops once all of its memory is here
  migrate_start_postcopy      with `migrate_set_capability postcopy-ram on` before
                              it: the guest stops at once, its memory follows
The guest does not run here. When the link breaks in postcopy, the source goes on
with `migrate -r URI`.

Multifd, compress, xbzrle and devices whose state comes in pieces are refused.
Machine types up to 2.2 need a switch to postcopy, or the capabilities return-path
and postcopy-ram off and --accept-unproven-end here: nothing else tells where their
streams end.

Exit codes:
  0  the image is there
  1  it is not, and one line says why, what is lost and what is not
  2  the command was called wrongly";

/// Command line of `retpath receive`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Where to listen: unix:PATH, tcp:HOST:PORT or fd:N
    #[arg(long, value_name = "URI")]
    listen: Address,
    /// The image: a folder, which must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Page size of a RAM block on huge pages, as in pc.ram=2M; may be repeated
    ///
    /// A source with the capability postcopy-ram tells it by itself.
    #[arg(long = "block-page-size", value_name = "NAME=SIZE",
          value_parser = OsStringValueParser::new().try_map(page_size))]
    page_sizes: Vec<PageSize>,
    /// The source has the capability postcopy-preempt on
    #[arg(long)]
    preempt: bool,
    /// The source has the capability switchover-ack on, and waits for leave to switch
    #[arg(long)]
    switchover_ack: bool,
    /// Touch so many missing pages at random after the switch, and measure how
    /// long they take
    #[arg(long, value_name = "N", default_value_t = 0)]
    touch: u64,
    /// How long to wait for a new connection when one breaks in postcopy
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    recover_timeout: u64,
    /// Take a closed link for the end where nothing proves that the stream is whole
    ///
    /// For machine types up to 2.2 that do not switch to postcopy: the link of a source that is
    /// killed closes, too. Use the image only if `info migrate` at the source says completed. The
    /// image says that its end is unproven.
    #[arg(long)]
    accept_unproven_end: bool,
    /// Listen on tcp: addresses other than loopback, without encryption
    #[arg(long)]
    allow_plaintext: bool,
    /// How to print the result; json is one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Receives one migration and says what came of it.
pub fn run(args: &Args) -> ExitCode {
    machine::mention_leftovers(&args.out);
    match become_image(args) {
        Ok(text) => match print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("retpath receive: writing to standard output: {error}");
                ExitCode::FAILURE
            }
        },
        Err(why) => {
            eprintln!("retpath receive: {why}");
            ExitCode::FAILURE
        }
    }
}

fn become_image(args: &Args) -> Result<String, String> {
    let signals = Signals::new().map_err(|error| format!("listening for signals: {error}"))?;
    // First what can be missing on this machine, with what to do about it.
    Uffd::open().map_err(|error| error.to_string())?;
    let writer = Writer::new(&args.out).map_err(|error| error.to_string())?;
    let control = Control::new().map_err(|error| format!("making a descriptor: {error}"))?;
    let mut listener = args
        .listen
        .listen(args.allow_plaintext)
        .map_err(|error| error.to_string())?;
    eprintln!("retpath receive: listening on {}", listener.address());

    let (core, stream) = machine::settings(machine::page_sizes(&args.page_sizes));
    let options = ReceiveOptions {
        core: crate::destination::Config {
            preempt: args.preempt,
            switchover_ack: args.switchover_ack,
            confirm_end: true,
            ..core
        },
        stream,
        patience: Duration::from_secs(args.recover_timeout),
        recovery: Duration::from_secs(30),
        accept_unproven_end: args.accept_unproven_end,
    };
    let live = Live::new();
    let mut guest = Incoming::new(
        writer,
        args.touch,
        args.preempt,
        signals,
        control.clone(),
        live,
    )
    .accept_unproven_end(args.accept_unproven_end);
    let received = receive(&mut listener, &mut guest, options, &control);
    guest.quiet();
    conclude(args, guest, received)
}

/// Finishes what precopy leaves to be done, and says what has become of it all.
fn conclude(
    args: &Args,
    mut guest: Incoming,
    received: Result<Destination, RunError>,
) -> Result<String, String> {
    if let Err(error) = &received {
        if !guest.is_complete() {
            let hint = match error {
                RunError::UnprovenEnd => {
                    ", and it can be received again with --accept-unproven-end"
                }
                RunError::NoEnd { .. } => " (and give --accept-unproven-end here)",
                _ => "",
            };
            return Err(format!("{error}{hint}; {}", fate(guest.source)));
        }
        eprintln!(
            "retpath receive: at the very end, with everything received: {error}; the source may \
             not know that the migration is over, and from QEMU 9.0 on runs its guest again: end \
             one of the two"
        );
    }
    guest
        .finish()
        .map_err(|why| format!("{why}; the source believes that the migration is over, and still has the guest in its memory until it is ended"))?;
    let stats = received
        .map(|core| core.stats().clone())
        .unwrap_or_default();
    let manifest = guest.manifest.as_ref().ok_or("no image was made")?;
    let report = Report {
        out: &args.out,
        manifest,
        ending: guest.ending().unwrap_or(Ending::Postcopy),
        stats: &stats,
        touched: guest.touched(),
        asked_touches: args.touch,
    };
    Ok(report.print(args.format))
}

/// What is lost when no image was made, and what is not.
fn fate(source: Source) -> String {
    let Source {
        hears,
        switched,
        done,
        missing,
    } = source;
    match (switched, done) {
        (_, true) if !hears => "no image was made, and nothing is lost: the source believes that \
             the migration is over, but still has the guest, and `cont` there runs it again"
            .into(),
        (true, true) => "no image was made, and nothing is lost: the guest has not run here, and \
             the source still has it; from QEMU 9.0 on it goes on there by itself, before that \
             with `cont`"
            .into(),
        (true, false) => format!(
            "no image was made, {missing} pages had not come: the guest is lost, unless its \
             source goes on by itself; one that waits in postcopy-paused cannot"
        ),
        (false, _) if hears => {
            "no image was made, and nothing is lost: the source still has its guest".into()
        }
        (false, _) => "no image was made, and nothing is lost: the source still has its guest; \
             should it believe that the migration is over, `cont` there runs it again"
            .into(),
    }
}

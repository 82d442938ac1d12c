//! `retpath receive`: a live migration becomes an image.
//!
//! The destination of a QEMU that runs `migrate`. The guest does not run here: its device state is
//! stored unchanged, and pages are written to files as they arrive. The source is told that the
//! migration is over (SHUT 0) once the image is on disk. If the migration fails before that, SHUT 1
//! tells the source that it may run its guest again. Data that may be the only copy of a guest is
//! never removed.
//!
//! Apart from three bits for each page, memory use does not grow with the guest.

use std::path::PathBuf;
use std::time::Duration;

use retpath_codec::Rule;
use retpath_engine::destination::{Destination, Ending, ErrorKind};
use retpath_engine::driver::{
    Control, ReceiveOptions, RunError, receive, resume as resume_migration,
};
use retpath_engine::socket::Address;
use retpath_engine::uffd::Uffd;
use retpath_image::{MAX_DEVICE_STATE, Writer, shown};
use tracing::info;

use crate::exit::{self, Error, Exit};
use crate::sandbox::{self, Sandbox};
use crate::signals::Signals;
use crate::size::{self, PageSize};
use crate::{Format, image, output, uffd_error};

mod guest;
mod live;
mod notices;
mod outcome;
mod report;
mod resume;
mod touch;

use guest::Incoming;
use live::Live;
use notices::Outage;
use outcome::outcome;
use report::Report;
use resume::Unfinished;

const EXAMPLES: &str = "  \
  retpath receive --listen unix:/tmp/in --out vm
  retpath receive --listen tcp:127.0.0.1:4444 --out vm --format json
  retpath receive --continue vm.incomplete-4711 --listen unix:/tmp/in";

const DETAILS: &str = "\
At the source, in QEMU's monitor:
  migrate -d URI              the guest stops once all of its memory has been sent
  migrate_start_postcopy      with `migrate_set_capability postcopy-ram on` before migrate: the \
guest stops at once, and its memory follows

The guest does not run here. When the connection breaks in postcopy, resume with `migrate -r URI` at \
the source. If this command is killed in postcopy, the pages received so far are in \
DIR.incomplete-PID: start it again with --continue, then run `migrate -r URI` at the source.

SIGINT, SIGTERM, SIGQUIT and SIGHUP end this command. Before the switch it exits at once. After the \
switch it exits once the source has sent everything, so that the source can run its guest again. \
While no connection is up, or a new one has not resumed the migration yet, it exits at once and keeps \
the pages received so far for --continue. A second SIGINT, SIGTERM or SIGQUIT always exits at once. \
While the process is stopped (SIGTSTP), the migration stands still.

A connection is dropped if it does not begin like the channel that is awaited, or comes from another \
user than the source (unix: addresses); the source can still connect. On tcp: addresses nothing tells \
a source from a program that imitates it: use a tunnel that authenticates.

Multifd, compress, xbzrle and devices with iterative state are refused. Machine types up to 2.2 do \
not mark the end of the stream: switch to postcopy, or turn the capabilities return-path and \
postcopy-ram off and pass --accept-unproven-end here.";

fn after_help() -> String {
    exit::help(
        EXAMPLES,
        "the image exists, even if the report could not be written",
        "there is no image, or it has another name than --out; one line says why, where the guest \
         is, and what to do",
    )
}

fn after_long_help() -> String {
    format!("{DETAILS}\n\n{}", after_help())
}

/// Command line of `retpath receive`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(), after_long_help = after_long_help())]
pub(crate) struct Args {
    /// Address to listen on: unix:PATH, tcp:HOST:PORT or fd:N
    #[arg(long, value_name = "URI", required_unless_present = "resume")]
    listen: Option<Address>,
    /// Folder of the image, which must not exist yet
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    out: Option<PathBuf>,
    /// Resume a postcopy migration after `retpath receive` was killed, from the folder
    /// NAME.incomplete-PID that it left
    ///
    /// Then run `migrate -r URI` at the source, whose `info migrate` says postcopy-paused. If no
    /// page is missing, the image is finished at once, and --listen is not needed. The image gets
    /// its original name NAME, or --out.
    #[arg(
        long = "continue",
        id = "resume",
        value_name = "DIR",
        conflicts_with = "touch"
    )]
    resume: Option<PathBuf>,
    /// Page size of a RAM block on huge pages, as in pc.ram=2M; may be repeated
    ///
    /// Not needed if the source has the capability postcopy-ram on.
    #[arg(long = "block-page-size", value_name = "NAME=SIZE", value_parser = PageSize::parser())]
    page_sizes: Vec<PageSize>,
    /// The source has the capability postcopy-preempt on; detected without this option
    #[arg(long, hide = true)]
    preempt: bool,
    /// Acknowledge the switchover, for a source with the capability switchover-ack
    ///
    /// Sent without this option if the machine type is 8.1 to 11.0, or if the source has nothing
    /// left to send and does not switch. QEMU before 8.1 fails the migration when it gets one.
    #[arg(long)]
    switchover_ack: bool,
    /// Touch this many missing pages at random after the switch, and measure fault latencies
    #[arg(long, value_name = "N", default_value_t = 0)]
    touch: u64,
    /// Time to wait for a new connection when one breaks in postcopy
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    recover_timeout: u64,
    /// Accept a closed connection as the end of a stream that does not mark its end
    ///
    /// For machine types up to 2.2 that do not switch to postcopy. The connection of a killed
    /// source closes in the same way: use the image only if `info migrate` at the source says
    /// completed. The image records that its end is unproven.
    #[arg(long)]
    accept_unproven_end: bool,
    /// Accept connections of this user only, by number, on a unix: address
    ///
    /// Without this option, all connections have to come from the user of the first source.
    #[arg(long, value_name = "UID")]
    peer_uid: Option<u32>,
    /// Limit for the RAM of the guest
    #[arg(long, value_name = "SIZE", default_value = "4T", value_parser = size::parse)]
    max_ram: u64,
    /// Limit for the device state on disk; at most 4 GiB
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    max_device_state: u64,
    /// Listen on tcp: addresses other than loopback, without encryption
    #[arg(long)]
    allow_plaintext: bool,
    /// Format of the report; json is one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    sandbox: sandbox::SandboxArgs,
}

/// Receives one migration and reports the result.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    if let Some(out) = &args.out {
        image::mention_leftovers("receive", out);
    }
    let (path, text) = become_image(args)?;
    let done = format!("the image {} exists", shown(&path));
    output::print_report("receive", &done, &text);
    Ok(Exit::Success)
}

/// Path of the image, and the report.
type Done = (PathBuf, String);

fn become_image(args: &Args) -> Result<Done, String> {
    let signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
    // Before the source sends anything.
    if args.touch > 0 {
        Uffd::open().map_err(uffd_error)?;
    }
    let control =
        Control::new().map_err(|error| format!("cannot create an event descriptor: {error}"))?;
    let (core, stream) = image::settings(&args.page_sizes);
    if let (Some(_), Some(Address::Tcp { .. })) = (args.peer_uid, &args.listen) {
        let why = "--peer-uid needs a unix: address: TCP does not tell who connects";
        return Err(why.into());
    }
    let mut options = ReceiveOptions::default()
        .core(
            core.switchover_ack(args.switchover_ack)
                .detect_switchover_ack(true)
                .confirm_end(true)
                .give_back(true)
                .max_ram(args.max_ram),
        )
        .stream(stream)
        .reconnect_timeout(Duration::from_secs(args.recover_timeout))
        .recovery_timeout(Duration::from_secs(30))
        .accept_unproven_end(args.accept_unproven_end)
        .peer_user(args.peer_uid);
    let (mut writer, left) = match (&args.resume, &args.out) {
        (Some(folder), out) => {
            let (writer, left) = Unfinished::open(folder, out.as_deref(), &mut options)?;
            (writer, Some(left))
        }
        (None, Some(out)) => (Writer::new(out).map_err(|error| error.to_string())?, None),
        (None, None) => return Err("neither --out nor --continue is given".into()),
    };
    writer.limit_state(args.max_device_state);
    let (writer, left) = match left {
        Some(left) if left.has_device_state && left.core.pages().missing() == 0 => {
            args.sandbox.enter(needs(args, &writer))?;
            return finish_unfinished(args, writer, left);
        }
        left => (writer, left),
    };
    let Some(address) = &args.listen else {
        let missing = left.map_or(0, |left| left.core.pages().missing());
        return Err(format!(
            "{missing} pages are only at the source: pass --listen URI, and then run `migrate -r \
             URI` at the source"
        ));
    };
    let mut listener = address
        .listen(args.allow_plaintext)
        .map_err(|error| error.to_string())?;
    listener.on_accept(|link| {
        info!("connection accepted");
        link
    });
    args.sandbox
        .enter(needs(args, &writer).socket(listener.address()))?;
    output::note(format_args!(
        "retpath receive: listening on {}",
        listener.address()
    ));
    let mut guest = Incoming::new(
        writer,
        left.as_ref(),
        (args.touch, args.preempt),
        signals,
        control.clone(),
        Live::new(),
        Outage::new(listener.address().clone(), args.recover_timeout),
    )
    .accept_unproven_end(args.accept_unproven_end);
    if left.as_ref().is_some_and(|left| !left.has_device_state) {
        guest.give_back_without_devices();
    }
    let received = match left {
        None => receive(&mut listener, &mut guest, options, &control),
        Some(left) => resume_migration(
            left.core,
            left.known,
            &mut listener,
            &mut guest,
            options,
            &control,
        ),
    };
    // Before anything is written to standard error, which can block.
    if guest.is_complete() {
        guest.finish();
    }
    guest.quiet();
    conclude(args, guest, received)
}

/// What this command needs in the sandbox, besides its socket.
fn needs(args: &Args, writer: &Writer) -> Sandbox {
    let folder = writer.path();
    let needs = Sandbox::default().image(folder, args.out.as_deref().unwrap_or(folder));
    match args.touch {
        0 => needs,
        _ => needs.userfaultfd(),
    }
}

/// Returns the report of the image, or why there is none and where the guest is.
fn conclude(
    args: &Args,
    mut guest: Incoming,
    received: Result<Destination, RunError>,
) -> Result<Done, String> {
    if let Err(error) = &received {
        if !guest.is_complete() {
            let hint = hint(error);
            let resumable = guest.is_resumable();
            let kept = guest.abandon();
            let kept = kept.as_deref().map(|folder| (folder, resumable));
            let outcome = outcome(guest.source, kept);
            return Err(format!("{error}{hint}; {outcome}"));
        }
        output::note(format_args!(
            "retpath receive: after everything was received: {error}; the guest is in the image now, \
             but the source may not know that the migration is over, and from QEMU 9.0 on runs its \
             guest again: end one of the two, with `quit` at the source or by deleting the image"
        ));
    }
    let finished = guest.finished.as_ref().ok_or("no image was made")?;
    image::check_name("receive", finished)
        .map_err(|error| format!("the migration is over: {error}"))?;
    let path = &finished.path;
    let stats = received
        .map(|core| core.stats().clone())
        .unwrap_or_default();
    let manifest = guest.manifest.as_ref().ok_or("no image was made")?;
    let report = Report {
        out: path,
        manifest,
        ending: guest.ending().unwrap_or(Ending::Postcopy),
        stats: &stats,
        touched: guest.touched(),
        asked_touches: args.touch,
    };
    Ok((path.clone(), report.print(args.format)))
}

/// The option that helps against an error.
fn hint(error: &RunError) -> &'static str {
    match error {
        RunError::UnprovenEnd => ", and it can be received again with --accept-unproven-end",
        RunError::NoEnd { .. } => " (and add --accept-unproven-end here)",
        RunError::Decode(error) if matches!(error.rule, Rule::BlockPage { .. }) => {
            " (--block-page-size gives another size)"
        }
        RunError::Destination(error) if matches!(error.kind, ErrorKind::TooMuchRam { .. }) => {
            " (--max-ram raises it)"
        }
        RunError::Handler(error) => match error.downcast_ref() {
            Some(retpath_image::Error::StateLimit { limit, .. }) if *limit < MAX_DEVICE_STATE => {
                " (--max-device-state raises it)"
            }
            _ => "",
        },
        _ => "",
    }
}

/// Finishes an image of which an earlier process received every page.
fn finish_unfinished(args: &Args, mut writer: Writer, left: Unfinished) -> Result<Done, String> {
    let sealed = writer.seal(left.facts);
    let manifest = sealed.map_err(|error| error.to_string())?;
    let finished = writer.name();
    image::check_name("receive", &finished)?;
    output::note(
        "retpath receive: every page had been received, so the image was finished without the \
         source, which does not know: end it with `quit`, or, if it runs its guest again (QEMU 9.0 \
         and newer may), delete the image",
    );
    let path = finished.path;
    let report = Report {
        out: &path,
        manifest: &manifest,
        ending: Ending::Postcopy,
        stats: left.core.stats(),
        touched: 0,
        asked_touches: 0,
    };
    let text = report.print(args.format);
    Ok((path, text))
}

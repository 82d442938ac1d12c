//! `retpath import`: makes an image of a saved stream.
//!
//! Exit code 0 if the image is there, 1 if not, with the reason on standard
//! error, 2 for wrong usage.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use retpath_codec::Rule;
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::decode::{PageSize, page_size};
use super::signals::Signals;
use super::{Format, machine, output};
use retpath_image::{Error, ImportOptions, Imported, import};

const HELP: &str = "\
The stream is what QEMU writes with one of these:
  migrate \"exec:cat >FILE\"
  migrate file:FILE                               (8.2 and newer)
  migrate \"exec:retpath import - --out DIR\"       (no file in between)
Multifd, mapped-ram, compress, xbzrle and devices whose state comes in pieces are
refused. So are streams of machine types up to 2.2 unless --accept-unproven-end is
given: nothing in them proves that they are whole.

Exit codes:
  0  the image is there, even if this report of it could not be written
  1  it is not, and one line says why
  2  the command was called wrongly";

/// Command line of `retpath import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The saved stream, or - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The image: a folder, which must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Page size of a RAM block on huge pages, as in pc.ram=2M; may be repeated
    ///
    /// A QEMU that the image is served to must have the same. A saved stream does not tell it.
    #[arg(long = "block-page-size", value_name = "NAME=SIZE",
          value_parser = OsStringValueParser::new().try_map(page_size))]
    page_sizes: Vec<PageSize>,
    /// Accept a stream that does not mark its end
    ///
    /// For machine types up to 2.2: a stream that was cut inside the device state looks complete.
    /// Use this only if QEMU said that the migration was completed. The image records that its end
    /// is unproven.
    #[arg(long)]
    accept_unproven_end: bool,
    /// How to print the result; json is one object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Imports the stream and says what came of it.
pub fn run(args: &Args) -> ExitCode {
    machine::mention_leftovers("import", &args.out);
    let named = convert(args).and_then(|imported| {
        machine::check_name("import", &imported.finished)?;
        Ok(imported)
    });
    match named {
        Ok(imported) => {
            show(args, &imported);
            ExitCode::SUCCESS
        }
        Err(why) => {
            output::note(format_args!("retpath import: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn convert(args: &Args) -> Result<Imported, String> {
    let signals = Signals::new().map_err(|error| format!("listening for signals: {error}"))?;
    let name = match args.file.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => args.file.display().to_string(),
    };
    let (file, size) = open(args).map_err(|error| format!("{name}: {error}"))?;
    let mut stream = Stream {
        file,
        signals: &signals,
    };
    let (core, stream_options) = machine::settings(machine::page_sizes(&args.page_sizes));
    let options = ImportOptions::default()
        .core(core)
        .stream(stream_options)
        .accept_unproven_end(args.accept_unproven_end);
    let bar = bar(size);
    let mut progress = |bytes| {
        bar.set_position(bytes);
        !signals.came()
    };
    let done = import(&mut stream, &args.out, options, &mut progress);
    bar.finish_and_clear();
    done.map_err(|error| match error {
        Error::Stopped => "stopped by a signal; no image was made".to_owned(),
        Error::Stream(_) | Error::Migration(_) | Error::Unfaithful { .. } => {
            format!("{name}: {error}{}; no image was made", hint(&error))
        }
        Error::CutShort { .. } | Error::Read(_) => {
            format!("{name}: {error}; no image was made")
        }
        Error::UnprovenEnd => format!(
            "{name}: {error}; no image was made. If QEMU said that the migration was completed, \
             give --accept-unproven-end; if not, save the guest again"
        ),
        error => format!("{error}; no image was made"),
    })
}

fn open(args: &Args) -> Result<(File, Option<u64>), io::Error> {
    let file = if args.file.as_os_str() == "-" {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)?
    } else {
        // Without NONBLOCK, opening a named pipe waits for its writer, and signals do not end that.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&args.file, flags, Mode::empty())?.into()
    };
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let size = about.is_file().then_some(about.len());
    Ok((file, size))
}

/// The stream's file. A read that a signal ends is [`ErrorKind::Interrupted`].
struct Stream<'a> {
    file: File,
    signals: &'a Signals,
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.signals.wait_readable(&self.file)? {
            return Err(ErrorKind::Interrupted.into());
        }
        match self.file.read(buf) {
            // Another reader of the same pipe was faster.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(ErrorKind::Interrupted.into())
            }
            done => done,
        }
    }
}

/// What may help with an error.
fn hint(error: &Error) -> &'static str {
    match error {
        Error::Stream(error) => match error.rule {
            Rule::Magic { .. } => " (it is no migration stream, or a compressed one)",
            Rule::BlockPage { .. } => " (set by --block-page-size)",
            _ => "",
        },
        _ => "",
    }
}

fn show(args: &Args, imported: &Imported) {
    let text = match args.format {
        Format::Text => machine::text(&args.out, &imported.manifest),
        Format::Json => {
            let (path, manifest) = machine::json(&args.out, &imported.manifest);
            format!(
                "{}\n",
                json!({ "image": path, "manifest": manifest, "stream_bytes": imported.bytes })
            )
        }
    };
    let done = format!("the image {} is there", args.out.display());
    output::print_report("import", &done, &text);
}

/// Shown on a terminal, for streams that take a while.
fn bar(size: Option<u64>) -> ProgressBar {
    let target = match io::stderr().is_terminal() && size.is_none_or(|size| size >= 64 << 20) {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let template = match size {
        Some(_) => "{wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}",
        None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}",
    };
    let bar = ProgressBar::with_draw_target(size, target);
    // A template that does not parse would cost the looks, nothing else.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

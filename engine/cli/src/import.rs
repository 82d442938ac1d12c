//! `retpath import`: makes an image from a saved stream.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;

use retpath_codec::Rule;
use retpath_engine::destination;
use retpath_image::{Error as ImageError, ImportOptions, Imported, Writer, import, shown};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use tracing::info;

use crate::exit::{self, Error, Exit};
use crate::progress::Progress;
use crate::sandbox::{self, Sandbox};
use crate::signals::Signals;
use crate::size::{self, PageSize};
use crate::{Format, image, is_stdin, output};

const EXAMPLES: &str = "  \
  retpath import saved.stream --out vm
  zcat saved.gz | retpath import - --out vm";

const STREAMS: &str = "\
The stream is what QEMU writes with one of these:
  migrate \"exec:cat >FILE\"
  migrate file:FILE                               (8.2 and newer)
  migrate \"exec:retpath import - --out DIR\"       (no file in between)

Multifd, mapped-ram, compress, xbzrle and devices with iterative state are refused. So are \
streams of machine types up to 2.2 without --accept-unproven-end: they do not mark their end.";

fn after_help() -> String {
    exit::help(
        EXAMPLES,
        "the image exists, even if the report could not be written",
        "no image was made, or it has another name than --out; one line says why",
    )
}

fn after_long_help() -> String {
    format!("{STREAMS}\n\n{}", after_help())
}

/// Command line of `retpath import`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(), after_long_help = after_long_help())]
pub(crate) struct Args {
    /// The saved stream, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder of the image, which must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Page size of a RAM block on huge pages, as in pc.ram=2M; may be repeated
    ///
    /// A QEMU that the image is served to must have the same. A saved stream does not carry it.
    #[arg(long = "block-page-size", value_name = "NAME=SIZE", value_parser = PageSize::parser())]
    page_sizes: Vec<PageSize>,
    /// Accept a stream that does not mark its end
    ///
    /// For machine types up to 2.2: a stream that was cut inside the device state looks complete.
    /// Use this only if QEMU reported the migration as completed. The image records that its end is
    /// unproven.
    #[arg(long)]
    accept_unproven_end: bool,
    /// Limit for the RAM of the guest
    #[arg(long, value_name = "SIZE", default_value = "4T", value_parser = size::parse)]
    max_ram: u64,
    /// Format of the report; json is one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    sandbox: sandbox::SandboxArgs,
}

/// Imports the stream and reports the result.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    image::mention_leftovers("import", &args.out);
    let imported = convert(args)?;
    image::check_name("import", &imported.finished)?;
    show(args, &imported);
    Ok(Exit::Success)
}

fn convert(args: &Args) -> Result<Imported, String> {
    let signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
    let name = match is_stdin(args.file.as_os_str()) {
        true => "standard input".to_owned(),
        false => shown(&args.file).to_string(),
    };
    let (file, size) = open(args).map_err(|error| format!("{name}: {error}"))?;
    let writer = Writer::new(&args.out).map_err(|error| format!("{error}; no image was made"))?;
    let needs = Sandbox::default().image(writer.path(), &args.out);
    args.sandbox.enter(needs)?;
    info!(stream = %name, bytes = ?size, "importing");
    let mut stream = Stream {
        file,
        signals: &signals,
    };
    let (core, stream_options) = image::settings(&args.page_sizes);
    let options = ImportOptions::default()
        .core(core.max_ram(args.max_ram))
        .stream(stream_options)
        .accept_unproven_end(args.accept_unproven_end);
    let mut bar = Progress::new(size, true);
    let mut progress = |bytes| {
        bar.set(bytes);
        !signals.came()
    };
    let done = import(&mut stream, writer, options, &mut progress);
    bar.clear();
    done.map_err(|error| match error {
        ImageError::Stopped => "stopped by a signal; no image was made".to_owned(),
        ImageError::Stream(_) | ImageError::Migration(_) | ImageError::Unfaithful { .. } => {
            format!("{name}: {error}{}; no image was made", hint(&error))
        }
        ImageError::CutShort { .. } | ImageError::Read(_) => {
            format!("{name}: {error}; no image was made")
        }
        ImageError::UnprovenEnd => format!(
            "{name}: {error}; no image was made. If QEMU reported the migration as completed, add \
             --accept-unproven-end; if not, save the guest again"
        ),
        error => format!("{error}; no image was made"),
    })
}

fn open(args: &Args) -> Result<(File, Option<u64>), io::Error> {
    let file = if is_stdin(args.file.as_os_str()) {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)?
    } else {
        // Without NONBLOCK, opening a named pipe waits for its writer, and ignores signals.
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

/// The stream's file. A signal ends a read with [`ErrorKind::Interrupted`].
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

/// The likely cause of an error, or the option to try.
fn hint(error: &ImageError) -> &'static str {
    match error {
        ImageError::Stream(error) => match error.rule {
            Rule::Magic { .. } => " (not a migration stream, or a compressed one)",
            Rule::BlockPage { .. } => " (--block-page-size gives another size)",
            _ => "",
        },
        ImageError::Migration(error)
            if matches!(error.kind, destination::ErrorKind::TooMuchRam { .. }) =>
        {
            " (--max-ram raises it)"
        }
        _ => "",
    }
}

fn show(args: &Args, imported: &Imported) {
    let text = args.format.render(
        || image::text(&args.out, &imported.manifest),
        || {
            let (path, manifest) = image::json(&args.out, &imported.manifest);
            json!({ "image": path, "manifest": manifest, "stream_bytes": imported.bytes })
        },
    );
    let done = format!("the image {} exists", shown(&args.out));
    output::print_report("import", &done, &text);
}

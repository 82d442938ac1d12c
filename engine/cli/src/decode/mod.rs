//! `retpath decode`: prints what a recorded migration channel says.
//!
//! [`decode`] is the whole command as a function: bytes from a reader in,
//! report to a writer out, a verdict back. It neither panics nor exits,
//! whatever the bytes are, and its memory does not grow with the recording.
//! [`run`] adds the file, the terminal and the exit code.
//!
//! ```text
//!  reader → Window → Decoding ┬ ReturnPath<D> ┬→ Report → writer
//!           (buffer)          └ Forward       ┘  (text, JSON, counts)
//! ```

use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use retpath_codec::{DecodeError, NameBuf, Qemu, V7};

mod args;
mod failure;
mod forward;
mod input;
mod json;
mod progress;
mod report;
mod return_path;
mod summary;
mod tally;
mod text;
mod window;

pub use args::Args;
pub(crate) use args::page_size;
pub use failure::Failure;

pub use crate::Format;

use forward::Forward;
use input::Input;
use report::Report;
use return_path::ReturnPath;
use window::Window;

/// How a recording is decoded and printed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Dialect of a return path.
    pub dialect: Dialect,
    /// What the recording is.
    pub kind: Kind,
    /// How messages are printed.
    pub format: Format,
    /// Print counts instead of messages.
    pub summary: bool,
    /// Page sizes of blocks whose pages are not [`Options::DEFAULT_PAGE`].
    pub page_sizes: Vec<PageSize>,
    /// Largest received bitmap to accept, in bytes.
    pub max_bitmap: u64,
    /// Text with colours.
    pub colour: bool,
}

impl Options {
    /// Page size of blocks that [`Options::page_sizes`] does not name, in
    /// bytes.
    pub const DEFAULT_PAGE: u64 = 4096;
    /// Smallest page size there is, in bytes: QEMU's RAM records need the bits
    /// below it for flags.
    pub const SMALLEST_PAGE: u64 = 1024;
    /// Default of [`Options::max_bitmap`]: a block of 2 TiB with pages of 4 KiB.
    pub const MAX_BITMAP: u64 = 64 << 20;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dialect: Dialect::Qemu,
            kind: Kind::Auto,
            format: Format::Text,
            summary: false,
            page_sizes: Vec::new(),
            max_bitmap: Self::MAX_BITMAP,
            colour: false,
        }
    }
}

/// The page size of one RAM block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// Name of the block.
    pub name: NameBuf,
    /// Size of its host pages in bytes.
    pub size: u64,
}

/// Dialect of a return path. The bytes do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Every released QEMU
    Qemu,
    /// The draft of June 2015, which no release spoke
    V7,
}

/// What a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A forward stream if it begins with QEVM, else a return path
    Auto,
    /// Destination to source
    ReturnPath,
    /// Source to destination, from the beginning
    Forward,
    /// Source to destination, after the link broke: no header
    Resumed,
    /// The preempt channel: bare RAM records
    Preempt,
}

/// What opens a forward stream.
const MAGIC: &[u8] = b"QEVM";

/// A recording that is being decoded.
enum Decoding {
    Qemu(ReturnPath<Qemu>),
    V7(ReturnPath<V7>),
    Forward(Box<Forward>),
}

impl Decoding {
    /// Chooses the decoder for a recording that begins with `start`.
    fn new(options: &Options, start: &[u8]) -> (Self, Kind) {
        let kind = match options.kind {
            Kind::Auto if start.starts_with(MAGIC) => Kind::Forward,
            Kind::Auto => Kind::ReturnPath,
            kind => kind,
        };
        let decoding = match (kind, options.dialect) {
            (Kind::ReturnPath, Dialect::Qemu) => Decoding::Qemu(ReturnPath::new(options)),
            (Kind::ReturnPath, Dialect::V7) => Decoding::V7(ReturnPath::new(options)),
            (kind, _) => Decoding::Forward(Box::new(Forward::new(kind, options))),
        };
        (decoding, kind)
    }

    /// Columns of the longest label.
    fn width(&self) -> usize {
        match self {
            Decoding::Qemu(_) | Decoding::V7(_) => return_path::WIDTH,
            Decoding::Forward(_) => forward::WIDTH,
        }
    }

    /// Prints what is whole in `input` and says how much of it that is.
    fn feed(&mut self, input: &[u8], report: &mut Report) -> Result<usize, DecodeError> {
        match self {
            Decoding::Qemu(path) => path.feed(input, report)?,
            Decoding::V7(path) => path.feed(input, report)?,
            Decoding::Forward(stream) => return stream.feed(input, report),
        }
        Ok(input.len())
    }

    /// Says that the recording ends behind `left`, which was not taken.
    fn finish(&mut self, left: &[u8], report: &mut Report) -> Result<(), DecodeError> {
        match self {
            Decoding::Qemu(path) => path.finish(),
            Decoding::V7(path) => path.finish(),
            Decoding::Forward(stream) => stream.finish(left, report),
        }
    }

    /// Prints what is left to print, after the last message or an error.
    fn close(&mut self, options: &Options, report: &mut Report) {
        match self {
            Decoding::Qemu(path) => path.close(options, report),
            Decoding::V7(path) => path.close(options, report),
            Decoding::Forward(stream) => stream.close(options, report),
        }
    }

    /// Bytes that have been understood.
    fn bytes(&self) -> u64 {
        match self {
            Decoding::Qemu(path) => path.bytes(),
            Decoding::V7(path) => path.bytes(),
            Decoding::Forward(stream) => stream.bytes(),
        }
    }
}

/// Decodes everything that `input` yields and prints it to `output`, which is
/// flushed whenever more input has to be waited for. `progress` is told how
/// many bytes each read brought.
///
/// # Errors
///
/// [`Failure`]. All that had been understood by then has been printed, unless
/// it is printing that failed.
pub fn decode(
    options: &Options,
    input: &mut dyn Read,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(usize),
) -> Result<(), Failure> {
    let mut window = Window::new(input, progress);
    while window.bytes().len() < MAGIC.len() && MAGIC.starts_with(window.bytes()) {
        if window.fill().map_err(Failure::Read)? == 0 {
            break;
        }
    }
    if window.bytes().is_empty() {
        return Err(Failure::Empty);
    }
    let (mut decoding, kind) = Decoding::new(options, window.bytes());
    let mut report = Report::new(options, decoding.width());
    let verdict = pump(&mut window, &mut decoding, &mut report, output);
    if let Err(Failure::Write(_)) = verdict {
        return verdict;
    }
    decoding.close(options, &mut report);
    write(&mut report, output)?;
    verdict.map_err(|failure| failure.hinted(kind, options, decoding.bytes(), window.start()))
}

/// [`decode`] for bytes in memory: the report and the verdict.
pub fn decode_slice(options: &Options, mut bytes: &[u8]) -> (Vec<u8>, Result<(), Failure>) {
    let mut out = Vec::new();
    let verdict = decode(options, &mut bytes, &mut out, &mut |_| {});
    (out, verdict)
}

/// Feeds the decoder until the input ends or something fails.
fn pump(
    window: &mut Window<'_>,
    decoding: &mut Decoding,
    report: &mut Report,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    loop {
        let taken = decoding
            .feed(window.bytes(), report)
            .map_err(Failure::bytes)?;
        window.consume(taken);
        write(report, output)?;
        if window.fill().map_err(Failure::Read)? == 0 {
            return decoding
                .finish(window.bytes(), report)
                .map_err(Failure::bytes);
        }
    }
}

/// Passes on what the report holds.
fn write(report: &mut Report, output: &mut dyn Write) -> Result<(), Failure> {
    if report.out.is_empty() {
        return Ok(());
    }
    output.write_all(&report.out).map_err(Failure::Write)?;
    report.out.clear();
    output.flush().map_err(Failure::Write)
}

/// Runs the subcommand.
pub fn run(args: Args) -> ExitCode {
    let stdout = io::stdout();
    let options = args.options(input::wants_colour(&stdout));
    let mut input = match Input::open(&args.path) {
        Ok(input) => input,
        Err(error) => return failure::complain(&args.path, &error, ExitCode::from(2)),
    };
    let mut progress = progress::Progress::new(input.size, options.summary, &stdout);
    let mut output = stdout.lock();
    let verdict = decode(&options, &mut input.file, &mut output, &mut |bytes| {
        progress.add(bytes)
    });
    progress.clear();
    match verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_output() => ExitCode::SUCCESS,
        Err(failure) => failure::complain(&args.path, &failure, ExitCode::FAILURE),
    }
}

//! `retpath decode`: prints the messages of a recorded migration channel.
//!
//! [`decode`] is the whole command as a function: it reads bytes from a reader, writes the report to
//! a writer, and returns whether everything was decoded. It never panics, whatever the bytes are,
//! and its memory does not grow with the recording. `run` adds the file, the terminal and the exit
//! code.
//!
//! ```text
//!  reader → Window → Decoding ┬ ReturnPath<D> ┬→ Report → writer
//!           (buffer)          └ Forward       ┘  (text, JSON, counts)
//! ```

use std::io::{self, IsTerminal, Read, Write};

use clap::ColorChoice;
use retpath_codec::wire::section;
use retpath_codec::{DecodeError, Qemu, V7};
use tracing::info;

mod failure;
mod fields;
mod forward;
mod json;
mod options;
mod recording;
mod report;
mod return_path;
mod summary;
mod text;

pub use failure::Failure;
pub use options::{Args, Dialect, Kind, Options};

pub use crate::Format;
pub use crate::size::PageSize;

use crate::exit::{Error, Exit};
use crate::output;
use crate::progress::Progress;
use crate::sandbox::Sandbox;
use forward::Forward;
use recording::{Recording, Window};
use report::Report;
use return_path::ReturnPath;

/// Magic number of a forward stream.
const MAGIC: [u8; 4] = section::MAGIC.to_be_bytes();

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
            Kind::Auto if start.starts_with(&MAGIC) => Kind::Forward,
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

    /// Prints the complete messages in `input`; returns how many bytes they are.
    fn feed(&mut self, input: &[u8], report: &mut Report<'_>) -> Result<usize, DecodeError> {
        match self {
            Decoding::Qemu(path) => path.feed(input, report)?,
            Decoding::V7(path) => path.feed(input, report)?,
            Decoding::Forward(stream) => return stream.feed(input, report),
        }
        Ok(input.len())
    }

    /// Ends the recording after `left`, which was not decoded.
    fn finish(&mut self, left: &[u8], report: &mut Report<'_>) -> Result<(), DecodeError> {
        match self {
            Decoding::Qemu(path) => path.finish(),
            Decoding::V7(path) => path.finish(),
            Decoding::Forward(stream) => stream.finish(left, report),
        }
    }

    /// Prints what follows the last message or an error.
    fn close(&mut self, options: &Options, report: &mut Report<'_>) {
        match self {
            Decoding::Qemu(path) => path.close(options, report),
            Decoding::V7(path) => path.close(options, report),
            Decoding::Forward(stream) => stream.close(options, report),
        }
    }

    /// Bytes that have been decoded.
    fn bytes(&self) -> u64 {
        match self {
            Decoding::Qemu(path) => path.bytes(),
            Decoding::V7(path) => path.bytes(),
            Decoding::Forward(stream) => stream.bytes(),
        }
    }
}

/// Decodes all of `input` and prints it to `output`, which is flushed before each wait for input.
/// `progress` is called with the number of bytes of each read.
///
/// # Errors
///
/// [`Failure`]. What was decoded before has been printed, except after [`Failure::Write`].
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
    info!(?kind, dialect = ?options.dialect, "decoding");
    let mut report = Report::new(options, decoding.width(), output);
    let result = pump(&mut window, &mut decoding, &mut report);
    if let Err(Failure::Write(_)) = result {
        return result;
    }
    decoding.close(options, &mut report);
    report.out.flush().map_err(Failure::Write)?;
    result.map_err(|failure| failure.hinted(kind, options, decoding.bytes(), window.start()))
}

/// Decodes bytes in memory; returns the report and the result of [`decode`].
pub fn decode_slice(options: &Options, mut bytes: &[u8]) -> (Vec<u8>, Result<(), Failure>) {
    let mut out = Vec::new();
    let result = decode(options, &mut bytes, &mut out, &mut |_| {});
    (out, result)
}

/// Feeds the decoder until the input ends or something fails.
fn pump(
    window: &mut Window<'_>,
    decoding: &mut Decoding,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    loop {
        let taken = decoding
            .feed(window.bytes(), report)
            .map_err(Failure::bytes)?;
        window.consume(taken);
        report.out.flush().map_err(Failure::Write)?;
        if window.fill().map_err(Failure::Read)? == 0 {
            return decoding
                .finish(window.bytes(), report)
                .map_err(Failure::bytes);
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, color: ColorChoice) -> Result<Exit, Error> {
    let name = failure::name(&args.path);
    let options = args.options(output::wants_color(color, &io::stdout()));
    let mut recording = Recording::open(&args.path).map_err(|error| format!("{name}: {error}"))?;
    args.sandbox.enter(Sandbox::default())?;
    // A terminal that shows messages shows no bar.
    let wants_bar = options.summary || !io::stdout().is_terminal();
    let mut progress = Progress::new(recording.size, wants_bar);
    let mut done = 0_u64;
    let result = decode(
        &options,
        &mut recording.file,
        &mut output::stdout(),
        &mut |bytes| {
            done = done.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            progress.set(done);
        },
    );
    progress.clear();
    match result {
        Ok(()) => Ok(Exit::Success),
        Err(failure) if failure.is_closed_output() => Ok(Exit::Success),
        Err(failure) => Err(format!("{name}: {failure}").into()),
    }
}

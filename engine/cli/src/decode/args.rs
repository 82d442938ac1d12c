//! The arguments of `retpath decode`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use retpath_codec::NameBuf;

use super::{Dialect, Format, Kind, Options, PageSize};
use crate::size;

/// Command line of `retpath decode`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// Dialect of the return path: every released QEMU, or the draft of 2015
    #[arg(long, value_enum, value_name = "DIALECT", default_value_t = Dialect::Qemu)]
    dialect: Dialect,

    /// What the recording is
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Kind::Auto)]
    kind: Kind,

    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,

    /// Print counts instead of messages
    #[arg(long)]
    summary: bool,

    /// Page size of a RAM block on huge pages, as in pc.ram=2M; may be repeated
    ///
    /// Tells a return path, a resumed and a preempt channel what they do not
    /// say. A forward stream that says otherwise is refused. Blocks that
    /// neither names have pages of 4 KiB.
    #[arg(long = "block-page-size", value_name = "NAME=SIZE",
          value_parser = OsStringValueParser::new().try_map(page_size))]
    page_sizes: Vec<PageSize>,

    /// Largest received bitmap (RECV_BITMAP) to accept
    ///
    /// The default is enough for a block of 2 TiB with pages of 4 KiB. The
    /// memory used grows with the bytes that arrive, not with this limit.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size::parse)]
    max_bitmap: u64,

    /// File to decode, or - for standard input
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything was understood, or whoever read the output has seen enough
  1  the recording is empty, malformed, cut short or cannot be read to its end;
     what was understood has been printed, and one line says what is wrong
  2  the command was called wrongly, or PATH cannot be opened";

impl Args {
    /// The part that does not concern files and terminals.
    pub(super) fn options(&self, colour: bool) -> Options {
        let mut page_sizes: Vec<PageSize> = Vec::new();
        for given in &self.page_sizes {
            // The last one counts.
            page_sizes.retain(|known| known.name != given.name);
            page_sizes.push(given.clone());
        }
        Options {
            dialect: self.dialect,
            kind: self.kind,
            format: self.format,
            summary: self.summary,
            page_sizes,
            max_bitmap: self.max_bitmap,
            colour,
        }
    }
}

/// Reads NAME=SIZE. A name is bytes, and may have a `=` inside.
pub(crate) fn page_size(arg: OsString) -> Result<PageSize, String> {
    let bytes = arg.as_bytes();
    let equals = bytes
        .iter()
        .rposition(|byte| *byte == b'=')
        .ok_or("expected NAME=SIZE, as in pc.ram=2M")?;
    let (name, size) = (&bytes[..equals], &bytes[equals + 1..]);
    let name = NameBuf::new(name).map_err(|rule| rule.to_string())?;
    let size = size::parse(&OsStr::from_bytes(size).to_string_lossy())?;
    if !size.is_power_of_two() || size < Options::SMALLEST_PAGE {
        return Err(format!(
            "a page size is a power of two and at least {}, not {size}",
            Options::SMALLEST_PAGE
        ));
    }
    Ok(PageSize { name, size })
}

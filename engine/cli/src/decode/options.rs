//! The options of `retpath decode`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Format;
use crate::exit;
use crate::sandbox;
use crate::size::{self, PageSize};

const EXAMPLES: &str = "  \
  retpath decode corpus/capture/qemu-10.0-recover.ch1.rp
  retpath decode --format json recording.rp
  zcat recording.gz | retpath decode --summary -";

fn after_help() -> String {
    exit::help(
        EXAMPLES,
        "everything was decoded, or the reader of the output closed it",
        "the recording cannot be opened or read, is empty, malformed or cut short; what was decoded \
         has been printed, and one line says what is wrong",
    )
}

/// Command line of `retpath decode`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// Dialect of the return path: every released QEMU, or the draft of 2015
    #[arg(long, value_enum, value_name = "DIALECT", default_value_t = Dialect::Qemu)]
    dialect: Dialect,

    /// Kind of the recording
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Kind::Auto)]
    kind: Kind,

    /// Format of the report; json is one object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,

    /// Print counts instead of messages
    #[arg(long)]
    summary: bool,

    /// Page size of a RAM block on huge pages, as in pc.ram=2M; may be repeated
    ///
    /// For return paths, resumed channels and preempt channels, which do not carry page sizes. A
    /// forward stream with other page sizes is refused. The default is 4 KiB.
    #[arg(long = "block-page-size", value_name = "NAME=SIZE", value_parser = PageSize::parser())]
    page_sizes: Vec<PageSize>,

    /// Largest received bitmap (RECV_BITMAP) to accept
    ///
    /// The default is enough for a block of 2 TiB with pages of 4 KiB. Memory use grows with the
    /// bytes that arrive, not with this limit.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size::parse)]
    max_bitmap: u64,

    #[command(flatten)]
    pub(super) sandbox: sandbox::SandboxArgs,

    /// File to decode, or - for standard input
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
}

impl Args {
    /// The options that do not concern files and terminals.
    pub(super) fn options(&self, color: bool) -> Options {
        Options {
            dialect: self.dialect,
            kind: self.kind,
            format: self.format,
            summary: self.summary,
            page_sizes: size::last_of_each(&self.page_sizes),
            max_bitmap: self.max_bitmap,
            color,
        }
    }
}

/// How a recording is decoded and printed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Dialect of a return path.
    pub dialect: Dialect,
    /// Kind of the recording.
    pub kind: Kind,
    /// Format of the report.
    pub format: Format,
    /// Print counts instead of messages.
    pub summary: bool,
    /// Page sizes of blocks whose pages are not [`Options::DEFAULT_PAGE`].
    pub page_sizes: Vec<PageSize>,
    /// Largest received bitmap to accept, in bytes.
    pub max_bitmap: u64,
    /// Text with colors.
    pub color: bool,
}

impl Options {
    /// Page size in bytes of blocks that [`Options::page_sizes`] does not name.
    pub const DEFAULT_PAGE: u64 = 4096;
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
            color: false,
        }
    }
}

/// Dialect of a return path, which its bytes do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Every released QEMU
    Qemu,
    /// The draft of June 2015, in no release
    V7,
}

/// Kind of a recording.
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

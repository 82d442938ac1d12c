//! Why a recording was not decoded to its end, and what to try: always one line.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use retpath_codec::wire::{ram, section};
use retpath_codec::{DecodeError, Rule};

use super::{Dialect, Kind, MAGIC, Options};
use crate::is_stdin;
use retpath_image::shown;

/// Why a recording was not decoded to its end.
#[derive(Debug)]
pub enum Failure {
    /// The recording is empty.
    Empty,
    /// The recording is malformed or cut short.
    Bytes {
        /// Where and why.
        error: DecodeError,
        /// What to try.
        hint: Option<&'static str>,
    },
    /// The recording cannot be read.
    Read(io::Error),
    /// The report cannot be written.
    Write(io::Error),
}

impl Failure {
    pub(super) fn bytes(error: DecodeError) -> Self {
        Failure::Bytes { error, hint: None }
    }

    /// Whether the reader of the report closed it, as `head` does.
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Failure::Write(error) if error.kind() == ErrorKind::BrokenPipe)
    }

    /// Adds what to try, for a recording that was decoded as `kind` for `decoded` bytes and begins
    /// with `start`.
    pub(super) fn hinted(
        mut self,
        kind: Kind,
        options: &Options,
        decoded: u64,
        start: &[u8],
    ) -> Self {
        if let Failure::Bytes { error, hint } = &mut self {
            *hint = match decoded {
                0 => Guess::of(start)
                    .filter(|guess| guess.kind() != Some(kind))
                    .map(Guess::hint),
                _ => None,
            };
            *hint = hint.or_else(|| option(kind, options.dialect, error));
        }
        self
    }
}

/// The option that may help with an error.
fn option(kind: Kind, dialect: Dialect, error: &DecodeError) -> Option<&'static str> {
    match (dialect, error.message, error.rule) {
        (_, _, Rule::BitmapLimit { .. }) => Some("--max-bitmap sets the limit"),
        (_, _, Rule::BlockPage { .. }) => Some("--block-page-size gives another size"),
        _ if kind != Kind::ReturnPath => None,
        (Dialect::V7, None, Rule::Unknown { number: 4..=7 }) => {
            Some("released QEMUs have this message: try --dialect qemu")
        }
        (Dialect::Qemu, Some("REQ_PAGES_ID"), _) if error.rule.is_peer_fault() => {
            Some("if the recording follows the draft of 2015, try --dialect v7")
        }
        _ => None,
    }
}

/// What the start of a recording looks like, if its first message is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    Forward,
    Resumed,
    Preempt,
    ReturnPath,
    Multifd,
    Tls,
    Gzip,
}

impl Guess {
    fn of(start: &[u8]) -> Option<Self> {
        Some(match start {
            start if start.starts_with(&MAGIC) => Guess::Forward,
            start if start.starts_with(&section::MULTIFD_MAGIC.to_be_bytes()) => Guess::Multifd,
            // Records of TLS: handshake, version 3.x.
            [0x16, 0x03, ..] => Guess::Tls,
            [0x1f, 0x8b, ..] => Guess::Gzip,
            // RECV_BITMAP, the command that opens a resumed channel.
            [section::COMMAND, 0, 10, 0, ..] => Guess::Resumed,
            // PONG 1 or SWITCHOVER_ACK open a return path; RECV_BITMAP opens
            // that of a resumed channel.
            [0, 2, 0, 4, ..] | [0, 7, 0, 0, ..] | [0, 5, 0, _, ..] => Guess::ReturnPath,
            // An offset, the flag PAGE or ZERO, and a name.
            [0, 0, _, _, _, _, _, flags, name, ..]
                if matches!(u64::from(*flags), ram::PAGE | ram::ZERO) && *name > 0 =>
            {
                Guess::Preempt
            }
            _ => return None,
        })
    }

    fn kind(self) -> Option<Kind> {
        match self {
            Guess::Forward => Some(Kind::Forward),
            Guess::Resumed => Some(Kind::Resumed),
            Guess::Preempt => Some(Kind::Preempt),
            Guess::ReturnPath => Some(Kind::ReturnPath),
            Guess::Multifd | Guess::Tls | Guess::Gzip => None,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Guess::Forward => {
                "it begins with QEVM, so it is a forward stream: decode it with --kind forward"
            }
            Guess::Resumed => {
                "it begins like a forward stream after the link broke: try --kind resumed"
            }
            Guess::Preempt => "it begins like a preempt channel: try --kind preempt",
            Guess::ReturnPath => "it begins like a return path: try --kind return-path",
            Guess::Multifd => {
                "it begins like a multifd channel, which this command does not decode"
            }
            Guess::Gzip => "it is compressed: unpack it first, as in zcat PATH | retpath decode -",
            Guess::Tls => "it begins like a TLS session: record what is inside the session",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Empty => f.write_str("the recording is empty"),
            Failure::Bytes { error, hint: None } => write!(f, "{error}"),
            Failure::Bytes {
                error,
                hint: Some(hint),
            } => write!(f, "{error}; {hint}"),
            Failure::Read(error) => write!(f, "cannot read the rest: {error}"),
            Failure::Write(error) => write!(f, "cannot write the report: {error}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::Empty => None,
            Failure::Bytes { error, .. } => Some(error),
            Failure::Read(error) | Failure::Write(error) => Some(error),
        }
    }
}

/// A recording's name in messages.
pub(super) fn name(path: &Path) -> String {
    match is_stdin(path.as_os_str()) {
        true => "standard input".to_owned(),
        false => shown(path).to_string(),
    }
}

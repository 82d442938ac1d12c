//! Errors of opening, registering and reading. Placing has its own, with counts:
//! [`PlaceError`](super::PlaceError).

#![deny(unsafe_code)]

use std::{fmt, io};

use super::OpenError;

/// An error of a userfaultfd, apart from placing pages.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No userfaultfd can be opened.
    Open(OpenError),
    /// The kernel does not support this kind of memory.
    Unsupported {
        /// Name of the block, escaped.
        block: String,
        /// The kernel's name of the missing feature.
        lacks: &'static str,
    },
    /// A block could not be registered, or unregistered.
    Register {
        /// The operation, such as `registering`.
        doing: &'static str,
        /// Name of the block, escaped.
        block: String,
        /// The cause.
        source: io::Error,
    },
    /// Reading events failed.
    Read(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Unsupported { block, lacks } => write!(
                f,
                "RAM block \"{block}\": this kernel cannot trap accesses to its memory: userfaultfd \
                 lacks {lacks}"
            ),
            Self::Register {
                doing,
                block,
                source,
            } => write!(
                f,
                "{doing} RAM block \"{block}\" with userfaultfd: {source}"
            ),
            Self::Read(source) => write!(f, "reading page faults from userfaultfd: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(error) => Some(error),
            Self::Register { source, .. } | Self::Read(source) => Some(source),
            Self::Unsupported { .. } => None,
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

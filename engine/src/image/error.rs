//! Why an image cannot be made or opened, and what to do about it.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use retpath_codec::{DecodeError, NameBuf};

use crate::blocks::BlockError;
use crate::{destination, memory};

/// Why an image cannot be made or opened.
#[derive(Debug)]
pub enum Error {
    /// There is something of that name.
    Exists {
        /// It.
        path: PathBuf,
    },
    /// A name that no folder can be given.
    Name {
        /// It.
        path: PathBuf,
    },
    /// A system call failed.
    Io {
        /// What was being done, such as "writing".
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// The folder has no manifest.
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest breaks a rule.
    Manifest {
        /// It.
        path: PathBuf,
        /// Which one, and where.
        why: String,
    },
    /// The manifest is of a version that is not known.
    Version {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// A file does not fit the manifest.
    File {
        /// It.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A block's file cannot be mapped.
    Map {
        /// It.
        path: PathBuf,
        /// Why.
        error: memory::Error,
    },
    /// A RAM block cannot be one.
    Block {
        /// It.
        name: NameBuf,
        /// Why.
        error: BlockError,
    },
    /// No block has this number, or the range is not inside of it.
    Range,
    /// The stream holds what an image cannot keep.
    Unfaithful {
        /// What it is.
        what: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The stream is malformed or cut short.
    Stream(DecodeError),
    /// The stream breaks the rules of a migration.
    Migration(destination::Error),
    /// The stream ends where no machine is complete.
    CutShort {
        /// What is missing.
        why: &'static str,
    },
    /// The stream cannot be read.
    Read(io::Error),
    /// It was stopped from outside.
    Stopped,
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { doing, path, error }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Stream(error)
    }
}

impl From<destination::Error> for Error {
    fn from(error: destination::Error) -> Self {
        Self::Migration(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => write!(
                f,
                "{} exists already and is not overwritten: choose another name, or move it away",
                path.display()
            ),
            Self::Name { path } => {
                write!(f, "{} is no name that an image can have", path.display())
            }
            Self::Io { doing, path, error } => {
                write!(f, "{doing} {}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => f.write_str(
                        "; an image needs as much room as the guest has memory that is not zero",
                    ),
                    io::ErrorKind::FileTooLarge => f.write_str(
                        "; a file of the image passes the limit of `ulimit -f` or of the file \
                         system: raise it, or choose another file system",
                    ),
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "; an image belongs to the user who made it: do this as that user, or give \
                         this one access",
                    ),
                    _ => Ok(()),
                }
            }
            Self::NoManifest { path } => write!(
                f,
                "{} is no image: it has no {}",
                path.display(),
                super::MANIFEST
            ),
            Self::Manifest { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Version { path, version } => write!(
                f,
                "{}: version {version} of the format, but this retpath knows only {}",
                path.display(),
                super::VERSION
            ),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Map { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Block { name, error } => write!(f, "RAM block {name}: {error}"),
            Self::Range => f.write_str("a range outside of every RAM block"),
            Self::Unfaithful { what, advice } => {
                write!(f, "an image cannot keep {what}: {advice}")
            }
            Self::Stream(error) => error.fmt(f),
            Self::Migration(error) => error.fmt(f),
            Self::CutShort { why } => write!(f, "the stream is cut short: {why}"),
            Self::Read(error) => write!(f, "cannot read the stream: {error}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } | Self::Read(error) => Some(error),
            Self::Map { error, .. } => Some(error),
            _ => None,
        }
    }
}

//! Why an image cannot be made or opened, and what to do about it.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use retpath_codec::{DecodeError, NameBuf};

use retpath_engine::blocks::BlockError;
use retpath_engine::destination;

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
    /// Another process writes in the folder.
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds nothing that can be continued.
    NotUnfinished {
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
    /// A file is shorter than the manifest says.
    Truncated {
        /// It.
        path: PathBuf,
        /// Bytes that it has.
        size: u64,
        /// Bytes that it should have.
        len: u64,
    },
    /// A file is locked by a process that writes it.
    Busy {
        /// It.
        path: PathBuf,
    },
    /// A file was written, cut or replaced while the image was open.
    Changed {
        /// It.
        path: PathBuf,
    },
    /// Bytes of a file are not those that the image was made with.
    Damaged {
        /// The file.
        path: PathBuf,
        /// First byte of the piece that was checked.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Bytes of a file cannot be read.
    ReadAt {
        /// The file.
        path: PathBuf,
        /// First byte that was to be read.
        offset: u64,
        /// How many bytes were to be read.
        len: u64,
        /// Why not.
        error: io::Error,
    },
    /// The image has no digests.
    NoDigests {
        /// The folder.
        path: PathBuf,
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
    /// Nothing proves that the stream is whole.
    ///
    /// Machine types up to 2.3 close no section with a footer, and those up to
    /// 2.2 send no description: a stream that was cut behind any zero byte of
    /// its device state looks like a whole one.
    UnprovenEnd,
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
            Self::InUse { path } => {
                write!(f, "another process is still writing to {}", path.display())
            }
            Self::NotUnfinished { path } => write!(
                f,
                "{} is not a migration that can be continued: it has no {}",
                path.display(),
                super::UNFINISHED
            ),
            Self::Manifest { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Version { path, version } => write!(
                f,
                "{}: version {version} of the format, but this retpath knows only {}",
                path.display(),
                super::VERSION
            ),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Truncated { path, size, len } => write!(
                f,
                "{}: the file has {size} bytes, but the manifest says {len}: it is cut short",
                path.display()
            ),
            Self::Busy { path } => write!(
                f,
                "{}: the file is locked by a process that writes it; try again when that is done",
                path.display()
            ),
            Self::Changed { path } => write!(
                f,
                "{}: the file was changed while the image was in use: its bytes cannot be trusted",
                path.display()
            ),
            Self::Damaged { path, offset, len } => write!(
                f,
                "{}: the {len} bytes at offset {offset:#x} are not those that the image was made \
                 with: their digest differs",
                path.display()
            ),
            Self::ReadAt {
                path,
                offset,
                len,
                error,
            } => write!(
                f,
                "{}: cannot read {len} bytes at offset {offset:#x}: {error}",
                path.display()
            ),
            Self::NoDigests { path } => write!(
                f,
                "{} has no digests, because an earlier version of this program made it: nothing \
                 tells whether its files are as they were",
                path.display()
            ),
            Self::Block { name, error } => write!(f, "RAM block {name}: {error}"),
            Self::Range => f.write_str("a range outside of every RAM block"),
            Self::Unfaithful { what, advice } => {
                write!(f, "an image cannot keep {what}: {advice}")
            }
            Self::Stream(error) => error.fmt(f),
            Self::Migration(error) => error.fmt(f),
            Self::CutShort { why } => write!(f, "the stream is cut short: {why}"),
            Self::UnprovenEnd => f.write_str(
                "nothing proves that the stream is whole: it has neither section footers nor a \
                 description at its end (machine types up to 2.2, or a stream of 2.3 that was \
                 cut), so that a cut inside the device state looks like the end",
            ),
            Self::Read(error) => write!(f, "cannot read the stream: {error}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } | Self::ReadAt { error, .. } | Self::Read(error) => Some(error),
            _ => None,
        }
    }
}

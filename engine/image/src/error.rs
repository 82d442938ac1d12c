//! Errors of creating, opening and reading images.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use retpath_codec::escape::Escaped;
use retpath_codec::{DecodeError, NameBuf};
use rustix::io::Errno;

use retpath_engine::blocks::BlockError;
use retpath_engine::destination;

/// An error of creating, opening or reading an image.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The path already exists.
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The path is not valid for an image.
    Name {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    Io {
        /// The operation, such as "writing".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The folder has no manifest.
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is writing to the folder.
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder contains no unfinished image.
    NotUnfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest is invalid.
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The violated rule and its location.
        why: String,
    },
    /// The format version of the manifest is not supported.
    Version {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// A file does not match the manifest.
    File {
        /// The file.
        path: PathBuf,
        /// The mismatch.
        why: String,
    },
    /// More device state than an image may hold.
    StateLimit {
        /// The file.
        path: PathBuf,
        /// The limit in bytes; see [`MAX_DEVICE_STATE`](super::MAX_DEVICE_STATE).
        limit: u64,
    },
    /// A file is shorter than the manifest states.
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Its size in bytes according to the manifest.
        len: u64,
    },
    /// A file is locked by a writing process.
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file was written, truncated or replaced while the image was open.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Bytes of a file do not match their digest.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset of the piece that was verified.
        offset: u64,
        /// Length of the piece in bytes.
        len: u64,
    },
    /// Bytes of a file cannot be read.
    ReadAt {
        /// The file.
        path: PathBuf,
        /// Offset of the read.
        offset: u64,
        /// Length of the read in bytes.
        len: u64,
        /// The system's error.
        error: io::Error,
    },
    /// A working set is invalid, or belongs to another image.
    WorkingSet {
        /// The file.
        path: PathBuf,
        /// Offset of the invalid field.
        offset: usize,
        /// The field and the violated rule.
        why: String,
    },
    /// The image has no digests.
    NoDigests {
        /// The folder.
        path: PathBuf,
    },
    /// A RAM block is invalid.
    Block {
        /// The block's name.
        name: NameBuf,
        /// The violated rule.
        error: BlockError,
    },
    /// The block number does not exist, or the range exceeds its block.
    Range,
    /// The stream contains something that an image cannot keep.
    Unfaithful {
        /// Description of the content.
        what: String,
        /// How to avoid it.
        advice: &'static str,
    },
    /// The stream is malformed or truncated.
    Stream(DecodeError),
    /// The stream violates the rules of a migration.
    Migration(destination::Error),
    /// The stream ends before the machine is complete.
    CutShort {
        /// What is missing.
        why: &'static str,
    },
    /// The stream may be truncated, because it does not mark its end.
    ///
    /// Machine types up to 2.3 end no section with a footer, and those up to 2.2 send no
    /// description: a stream truncated after any zero byte of its device state looks
    /// complete.
    UnprovenEnd,
    /// The stream cannot be read.
    Read(io::Error),
    /// The progress callback stopped the operation.
    Stopped,
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
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

/// A path as messages show it: characters that do not print are escaped.
pub fn shown(path: &Path) -> Escaped<'_> {
    Escaped::new(path.as_os_str().as_encoded_bytes())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => write!(
                f,
                "{} exists already and is not overwritten: choose another name, or move it away",
                shown(path)
            ),
            Self::Name { path } => {
                write!(f, "{} is not a valid image name", shown(path))
            }
            Self::Io { doing, path, error } => {
                write!(f, "{doing} {}: {error}", shown(path))?;
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        f.write_str("; an image needs disk space for all nonzero guest memory")
                    }
                    io::ErrorKind::FileTooLarge => f.write_str(
                        "; a file of the image passes the limit of `ulimit -f` or of the file \
                         system: raise it, or choose another file system",
                    ),
                    _ if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => f.write_str(
                        "; this process may not open more files: raise the limit of `ulimit -n`",
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
                "{} is not an image: it has no {}",
                shown(path),
                super::MANIFEST
            ),
            Self::InUse { path } => {
                write!(f, "another process is still writing to {}", shown(path))
            }
            Self::NotUnfinished { path } => write!(
                f,
                "{} is not a migration that can be continued: it has no {}",
                shown(path),
                super::UNFINISHED
            ),
            Self::Manifest { path, why } => write!(f, "{}: {why}", shown(path)),
            Self::Version { path, version } => write!(
                f,
                "{}: version {version} of the format, but only version {} can be read",
                shown(path),
                super::VERSION
            ),
            Self::File { path, why } => write!(f, "{}: {why}", shown(path)),
            Self::StateLimit { path, limit } => write!(
                f,
                "{}: the device state exceeds the limit of {limit} bytes",
                shown(path)
            ),
            Self::Truncated { path, size, len } => write!(
                f,
                "{}: the file has {size} bytes, but the manifest says {len}: it is cut short",
                shown(path)
            ),
            Self::Busy { path } => write!(
                f,
                "{}: the file is locked by a process that writes it; try again when that is done",
                shown(path)
            ),
            Self::Changed { path } => write!(
                f,
                "{}: the file was changed while the image was in use: its bytes cannot be trusted",
                shown(path)
            ),
            Self::Damaged { path, offset, len } => write!(
                f,
                "{}: the {len} bytes at offset {offset:#x} do not match their digest: the file is \
                 damaged or was changed",
                shown(path)
            ),
            Self::ReadAt {
                path,
                offset,
                len,
                error,
            } => write!(
                f,
                "{}: cannot read {len} bytes at offset {offset:#x}: {error}",
                shown(path)
            ),
            Self::WorkingSet { path, offset, why } => {
                write!(f, "{}: offset {offset}: {why}", shown(path))
            }
            Self::NoDigests { path } => write!(
                f,
                "{} has no digests, because an earlier version of this program created it: its \
                 files cannot be verified",
                shown(path)
            ),
            Self::Block { name, error } => write!(f, "RAM block {name}: {error}"),
            Self::Range => f.write_str("range outside of the RAM blocks"),
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

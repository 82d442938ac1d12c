//! Errors of RAM memory, in words for the person at the terminal.

#![deny(unsafe_code)]

use std::{fmt, io};

/// What can go wrong with memory.
#[derive(Debug)]
pub enum Error {
    /// An access that does not lie inside.
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Bytes there are.
        size: u64,
    },
    /// A range whose ends are not on page boundaries.
    Unaligned {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Bytes in a page.
        page_size: u64,
    },
    /// A size that no memory can have.
    Length {
        /// Bytes asked for.
        len: u64,
        /// Bytes in a page.
        page_size: u64,
    },
    /// The pool of huge pages is too small.
    NoHugePages {
        /// Pages asked for.
        needed: u64,
        /// Bytes in a page.
        page_size: u64,
        /// Size of the pool, in pages, that would do.
        pool: u64,
    },
    /// Shared memory cannot be frozen.
    NotPrivate,
    /// A file is shorter than the block it should hold.
    Truncated {
        /// Bytes expected.
        len: u64,
        /// Bytes there are.
        size: u64,
    },
    /// A file can be written or cut by others.
    NotSealed,
    /// The kernel refused.
    System {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { offset, len, size } => {
                write!(
                    f,
                    "{len} bytes at offset {offset:#x} do not lie inside {size:#x} bytes of memory"
                )
            }
            Self::Unaligned {
                offset,
                len,
                page_size,
            } => write!(
                f,
                "{len} bytes at offset {offset:#x} are not whole pages of {page_size} bytes"
            ),
            Self::Length { len, page_size } => {
                write!(
                    f,
                    "memory of {len} bytes: not a positive multiple of {page_size} that this \
                     machine can map"
                )
            }
            Self::NoHugePages {
                needed,
                page_size,
                pool,
            } => {
                let kib = page_size >> 10;
                write!(
                    f,
                    "the kernel does not have {needed} free huge pages of {kib} KiB; reserve them \
                     with `echo {pool} | sudo tee \
                     /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages` \
                     (`retpath doctor` shows the pools)"
                )
            }
            Self::NotPrivate => f.write_str(
                "shared memory cannot be frozen: others may hold a writable mapping of it",
            ),
            Self::Truncated { len, size } => {
                write!(
                    f,
                    "the file has {size} bytes where the RAM block needs {len}: it is cut short"
                )
            }
            Self::NotSealed => f.write_str(
                "the file is not a memfd that is sealed against writing and shrinking: others may \
                 change it",
            ),
            Self::System { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

//! Errors of guest memory.

#![deny(unsafe_code)]

use std::{fmt, io};

/// An error of guest memory.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A range that is not inside the memory.
    OutOfRange {
        /// First byte of the range.
        offset: u64,
        /// Bytes in the range.
        len: u64,
        /// Bytes of the memory.
        size: u64,
    },
    /// A range whose ends are not multiples of the page size.
    Unaligned {
        /// First byte of the range.
        offset: u64,
        /// Bytes in the range.
        len: u64,
        /// Bytes in a page.
        page_size: u64,
    },
    /// A length that cannot be mapped.
    Length {
        /// Bytes requested.
        len: u64,
        /// Bytes in a page.
        page_size: u64,
    },
    /// Memory of the embedder that does not start at a page boundary.
    Start {
        /// Host virtual address.
        address: u64,
        /// Bytes in a page.
        page_size: u64,
    },
    /// The pool of huge pages is too small.
    NoHugePages {
        /// Pages requested.
        needed: u64,
        /// Bytes in a page.
        page_size: u64,
        /// Pages that the pool would need.
        pool: u64,
    },
    /// Memory that others can access cannot be sealed.
    NotPrivate,
    /// A system call failed.
    System {
        /// The operation.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { offset, len, size } => {
                write!(
                    f,
                    "{len} bytes at offset {offset:#x} are not inside the memory, which has {size:#x} bytes"
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
                    "cannot map {len} bytes: the length must be a positive multiple of {page_size} \
                     and fit into the address space"
                )
            }
            Self::Start { address, page_size } => write!(
                f,
                "memory at address {address:#x} does not start at a multiple of its page size \
                 ({page_size})"
            ),
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
                     /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages`"
                )
            }
            Self::NotPrivate => f.write_str(
                "only private memory that was mapped here can be sealed: others may write this \
                 memory",
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

//! Placing pages: interprets the kernel's answers.
//!
//! An ioctl that places pages may place all of its range, a part, or nothing, and reports it in two
//! ways at once: an errno, and a count in the last field of its struct. [`place`] turns any
//! sequence of such answers into exact counts, and terminates: each iteration places a page, finds
//! one present, uses one of a bounded number of tries, or fails. Nothing here panics.
//!
//! ```text
//! count > 0        so many bytes were placed; continue after them    (with EAGAIN: a partial)
//! EEXIST           the page is present: wake its waiters, skip it; but see below
//! EAGAIN, EINTR    no progress: an event is pending, or the map is changing; try again
//! ENOENT           nothing is registered there any more
//! ```
//!
//! For a huge page the kernel also answers EEXIST when it could not allocate one, as when a
//! discarded page went back to the pool and something else took it. Skipping it would leave a hole
//! that reads as zeros, so the page table is consulted, and a missing page is an error.
//!
//! The kernel's side is `fs/userfaultfd.c` (`userfaultfd_copy` and its like), and for huge pages
//! `mm/hugetlb.c` (`hugetlb_mfill_atomic_pte`).

#![deny(unsafe_code)]

use std::{fmt, io};

use rustix::io::Errno;

use crate::protocol::wide;

/// The kernel's operations on missing pages. Addresses and lengths are whole pages.
pub(super) trait Kernel {
    /// Fills pages from `bytes` and wakes the threads that wait for them (`UFFDIO_COPY`).
    fn copy(&self, at: u64, bytes: &[u8]) -> Answer;
    /// Fills pages with zeros and wakes the threads that wait for them (`UFFDIO_ZEROPAGE`).
    fn zero(&self, at: u64, len: u64) -> Answer;
    /// Wakes the threads that wait for the pages (`UFFDIO_WAKE`).
    fn wake(&self, at: u64, len: u64) -> Result<(), Errno>;
    /// Whether the page table of this process has a page at `at`.
    fn is_present(&self, at: u64) -> io::Result<bool>;
}

/// The result of an ioctl. The count was zero before, and some failures leave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) error: Option<Errno>,
    /// Bytes placed, or a negated errno.
    pub(super) count: i64,
}

/// The contents to place in missing pages.
#[derive(Clone, Copy)]
pub(super) enum Fill<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
    /// Zeros where the kernel offers no `UFFDIO_ZEROPAGE`: the same zero page, copied to each.
    CopiedZeros(u64, &'a [u8]),
}

impl<'a> Fill<'a> {
    pub(super) fn len(self) -> u64 {
        match self {
            Self::Bytes(bytes) => wide(bytes.len()),
            Self::Zeros(len) | Self::CopiedZeros(len, _) => len,
        }
    }

    /// The bytes that the kernel reads.
    pub(super) fn source(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) | Self::CopiedZeros(_, bytes) => bytes,
            Self::Zeros(_) => &[],
        }
    }

    /// Places everything after the first `done` bytes; returns the number of bytes requested.
    fn ask(self, kernel: &impl Kernel, start: u64, done: u64) -> (u64, Answer) {
        let (at, rest) = (start + done, self.len() - done);
        match self {
            Self::Bytes(bytes) => {
                // `done` counts bytes of this slice.
                let rest = usize::try_from(done)
                    .ok()
                    .and_then(|done| bytes.get(done..));
                let rest = rest.unwrap_or_default();
                (wide(rest.len()), kernel.copy(at, rest))
            }
            Self::Zeros(_) => (rest, kernel.zero(at, rest)),
            Self::CopiedZeros(_, page) => (wide(page.len()), kernel.copy(at, page)),
        }
    }
}

/// How a range was filled; the two counts add up to its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Bytes that this call placed.
    pub placed: u64,
    /// Bytes of pages that were present already (EEXIST); their waiters were woken.
    pub present: u64,
}

impl Filled {
    /// Bytes that are present now.
    pub fn bytes(&self) -> u64 {
        self.placed + self.present
    }
}

/// Fills whole pages of `page_size` bytes from address `start` on.
///
/// `again` is called after each answer without progress, with the number of such answers in a row.
/// It waits, and returns whether to try again.
pub(super) fn place(
    kernel: &impl Kernel,
    start: u64,
    page_size: u64,
    fill: Fill<'_>,
    again: &mut dyn FnMut(u32) -> bool,
) -> Result<Filled, (Filled, Cause)> {
    let mut done = Filled::default();
    let mut tries = 0;
    while done.bytes() < fill.len() {
        let offset = done.bytes();
        let (asked, answer) = fill.ask(kernel, start, offset);
        match judge(asked, page_size, answer).map_err(|cause| (done, cause))? {
            Step::Placed(bytes) => done.placed += bytes,
            Step::Present if lacks_huge_page(kernel, start + offset, page_size) => {
                tries += 1;
                if !again(tries) {
                    return Err((done, Cause::PoolEmpty { page_size }));
                }
                continue;
            }
            Step::Present => {
                // Nothing else wakes the threads that wait for this page.
                let woken = kernel.wake(start + offset, page_size);
                woken.map_err(|errno| (done, Cause::refused(errno)))?;
                done.present += page_size;
            }
            Step::Again => {
                tries += 1;
                if !again(tries) {
                    return Err((done, Cause::Pending { tries }));
                }
                continue;
            }
        }
        tries = 0;
    }
    Ok(done)
}

/// Whether EEXIST for a huge page is spurious; unknown counts as spurious, since an error is better
/// than a hole.
fn lacks_huge_page(kernel: &impl Kernel, at: u64, page_size: u64) -> bool {
    let is_huge = page_size > wide(rustix::param::page_size());
    is_huge && !kernel.is_present(at).unwrap_or(false)
}

enum Step {
    Placed(u64),
    Present,
    Again,
}

fn judge(asked: u64, page_size: u64, answer: Answer) -> Result<Step, Cause> {
    // A negated errno in the count means no progress; the errno has the cause.
    let count = u64::try_from(answer.count).unwrap_or(0);
    if count > asked || !count.is_multiple_of(page_size) {
        return Err(Cause::Nonsense {
            asked,
            count: answer.count,
        });
    }
    match answer.error {
        _ if count > 0 => Ok(Step::Placed(count)),
        None => Err(Cause::Nonsense {
            asked,
            count: answer.count,
        }),
        Some(Errno::EXIST) => Ok(Step::Present),
        Some(Errno::AGAIN | Errno::INTR) => Ok(Step::Again),
        Some(Errno::NOENT) => Err(Cause::Unregistered),
        Some(errno) => Err(Cause::refused(errno)),
    }
}

/// A range could not be filled, or only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlaceError {
    /// Name of the block, escaped.
    pub block: String,
    /// Offset in the memory of the range.
    pub offset: u64,
    /// Bytes of the range.
    pub len: u64,
    /// What was placed before the failure, from the start of the range on: the rest can be retried.
    pub done: Filled,
    /// The cause.
    pub cause: Cause,
}

/// Why a range could not be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The range is not one or more whole pages inside the memory.
    Range {
        /// Bytes in a page.
        page_size: u64,
        /// Bytes of the memory.
        size: u64,
    },
    /// The kernel kept answering EAGAIN. Events have to be read from the userfaultfd before the
    /// rest is tried again; poll with a timeout meanwhile, for no new event may come.
    Pending {
        /// Answers without progress, in a row.
        tries: u32,
    },
    /// The range is no longer registered (ENOENT): unregistered or unmapped.
    Unregistered,
    /// The kernel answered with an impossible count.
    Nonsense {
        /// Bytes requested.
        asked: u64,
        /// The count in the answer.
        count: i64,
    },
    /// The pool of huge pages is empty: a discarded page went back to it, and was taken.
    PoolEmpty {
        /// Bytes in a page.
        page_size: u64,
    },
    /// The kernel refused for another reason.
    Refused {
        /// An errno value.
        errno: i32,
    },
}

impl Cause {
    fn refused(errno: Errno) -> Self {
        Self::Refused {
            errno: errno.raw_os_error(),
        }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            block,
            offset,
            len,
            done,
            cause,
        } = self;
        write!(
            f,
            "placing {len} bytes at offset {offset:#x} of RAM block \"{block}\" with userfaultfd: \
             {cause}"
        )?;
        match done.bytes() {
            0 => Ok(()),
            bytes => write!(f, " (the first {bytes} bytes are present)"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { page_size, size } => write!(
                f,
                "not one or more whole pages of {page_size} bytes inside the memory, which has \
                 {size:#x} bytes"
            ),
            Self::Pending { tries } => write!(
                f,
                "the kernel answered EAGAIN {tries} times: read the pending events of the \
                 userfaultfd first"
            ),
            Self::Unregistered => {
                f.write_str("the memory is no longer registered: it was unregistered or unmapped")
            }
            Self::Nonsense { asked, count } => {
                write!(
                    f,
                    "the kernel reports {count} bytes placed of {asked} requested, which is impossible"
                )
            }
            Self::PoolEmpty { page_size } => write!(
                f,
                "the pool of {} KiB huge pages is empty: a discarded page went back to it, and \
                 something else took it; reserve more",
                page_size >> 10
            ),
            Self::Refused { errno } => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

impl std::error::Error for PlaceError {}

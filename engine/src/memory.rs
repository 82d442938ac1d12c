//! Guest RAM: memory of a RAM block in this process.
//!
//! * [`Memory`] is readable and writable: the RAM of a destination, or of a source before the
//!   switch. A guest, a device or the kernel may write it at any moment, so it never lends a slice:
//!   bytes are copied in and out with relaxed atomic operations on aligned 8-byte words. A copy
//!   that races with a writer may be torn; it is never undefined behaviour. The memory is mapped
//!   here ([`Memory::new`]) or belongs to the embedder ([`Memory::from_raw`]).
//! * [`SealedMemory`] is immutable, so it lends its bytes: a source sends pages from it without
//!   copying them first.
//!
//! Offsets and lengths are in bytes from the start of the block. Checks do not wrap; an invalid
//! range is an [`Error`], never a panic. An access blocks while the page is missing and the memory
//! is registered with a userfaultfd, so the thread that serves the faults must not access it.
//! Touching a huge page that the pool cannot provide ends the process with SIGBUS.

use std::any::Any;
use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{fmt, io, slice};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::blocks::BlockId;
use crate::source::PageSource;

use crate::protocol::wide;

mod backing;
mod error;
mod sealed;
#[cfg(test)]
mod tests;

pub use backing::Backing;
pub use error::Error;
pub use sealed::SealedMemory;

/// Bytes that one atomic operation moves.
const WORD: usize = size_of::<AtomicU64>();

/// Readable and writable memory of a RAM block. Bytes are copied, never lent.
pub struct Memory {
    /// First byte of the mapping: page-aligned, and `len` bytes are mapped.
    start: NonNull<u8>,
    /// A multiple of the page size, not zero.
    len: usize,
    backing: Backing,
    /// The mapped file; `None` for anonymous memory and memory of the embedder.
    file: Option<File>,
    owner: Owner,
}

/// What unmaps the memory when dropped.
enum Owner {
    Mapping(MmapRaw),
    Embedder(#[allow(dead_code)] Box<dyn Any + Send + Sync>),
}

// SAFETY: `start` is the only field that is not `Send`. It points to a mapping, which belongs to
// the process and not to a thread; the owner that unmaps it is `Send`.
unsafe impl Send for Memory {}

// SAFETY: through a shared reference the bytes are accessed with atomic operations only, and
// madvise(2) is thread-safe; the other fields are `Sync`.
unsafe impl Sync for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("range", &self.range())
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Maps `len` bytes that read as zero; no page is allocated before it is touched.
    ///
    /// # Errors
    /// `len` is zero, not a multiple of the backing's page size, or too large for this machine; or
    /// the kernel has no room. Huge pages are reserved at once, so a pool that is too small fails
    /// here and not at a later touch.
    pub fn new(backing: Backing, len: u64) -> Result<Self, Error> {
        let bytes = checked_len(backing, len)?;
        let file = match backing {
            Backing::Anonymous => None,
            Backing::Shared => Some(memfd(MemfdFlags::empty(), len)?),
            Backing::Huge2M => Some(memfd(MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, len)?),
            Backing::Huge1G => Some(memfd(MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB, len)?),
        };
        let mut options = MmapOptions::new();
        options.len(bytes);
        let map = match &file {
            None => options.map_anon().map(MmapRaw::from),
            Some(file) => options.map_raw(file),
        };
        let map = map.map_err(|source| match backing {
            Backing::Huge2M | Backing::Huge1G
                if source.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) =>
            {
                let page_size = backing.page_size();
                let needed = len / page_size;
                let pool = backing::pool_for(page_size, needed);
                Error::NoHugePages {
                    needed,
                    page_size,
                    pool,
                }
            }
            _ => system("mapping the memory of a RAM block")(source),
        })?;
        let start = NonNull::new(map.as_mut_ptr());
        let start = start.ok_or(Error::Length {
            len,
            page_size: backing.page_size(),
        })?;
        Ok(Self {
            start,
            len: bytes,
            backing,
            file,
            owner: Owner::Mapping(map),
        })
    }

    /// Wraps `len` bytes that the embedder has mapped at `start`, such as the RAM of a virtual
    /// machine. `backing` says what the mapping consists of. `owner` is dropped after the last
    /// access and can keep the mapping alive; pass `()` if it outlives everything.
    ///
    /// A destination wants memory that reads as zero and whose pages are still missing: freshly
    /// mapped, or discarded.
    ///
    /// # Safety
    /// Until `owner` is dropped:
    ///
    /// * All `len` bytes from `start` on stay mapped, readable and writable: they are not unmapped,
    ///   moved or protected, and a mapped file does not become shorter.
    /// * This process holds no Rust reference to these bytes, except to atomics or inside
    ///   [`UnsafeCell`](std::cell::UnsafeCell), and does not access them non-atomically while
    ///   another thread may call methods of this `Memory` or place pages in it. A guest, a device,
    ///   the kernel and other processes may access them at any time.
    ///
    /// # Errors
    /// `len` is zero or not a multiple of the backing's page size, or `start` is not aligned to
    /// that page size.
    pub unsafe fn from_raw(
        start: *mut u8,
        len: u64,
        backing: Backing,
        owner: impl Any + Send + Sync,
    ) -> Result<Self, Error> {
        let bytes = checked_len(backing, len)?;
        let page_size = backing.page_size();
        let aligned = wide(start.addr()).is_multiple_of(page_size);
        let Some(start) = NonNull::new(start).filter(|_| aligned) else {
            return Err(Error::Start {
                address: wide(start.addr()),
                page_size,
            });
        };
        Ok(Self {
            start,
            len: bytes,
            backing,
            file: None,
            owner: Owner::Embedder(Box::new(owner)),
        })
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> u64 {
        wide(self.len)
    }

    /// The first byte, for mapping it into a guest; valid while this `Memory` exists.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Host virtual addresses of the first byte and of the one after the last.
    pub fn range(&self) -> Range<u64> {
        let start = wide(self.start.addr().get());
        start..start + self.len()
    }

    /// Where the pages come from.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// See [`Backing::page_size`].
    pub fn page_size(&self) -> u64 {
        self.backing.page_size()
    }

    /// The memfd, for mapping it in another process; `None` for anonymous memory and memory of the
    /// embedder. It is sealed against changes of its size.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Copies bytes out. Blocks while a page is missing.
    ///
    /// # Errors
    /// The range is not inside the memory.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let at = self.span(offset, wide(buf.len()))?.start;
        let (head, rest) = buf.split_at_mut(head_of(at, buf.len()));
        if !head.is_empty() {
            let word = self.words()[at / WORD].load(Relaxed).to_ne_bytes();
            head.copy_from_slice(&word[at % WORD..][..head.len()]);
        }
        let (whole, tail) = rest.as_chunks_mut::<WORD>();
        let words = &self.words()[(at + head.len()).div_ceil(WORD)..];
        let (middle, last) = words.split_at(whole.len());
        for (to, from) in whole.iter_mut().zip(middle) {
            *to = from.load(Relaxed).to_ne_bytes();
        }
        if !tail.is_empty() {
            tail.copy_from_slice(&last[0].load(Relaxed).to_ne_bytes()[..tail.len()]);
        }
        Ok(())
    }

    /// Copies bytes in. Blocks while a page is missing and the memory is registered with a
    /// userfaultfd. Partial words at both ends are read before they are written, so they fault as
    /// reads.
    ///
    /// # Errors
    /// The range is not inside the memory.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let at = self.span(offset, wide(bytes.len()))?.start;
        let (head, rest) = bytes.split_at(head_of(at, bytes.len()));
        if !head.is_empty() {
            splice(&self.words()[at / WORD], at % WORD, head);
        }
        let (whole, tail) = rest.as_chunks::<WORD>();
        let words = &self.words()[(at + head.len()).div_ceil(WORD)..];
        let (middle, last) = words.split_at(whole.len());
        for (from, to) in whole.iter().zip(middle) {
            to.store(u64::from_ne_bytes(*from), Relaxed);
        }
        if !tail.is_empty() {
            splice(&last[0], 0, tail);
        }
        Ok(())
    }

    /// Reads one byte; the compiler does not elide the load, so a missing page faults.
    ///
    /// # Errors
    /// The offset is not inside the memory.
    pub fn touch(&self, offset: u64) -> Result<u8, Error> {
        let at = self.span(offset, 1)?.start;
        let word = black_box(self.words()[at / WORD].load(Relaxed));
        Ok(word.to_ne_bytes()[at % WORD])
    }

    /// Gives pages back to the kernel: they read as zero, or are missing if the memory is
    /// registered. A length of zero does nothing.
    ///
    /// QEMU: `physmem.c`, `ram_block_discard_range`.
    ///
    /// # Errors
    /// The range is not inside the memory, or its ends are not multiples of the page size; or the
    /// kernel refuses.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), Error> {
        let span = self.span(offset, len)?;
        let page_size = self.page_size();
        if !offset.is_multiple_of(page_size) || !len.is_multiple_of(page_size) {
            return Err(Error::Unaligned {
                offset,
                len,
                page_size,
            });
        }
        if len == 0 {
            return Ok(());
        }
        let advice = match self.backing {
            Backing::Anonymous => Advice::LinuxDontNeed,
            // DONTNEED would drop the view of this process and leave the pages in the file.
            Backing::Shared | Backing::Huge2M | Backing::Huge1G => Advice::LinuxRemove,
        };
        self.advise(span, advice)
            .map_err(system("discarding pages"))
    }

    /// Disables transparent huge pages for this memory, which would make neighbours of a placed
    /// page present. Call it before the first write. Does nothing for memory of huge pages, and
    /// where the kernel has no transparent ones.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn nohugepage(&self) -> Result<(), Error> {
        if matches!(self.backing, Backing::Huge2M | Backing::Huge1G) {
            return Ok(());
        }
        match self.advise(0..self.len, Advice::LinuxNoHugepage) {
            // The answer of a kernel built without transparent huge pages.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            done => done.map_err(system("disabling transparent huge pages")),
        }
    }

    /// Makes the memory immutable, so that its bytes can be lent.
    ///
    /// # Errors
    /// The memory is shared or belongs to the embedder, so something else may write it; or the
    /// kernel refuses.
    pub fn seal(self) -> Result<SealedMemory, Error> {
        match self.owner {
            Owner::Mapping(map) if self.file.is_none() => SealedMemory::protect(map),
            _ => Err(Error::NotPrivate),
        }
    }

    /// Applies an advice that keeps the range mapped, readable and writable: at most, pages become
    /// zero.
    fn advise(&self, span: Range<usize>, advice: Advice) -> io::Result<()> {
        let start = self.start.as_ptr().wrapping_add(span.start);
        // SAFETY: the range is inside the mapping (`span` was checked, or is all of it). Callers use
        // advice that changes bytes to zero at most. No reference to the bytes exists but to
        // atomics, which allow any change.
        let done = unsafe { madvise(start.cast(), span.len(), advice) };
        Ok(done?)
    }

    /// Whether the embedder mapped the bytes, and may keep them mapped after this is dropped.
    #[cfg(feature = "uffd")]
    pub(crate) fn is_of_embedder(&self) -> bool {
        matches!(self.owner, Owner::Embedder(_))
    }

    /// All addresses.
    #[cfg(feature = "uffd")]
    pub(crate) fn all(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.len
    }

    /// Checks that a range is inside the memory; returns it as indices.
    pub(crate) fn span(&self, offset: u64, len: u64) -> Result<Range<usize>, Error> {
        span(offset, len, self.len())
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, a whole number of words long, initialised by the
        // kernel, readable and writable, and outlives `self`: `new` and the contract of `from_raw`
        // make sure of it, and the seals of a memfd keep it from shrinking. Atomics may change under
        // a shared reference; no other kind of reference to the bytes exists.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.len / WORD) }
    }
}

/// Blocks that may change at any moment, in order of their numbers.
impl PageSource for Vec<Memory> {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let memory = self.get(block).ok_or(io::ErrorKind::NotFound)?;
        memory.read(offset, out).map_err(io::Error::other)
    }
}

/// A length that can be mapped in whole pages.
fn checked_len(backing: Backing, len: u64) -> Result<usize, Error> {
    let page_size = backing.page_size();
    let bytes = usize::try_from(len).ok();
    bytes
        .filter(|_| len != 0 && len.is_multiple_of(page_size))
        .ok_or(Error::Length { len, page_size })
}

/// A memfd whose size cannot change: a mapping of it never ends in SIGBUS for want of a file.
fn memfd(flags: MemfdFlags, len: u64) -> Result<File, Error> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = rustix::fs::memfd_create("retpath", flags).and_then(|fd| {
        rustix::fs::ftruncate(&fd, len)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(File::from(fd))
    });
    made.map_err(|errno| system("creating the memory of a RAM block")(errno.into()))
}

fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { doing, source }
}

fn span(offset: u64, len: u64, size: u64) -> Result<Range<usize>, Error> {
    let end = offset.checked_add(len).filter(|&end| end <= size);
    let bounds =
        end.and_then(|end| Some((usize::try_from(offset).ok()?, usize::try_from(end).ok()?)));
    let (start, end) = bounds.ok_or(Error::OutOfRange { offset, len, size })?;
    Ok(start..end)
}

/// Bytes of a copy of `len` bytes at `at` that come before the first whole word.
fn head_of(at: usize, len: usize) -> usize {
    (at.next_multiple_of(WORD) - at).min(len)
}

/// Replaces part of a word without touching the rest.
fn splice(word: &AtomicU64, at: usize, bytes: &[u8]) {
    let spliced = |old: u64| {
        let mut new = old.to_ne_bytes();
        new[at..][..bytes.len()].copy_from_slice(bytes);
        Some(u64::from_ne_bytes(new))
    };
    // Never refused: the closure always has an answer.
    let _ = word.fetch_update(Relaxed, Relaxed, spliced);
}

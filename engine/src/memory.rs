//! The RAM of a block, as the host maps it.
//!
//! [`Memory`] is memory that is being filled or written: a destination's RAM, or a source's before
//! it is served. It never hands out a slice, because a guest, a device or the kernel may write it
//! at any moment; bytes are copied in and out with relaxed atomic operations on aligned 8-byte
//! words. A writer that races a reader makes a torn copy, never undefined behaviour.
//!
//! [`Frozen`] is read-only memory, so it lends out its bytes: a source sends pages from it without
//! copying them first.
//!
//! Offsets and lengths are in bytes from the start of the block and are checked without wrapping;
//! a bad one is an [`Error`], never a panic. An access blocks while the memory is registered with
//! a userfaultfd and the page is missing, so the thread that serves the faults must not make one.
//! Touching a poisoned page, or a page that a hugetlbfs pool cannot provide, ends the process with
//! SIGBUS, as it would any program.
//!
//! This file and `uffd.rs` hold the crate's only unsafe code.

use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::MprotectFlags;

use crate::protocol::wide;

mod backing;
mod error;

pub use backing::Backing;
pub use error::Error;

/// Bytes that one atomic operation moves.
const WORD: usize = size_of::<AtomicU64>();

/// Memory that others may write while we look: bytes are copied, never lent.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
    backing: Backing,
    /// What the mapping shows; none for anonymous memory.
    file: Option<File>,
}

impl Memory {
    /// Maps `len` bytes that read as zero; no page is allocated until it is touched.
    ///
    /// # Errors
    /// `len` is zero, no multiple of the backing's page size or too large for this machine; or the
    /// kernel has no room. Huge pages are taken from the pool at once, so a pool that is too small
    /// fails here and not at some later touch.
    pub fn new(backing: Backing, len: u64) -> Result<Self, Error> {
        let page_size = backing.page_size();
        let bytes = usize::try_from(len).ok();
        let Some(bytes) = bytes.filter(|_| len != 0 && len.is_multiple_of(page_size)) else {
            return Err(Error::Length { len, page_size });
        };
        let file = match backing {
            Backing::Anonymous => None,
            Backing::Shared => Some(memfd(MemfdFlags::CLOEXEC, len)?),
            Backing::Huge2M => Some(memfd(hugetlb(MemfdFlags::HUGE_2MB), len)?),
            Backing::Huge1G => Some(memfd(hugetlb(MemfdFlags::HUGE_1GB), len)?),
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
                let needed = len / page_size;
                let pool = backing::pool_for(page_size, needed);
                Error::NoHugePages {
                    needed,
                    page_size,
                    pool,
                }
            }
            _ => Error::System {
                doing: "mapping the memory of a RAM block",
                source,
            },
        })?;
        Ok(Self { map, backing, file })
    }

    /// Bytes mapped.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> u64 {
        wide(self.map.len())
    }

    /// Host virtual addresses of the first byte and of the one after the last.
    pub fn range(&self) -> Range<u64> {
        let start = wide(self.map.as_ptr().addr());
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

    /// The memfd, to be mapped by another process; none for anonymous memory.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Copies bytes out. Blocks while a page is missing.
    ///
    /// # Errors
    /// The range does not lie inside the memory.
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

    /// Copies bytes in. Meant for the time before the memory is registered with a userfaultfd;
    /// after that it blocks while a page is missing, as any write does. Parts of words at its ends
    /// are read before they are written, so they fault as reads.
    ///
    /// # Errors
    /// The range does not lie inside the memory.
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

    /// Reads one byte, surely: a missing page faults even if the answer is not used.
    ///
    /// # Errors
    /// The offset does not lie inside the memory.
    pub fn touch(&self, offset: u64) -> Result<u8, Error> {
        let at = self.span(offset, 1)?.start;
        let word = black_box(self.words()[at / WORD].load(Relaxed));
        Ok(word.to_ne_bytes()[at % WORD])
    }

    /// Gives pages back to the kernel: they read as zero, or are missing again once the memory is
    /// registered. A length of zero does nothing.
    ///
    /// QEMU: `physmem.c`, `ram_block_discard_range`.
    ///
    /// # Errors
    /// The range does not lie inside the memory, or its ends are no multiples of the page size; or
    /// the kernel refuses.
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
        let Some(file) = &self.file else {
            // SAFETY: the pages lie inside the mapping and turn into zeros. Nothing borrows their
            // bytes: they are only ever reached through atomics, which allow any change. memmap2
            // has no safe form of this advice.
            let done = unsafe {
                self.map
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, span.start, span.len())
            };
            return done.map_err(|source| Error::System {
                doing: "discarding pages",
                source,
            });
        };
        // Dropping our mapping's view would leave the pages in the file; the hole takes both.
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, hole, offset, len).map_err(|errno| Error::System {
            doing: "discarding pages",
            source: errno.into(),
        })
    }

    /// Keeps the kernel from backing this memory with transparent huge pages, which would make
    /// neighbours of a page present that nobody has placed. To be called before the first write.
    /// Memory of huge pages, and a kernel without transparent ones, need nothing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn nohugepage(&self) -> Result<(), Error> {
        if matches!(self.backing, Backing::Huge2M | Backing::Huge1G) {
            return Ok(());
        }
        match self.map.advise(Advice::NoHugePage) {
            // What a kernel built without transparent huge pages answers.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            done => done.map_err(|source| Error::System {
                doing: "turning transparent huge pages off",
                source,
            }),
        }
    }

    /// Makes the memory read-only for good, so that its bytes can be lent.
    ///
    /// # Errors
    /// The memory is shared, so others may hold a writable mapping; or the kernel refuses.
    pub fn freeze(self) -> Result<Frozen, Error> {
        if self.file.is_some() {
            return Err(Error::NotPrivate);
        }
        // SAFETY: the range is exactly one mapping of ours, and whoever could write it gave up
        // `self`. memmap2 offers this for `MmapMut`, whose slices a `Memory` must not make.
        let done = unsafe {
            let start = self.map.as_mut_ptr().cast();
            rustix::mm::mprotect(start, self.map.len(), MprotectFlags::READ)
        };
        done.map_err(|errno| Error::System {
            doing: "making memory read-only",
            source: errno.into(),
        })?;
        Ok(Frozen { map: self.map })
    }

    /// All addresses.
    #[cfg(feature = "uffd")]
    pub(crate) fn all(&self) -> Range<usize> {
        let start = self.map.as_ptr().addr();
        start..start + self.map.len()
    }

    /// Checks that a range lies inside; gives it as indices.
    pub(crate) fn span(&self, offset: u64, len: u64) -> Result<Range<usize>, Error> {
        span(offset, len, self.len())
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, a whole number of pages long, readable, writable and
        // lives as long as `self`; all bytes are initialised by the kernel, and no other Rust
        // reference to them exists. Atomics may change under a shared reference.
        unsafe { slice::from_raw_parts(self.map.as_ptr().cast(), self.map.len() / WORD) }
    }
}

/// Read-only memory, whose bytes are lent instead of copied.
///
/// Made from private memory with [`Memory::freeze`], or from a sealed memfd with
/// [`Frozen::map_sealed`]. Not from an ordinary file: other processes can write and truncate it.
#[derive(Debug)]
pub struct Frozen {
    map: MmapRaw,
}

/// The seals of a memfd that can be neither written nor shortened.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK);

impl Frozen {
    /// Maps the first `len` bytes of a memfd that is sealed against writing and shrinking.
    ///
    /// # Errors
    /// The file is not sealed, or shorter than `len`; `len` is zero; or the kernel refuses.
    pub fn map_sealed(file: &File, len: u64) -> Result<Self, Error> {
        let failed = |source| Error::System {
            doing: "mapping a memfd",
            source,
        };
        // A file that cannot have seals has none.
        let seals = rustix::fs::fcntl_get_seals(file);
        if !seals.is_ok_and(|seals| seals.contains(SEALS)) {
            return Err(Error::NotSealed);
        }
        let size = file.metadata().map_err(failed)?.len();
        if len > size {
            return Err(Error::Truncated { len, size });
        }
        let Some(bytes) = usize::try_from(len).ok().filter(|&bytes| bytes != 0) else {
            return Err(Error::Length { len, page_size: 1 });
        };
        let mut options = MmapOptions::new();
        options.len(bytes);
        // SAFETY: the seals, which cannot be taken away again, keep everybody from writing the
        // file, through a mapping or not, and from making it shorter than it was found to be.
        let map = unsafe { options.map_copy_read_only(file) }.map_err(failed)?;
        Ok(Self { map: map.into() })
    }

    /// Bytes mapped.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> u64 {
        wide(self.map.len())
    }

    /// Lends bytes; none if the range does not lie inside.
    pub fn page(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let span = span(offset, wide(len), self.len()).ok()?;
        self.bytes().get(span)
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, initialised and lives as long as `self`; nobody can write
        // it (`freeze` took it from its only owner; `map_sealed` asks for seals).
        unsafe { slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

fn hugetlb(size: MemfdFlags) -> MemfdFlags {
    MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | size
}

fn memfd(flags: MemfdFlags, len: u64) -> Result<File, Error> {
    let made = rustix::fs::memfd_create("retpath", flags)
        .and_then(|fd| rustix::fs::ftruncate(&fd, len).map(|()| File::from(fd)));
    made.map_err(|errno| Error::System {
        doing: "creating the memory of a RAM block",
        source: errno.into(),
    })
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

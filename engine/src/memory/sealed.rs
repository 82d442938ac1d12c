//! Immutable memory.

use std::fs::File;
use std::slice;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::SealFlags;
use rustix::mm::{MprotectFlags, mprotect};

use super::{Error, span, system};
use crate::protocol::wide;

/// Immutable memory, whose bytes are lent instead of copied.
///
/// Made from private memory with [`Memory::seal`](super::Memory::seal), or from a sealed memfd with
/// [`SealedMemory::from_memfd`]. Never from an ordinary file, which other processes can write and
/// truncate.
#[derive(Debug)]
pub struct SealedMemory {
    map: MmapRaw,
}

/// The seals of a memfd that can be neither written nor shortened.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK);

impl SealedMemory {
    /// Maps the first `len` bytes of a memfd that is sealed against writing and shrinking.
    ///
    /// # Errors
    /// The file is not sealed, or shorter than `len`; `len` is zero; or the kernel refuses.
    pub fn from_memfd(file: &File, len: u64) -> Result<Self, Error> {
        // Fails for a file that cannot have seals.
        let seals = rustix::fs::fcntl_get_seals(file);
        if !seals.is_ok_and(|seals| seals.contains(SEALS)) {
            return Err(Error::NotSealed);
        }
        let size = file.metadata().map_err(system("mapping a memfd"))?.len();
        if len > size {
            return Err(Error::Truncated { len, size });
        }
        let Some(bytes) = usize::try_from(len).ok().filter(|&bytes| bytes != 0) else {
            return Err(Error::Length { len, page_size: 1 });
        };
        let mut options = MmapOptions::new();
        options.len(bytes);
        // SAFETY: seals cannot be removed. They keep everybody from writing the file, through any
        // mapping or descriptor, and from making it shorter than the size found above.
        let map = unsafe { options.map_copy_read_only(file) }.map_err(system("mapping a memfd"))?;
        Ok(Self { map: map.into() })
    }

    /// Makes a private mapping read-only; the caller gives up the only access to it.
    pub(super) fn protect(map: MmapRaw) -> Result<Self, Error> {
        // SAFETY: the range is exactly this mapping, and no reference to its bytes exists.
        let done = unsafe { mprotect(map.as_mut_ptr().cast(), map.len(), MprotectFlags::READ) };
        done.map_err(|errno| system("making memory read-only")(errno.into()))?;
        Ok(Self { map })
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> u64 {
        wide(self.map.len())
    }

    /// Lends a range; `None` if it is not inside the memory.
    pub fn page(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let span = span(offset, wide(len), self.len()).ok()?;
        self.bytes().get(span)
    }

    /// Lends all bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, initialised by the kernel and outlives `self`. Nothing
        // writes it: `protect` took it from its only owner, `from_memfd` requires seals, and a page
        // that userfaultfd still has to fill blocks the reader until it is filled.
        unsafe { slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }
}

impl AsRef<[u8]> for SealedMemory {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

//! Immutable memory.

use std::slice;

use memmap2::MmapRaw;
use rustix::mm::{MprotectFlags, mprotect};

use super::{Error, span, system};
use crate::protocol::wide;

/// Immutable memory, whose bytes are lent instead of copied.
///
/// Made from private memory with [`Memory::seal`](super::Memory::seal). Never from a file, which
/// other processes can write and truncate.
#[derive(Debug)]
pub struct SealedMemory {
    map: MmapRaw,
}

impl SealedMemory {
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
        // writes it: `protect` took it from its only owner, and a page that userfaultfd still has to
        // fill blocks the reader until it is filled.
        unsafe { slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }
}

impl AsRef<[u8]> for SealedMemory {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

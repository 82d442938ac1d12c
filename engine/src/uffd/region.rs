//! A registered RAM block: pages are placed by offset.

#![deny(unsafe_code)]

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::{io, ptr, thread, time::Duration};

use linux_raw_sys::general::_UFFDIO_ZEROPAGE;

use super::place::{Cause, Fill, Filled, PlaceError, place};
use super::{Error, Registered, Shared, os_error};
use crate::memory::{Backing, Memory, SealedMemory};

/// Most answers without progress before [`Cause::Pending`]; about five milliseconds.
const TRIES: u32 = 64;

/// Memory that is registered with a userfaultfd. Offsets are bytes from its start; ranges are whole
/// pages of [`Memory::page_size`], the unit in which the kernel traps and places: a block with
/// larger host pages is placed in ranges of several.
///
/// Dropping it does not unregister the memory, since waiting threads would read zeros: as long as
/// something else keeps the memory mapped, its missing pages stay missing.
#[derive(Debug)]
pub struct Region {
    shared: Arc<Shared>,
    memory: Arc<Memory>,
    block: String,
    /// One page of zeros, copied where `UFFDIO_ZEROPAGE` is not offered.
    zeros: Option<SealedMemory>,
}

impl Region {
    pub(super) fn new(
        shared: Arc<Shared>,
        block: String,
        memory: Arc<Memory>,
    ) -> Result<Self, Error> {
        let (start, len) = span_of(&memory);
        let failed = |block: &str, source| Error::Register {
            doing: "registering",
            block: block.to_owned(),
            source,
        };
        let ioctls = shared.uffd.register(start, len);
        let ioctls = ioctls.map_err(|error| failed(&block, os_error(error)))?;
        let registered = Registered {
            memory: Arc::downgrade(&memory),
            stays_mapped: memory.is_of_embedder(),
            block: block.clone(),
        };
        shared.registered().push(registered);
        let mut region = Self {
            shared,
            memory,
            block,
            zeros: None,
        };
        // Bit n is set if ioctl n works on this memory.
        if ioctls.bits() >> _UFFDIO_ZEROPAGE & 1 == 0 {
            // Private memory that is only read costs no pages: the kernel maps its one zero page.
            let zeros = Memory::new(Backing::Anonymous, region.memory.page_size());
            match zeros.and_then(Memory::seal) {
                Ok(zeros) => region.zeros = Some(zeros),
                Err(error) => {
                    region.unregister()?;
                    return Err(failed(&region.block, io::Error::other(error)));
                }
            }
        }
        Ok(region)
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Fills missing pages from `bytes`, with one system call if none is present yet, and wakes the
    /// threads that wait for them. A page that is present keeps its bytes.
    ///
    /// # Errors
    /// See [`Cause`]; what was done before is in the error.
    pub fn copy(&self, offset: u64, bytes: &[u8]) -> Result<Filled, PlaceError> {
        self.fill(offset, Fill::Bytes(bytes))
    }

    /// Fills missing pages with zeros, and wakes the threads that wait for them.
    ///
    /// # Errors
    /// See [`Cause`]; what was done before is in the error.
    pub fn zero(&self, offset: u64, len: u64) -> Result<Filled, PlaceError> {
        match &self.zeros {
            None => self.fill(offset, Fill::Zeros(len)),
            Some(page) => self.fill(offset, Fill::CopiedZeros(len, page.bytes())),
        }
    }

    /// Unregisters the memory: pages that are still missing read as zero from now on, and placing
    /// fails with [`Cause::Unregistered`].
    ///
    /// # Errors
    /// The kernel refuses; the memory then stays registered.
    pub fn unregister(&self) -> Result<(), Error> {
        let (start, len) = span_of(&self.memory);
        let done = self.shared.uffd.unregister(start, len);
        done.map_err(|error| Error::Register {
            doing: "unregistering",
            block: self.block.clone(),
            source: os_error(error),
        })?;
        let is_other = |one: &Registered| one.memory.as_ptr() != Arc::as_ptr(&self.memory);
        self.shared.registered().retain(is_other);
        Ok(())
    }

    /// Unregisters all memory, and takes the regions that it unregistered.
    ///
    /// # Errors
    /// The first refusal of the kernel. It does not keep the other memory registered.
    pub(crate) fn unregister_all(regions: &mut [Option<Self>]) -> Result<(), Error> {
        let mut done = Ok(());
        for slot in regions {
            match slot.as_ref().map_or(Ok(()), Self::unregister) {
                Ok(()) => *slot = None,
                Err(error) => done = done.and(Err(error)),
            }
        }
        done
    }

    fn fill(&self, offset: u64, fill: Fill<'_>) -> Result<Filled, PlaceError> {
        let len = fill.len();
        let failed = |(done, cause)| PlaceError {
            block: self.block.clone(),
            offset,
            len,
            done,
            cause,
        };
        let at = self
            .address(offset, len)
            .map_err(|cause| failed((Filled::default(), cause)))?;
        if self.zeros.is_some() {
            fault_in(fill.source());
        }
        place(
            &*self.shared,
            at,
            self.memory.page_size(),
            fill,
            &mut wait_for_progress,
        )
        .map_err(failed)
    }

    fn address(&self, offset: u64, len: u64) -> Result<u64, Cause> {
        let (page_size, size) = (self.memory.page_size(), self.memory.len());
        let is_whole =
            len != 0 && offset.is_multiple_of(page_size) && len.is_multiple_of(page_size);
        match self.memory.span(offset, len) {
            Ok(_) if is_whole => Ok(self.memory.range().start + offset),
            _ => Err(Cause::Range { page_size, size }),
        }
    }
}

/// Faults in bytes that are to be copied into huge pages. If they are not in memory, the kernel
/// copies through another huge page, and answers ENOMEM when the pool has none. Best effort: the
/// pages may be swapped out again, and then that answer stands.
fn fault_in(bytes: &[u8]) {
    for page in bytes.chunks(4096) {
        black_box(page[0]);
    }
    black_box(bytes.last());
}

/// Waits a little for EAGAIN to pass: another thread may be reading the events.
fn wait_for_progress(tries: u32) -> bool {
    match tries {
        0..16 => thread::yield_now(),
        16..TRIES => thread::sleep(Duration::from_micros(100)),
        _ => return false,
    }
    true
}

/// The address and length of memory, for the crate `userfaultfd`.
fn span_of(memory: &Memory) -> (*mut c_void, usize) {
    let all = memory.all();
    (ptr::without_provenance_mut(all.start), all.len())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::uffd::{Features, Route, Uffd};

    fn memory() -> Arc<Memory> {
        Arc::new(Memory::new(Backing::Anonymous, 1 << 20).expect("there is room"))
    }

    #[test]
    fn unregisters_all_memory_but_what_the_kernel_refuses() {
        let uffd = Uffd::open().expect("a route works");
        let memories = [memory(), memory()];
        let [first, last] = memories.clone().map(|memory| {
            let region = uffd.register(b"pc.ram", memory);
            Some(region.expect("its kind is supported"))
        });
        // Every ioctl of this file fails.
        let null = File::open("/dev/null").expect("it exists").into();
        let none = Features::default();
        let null = Uffd::adopt(null, Route::Device, none, none);
        let refused = Region {
            shared: Arc::clone(&null.shared),
            memory: memory(),
            block: "refused".into(),
            zeros: None,
        };
        let mut regions = [first, Some(refused), None, last];
        let error = Region::unregister_all(&mut regions).expect_err("one is refused");
        assert!(error.to_string().contains("\"refused\""), "{error}");
        let left = regions.each_ref().map(Option::is_some);
        assert_eq!(left, [false, true, false, false]);
        assert!(uffd.shared.registered_blocks().is_empty());
        let other = Uffd::open().expect("a route works");
        for memory in memories {
            let region = other.register(b"pc.ram", memory);
            region.expect("it is not registered any more");
        }
    }

    #[test]
    fn forgets_a_dropped_region_once_its_memory_is_unmapped() {
        let uffd = Uffd::open().expect("a route works");
        let memory = memory();
        let region = uffd.register(b"pc.ram", Arc::clone(&memory));
        drop(region.expect("its kind is supported"));
        assert_eq!(uffd.shared.registered_blocks(), ["pc.ram"]);
        drop(memory);
        assert!(uffd.shared.registered_blocks().is_empty());
        // It would abort the process if a thread could wait.
        drop(uffd.handler());
    }
}

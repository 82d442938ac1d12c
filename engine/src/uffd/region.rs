//! A registered RAM block: pages are placed by offset.

#![deny(unsafe_code)]

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::{ptr, thread, time::Duration};

use super::abi;
use super::place::{Cause, Fill, Filled, Kernel, PlaceError, place};
use super::{Error, Registered, Shared, os_error};
use crate::memory::{Backing, Memory, SealedMemory};

/// Most answers without progress before [`Cause::Pending`]; about five milliseconds.
const TRIES: u32 = 64;

/// Memory that is registered with a userfaultfd. Offsets are bytes from its start; ranges are whole
/// pages of [`Memory::page_size`], the unit in which the kernel traps and places: a block with
/// larger host pages is placed in ranges of several.
#[derive(Debug)]
pub struct Region {
    shared: Arc<Shared>,
    memory: Arc<Memory>,
    block: String,
    /// Bit n is set if ioctl n works on this memory.
    ioctls: u64,
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
        let ioctls = match shared.uffd.register(start, len) {
            Ok(ioctls) => ioctls.bits(),
            Err(error) => {
                return Err(Error::Register {
                    block,
                    source: os_error(error),
                });
            }
        };
        let registered = Registered {
            start: memory.range().start,
            block: block.clone(),
        };
        shared.registered().push(registered);
        let mut region = Self {
            shared,
            memory,
            block,
            ioctls,
            zeros: None,
        };
        if !region.offers(abi::_UFFDIO_ZEROPAGE) {
            // Private memory that is only read costs no pages: the kernel maps its one zero page.
            let zeros = Memory::new(Backing::Anonymous, region.memory.page_size());
            match zeros.and_then(Memory::seal) {
                Ok(zeros) => region.zeros = Some(zeros),
                Err(error) => {
                    region.unregister()?;
                    return Err(Error::ZeroPage(error));
                }
            }
        }
        Ok(region)
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Whether [`poison`](Self::poison) works on this memory.
    pub fn can_poison(&self) -> bool {
        self.offers(abi::_UFFDIO_POISON)
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

    /// Poisons missing pages, so that touching one raises SIGBUS (EFAULT in a system call), and
    /// wakes the threads that wait for them: for lost pages, which must not read as zeros.
    ///
    /// # Errors
    /// See [`Cause`]; what was done before is in the error.
    pub fn poison(&self, offset: u64, len: u64) -> Result<Filled, PlaceError> {
        if !self.can_poison() {
            let (done, cause) = (Filled::default(), Cause::NotOffered);
            return Err(PlaceError {
                block: self.block.clone(),
                offset,
                len,
                done,
                cause,
            });
        }
        self.fill(offset, Fill::Poison(len))
    }

    /// Wakes the threads that wait for pages that were placed otherwise.
    ///
    /// # Errors
    /// See [`Cause`].
    pub fn wake(&self, offset: u64, len: u64) -> Result<(), PlaceError> {
        let woken = self.address(offset, len).and_then(|at| {
            self.shared.wake(at, len).map_err(|errno| Cause::Refused {
                errno: errno.raw_os_error(),
            })
        });
        woken.map_err(|cause| PlaceError {
            block: self.block.clone(),
            offset,
            len,
            done: Filled::default(),
            cause,
        })
    }

    /// Unregisters the memory: pages that are still missing read as zero from now on, and placing
    /// fails with [`Cause::Unregistered`].
    ///
    /// # Errors
    /// The kernel refuses; the memory then stays registered.
    pub fn unregister(&self) -> Result<(), Error> {
        let (start, len) = span_of(&self.memory);
        let done = self.shared.uffd.unregister(start, len);
        done.map_err(|error| Error::Unregister {
            block: self.block.clone(),
            source: os_error(error),
        })?;
        let start = self.memory.range().start;
        self.shared
            .registered()
            .retain(|registered| registered.start != start);
        Ok(())
    }

    fn offers(&self, number: u8) -> bool {
        self.ioctls & 1 << number != 0
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
        let page_size = self.memory.page_size();
        if len == 0 || !offset.is_multiple_of(page_size) || !len.is_multiple_of(page_size) {
            return Err(Cause::Unaligned { page_size });
        }
        match self.memory.span(offset, len) {
            Ok(_) => Ok(self.memory.range().start + offset),
            Err(_) => Err(Cause::OutOfRange {
                size: self.memory.len(),
            }),
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

//! userfaultfd: traps accesses to missing pages, and places pages.
//!
//! ```text
//! Uffd::open ─┬─ register(name, memory) → Region   copy, zero: by offset
//!             └─ handler()              → Handler  faults, by address; must be finished
//! ```
//!
//! * No call blocks on a missing page, and none panics. Placing is safe from any number of threads
//!   at once: one of them places a page, the others find it present.
//! * A [`Region`] keeps its memory mapped, and a handler that ends early applies its
//!   [`FailurePolicy`]: waiting threads never read zeros where the source has data.
//! * The caller registers a block before anything may touch its missing pages, and unregisters it
//!   once every page is present: pages that are still missing then read as zero.
//!
//! The crate `userfaultfd` 0.9 registers ranges, reads events and owns the descriptor. It is not
//! used for opening: it does not fall back to the system call when the device exists but may not be
//! opened, and does not tell which features the kernel offers. Nor for placing: its `copy` reports
//! a full EAGAIN as a partial copy of 2^64 - 11 bytes, and its `zeropage` loses the count of a
//! partial one.
//!
//! QEMU: `postcopy-ram.c`, `userfaultfd.c`.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{ffi::c_void, io, ptr};

use linux_raw_sys::general::{UFFD_API, UFFD_USER_MODE_ONLY};
use linux_raw_sys::general::{uffdio_api, uffdio_copy, uffdio_range, uffdio_zeropage};
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_COPY, UFFDIO_ZEROPAGE};
use retpath_codec::escape::Escaped;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::UserfaultfdFlags;

use crate::memory::{Backing, Memory};
use crate::protocol::wide;
use open::first_open;
use place::{Answer, Kernel};

mod error;
mod handler;
mod open;
mod place;
mod region;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use handler::{FailurePolicy, Fault, Handler, HandlerFailure};
pub use open::{Features, OpenError, Route, RouteError, Step};
pub use place::{Cause, Filled, PlaceError};
pub use region::Region;

/// An open userfaultfd.
#[derive(Debug)]
pub struct Uffd {
    shared: Arc<Shared>,
}

impl Uffd {
    /// Opens one by the first route that works, and enables [`Features::WANTED`].
    ///
    /// # Errors
    /// No route works; the error has the cause for each.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_asking(Features::WANTED)
    }

    fn open_asking(wanted: Features) -> Result<Self, OpenError> {
        let (route, (fd, offered, features)) = first_open(|route| {
            // A descriptor has one handshake, which fails if a requested feature is not offered: so
            // one descriptor asks what is offered, and another enables it.
            let offered = probe(route)?;
            let features = Features(wanted.0 & offered.0);
            let fd = create(route)?;
            match handshake(&fd, features) {
                Ok(_) => Ok((fd, offered, features)),
                Err(errno) => Err(RouteError::new(route, Step::Handshake, errno)),
            }
        })?;
        Ok(Self::adopt(fd, route, offered, features))
    }

    /// Wraps a userfaultfd after its handshake.
    fn adopt(fd: OwnedFd, route: Route, offered: Features, features: Features) -> Self {
        // SAFETY: `into_raw_fd` gives an open descriptor and gives up its ownership.
        let uffd = unsafe { userfaultfd::Uffd::from_raw_fd(fd.into_raw_fd()) };
        let registered = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                uffd,
                route,
                offered,
                features,
                registered,
            }),
        }
    }

    /// The route by which it was opened.
    pub fn route(&self) -> Route {
        self.shared.route
    }

    /// All features that the kernel offers.
    pub fn offered(&self) -> Features {
        self.shared.offered
    }

    /// The features that are enabled.
    pub fn features(&self) -> Features {
        self.shared.features
    }

    /// Registers memory: from now on, a thread that touches a missing page sleeps until the page is
    /// placed. Pages written before are present. `name` is the block's, for messages.
    ///
    /// # Errors
    /// The kernel does not support this kind of memory, or refuses, such as with EBUSY if the
    /// memory is registered with another userfaultfd.
    pub fn register(&self, name: &[u8], memory: Arc<Memory>) -> Result<Region, Error> {
        let block = Escaped::new(name).to_string();
        let needed = match memory.backing() {
            Backing::Anonymous => None,
            Backing::Shared => Some((Features::MISSING_SHMEM, "MISSING_SHMEM")),
            Backing::Huge2M | Backing::Huge1G => {
                Some((Features::MISSING_HUGETLBFS, "MISSING_HUGETLBFS"))
            }
        };
        if let Some((_, lacks)) = needed.filter(|(feature, _)| !self.offered().contains(*feature)) {
            return Err(Error::Unsupported { block, lacks });
        }
        Region::new(Arc::clone(&self.shared), block, memory)
    }

    /// A handler of page faults, which must be [finished](Handler::finish).
    pub fn handler(&self) -> Handler {
        Handler::new(Arc::clone(&self.shared))
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.uffd.as_fd()
    }
}

/// State shared by regions and handlers; the descriptor closes with the last of them.
#[derive(Debug)]
struct Shared {
    uffd: userfaultfd::Uffd,
    route: Route,
    offered: Features,
    features: Features,
    registered: Mutex<Vec<Registered>>,
}

/// Registered memory. It does not keep the memory mapped: nothing can wait for a page of memory that
/// is not.
#[derive(Debug)]
struct Registered {
    memory: Weak<Memory>,
    /// Whether the bytes may stay mapped without `memory`.
    stays_mapped: bool,
    block: String,
}

impl Shared {
    fn registered(&self) -> MutexGuard<'_, Vec<Registered>> {
        // Each change is a single call, so the list is valid even after a panic.
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the blocks that are registered now, and may still be mapped.
    fn registered_blocks(&self) -> Vec<String> {
        let registered = self.registered();
        let mapped = registered
            .iter()
            .filter(|one| one.stays_mapped || one.memory.strong_count() > 0);
        mapped.map(|one| one.block.clone()).collect()
    }
}

// Placing fills missing pages of registered ranges and changes no other memory. Only
// `Uffd::register` registers, and only a `Memory`: Rust code accesses its bytes through atomics and
// raw pointers, which allow a page to be filled at any moment.
impl Kernel for Shared {
    fn copy(&self, at: u64, bytes: &[u8]) -> Answer {
        let (src, len) = (wide(bytes.as_ptr().expose_provenance()), wide(bytes.len()));
        let mut copy = uffdio_copy {
            dst: at,
            src,
            len,
            mode: 0,
            copy: 0,
        };
        // SAFETY: the opcode is that of `UFFDIO_COPY`, whose argument is this struct. The kernel
        // reads `len` bytes at `src`, which is a live slice, and writes only missing pages of a
        // registered `Memory`.
        let done = unsafe { ioctl(&self.uffd, Updater::<{ UFFDIO_COPY }, _>::new(&mut copy)) };
        Answer {
            error: done.err(),
            count: copy.copy,
        }
    }

    fn zero(&self, at: u64, len: u64) -> Answer {
        let range = uffdio_range { start: at, len };
        let (mode, zeropage) = (0, 0);
        let mut zero = uffdio_zeropage {
            range,
            mode,
            zeropage,
        };
        // SAFETY: the opcode is that of `UFFDIO_ZEROPAGE`, whose argument is this struct. The kernel
        // writes only missing pages of a registered `Memory`.
        let done = unsafe {
            ioctl(
                &self.uffd,
                Updater::<{ UFFDIO_ZEROPAGE }, _>::new(&mut zero),
            )
        };
        Answer {
            error: done.err(),
            count: zero.zeropage,
        }
    }

    fn wake(&self, at: u64, len: u64) -> Result<(), Errno> {
        let (Ok(at), Ok(len)) = (usize::try_from(at), usize::try_from(len)) else {
            return Err(Errno::INVAL);
        };
        let woken = self.uffd.wake(ptr::without_provenance_mut(at), len);
        woken.map_err(|error| Errno::from_io_error(&os_error(error)).unwrap_or(Errno::IO))
    }

    fn is_present(&self, at: u64) -> io::Result<bool> {
        // Eight bytes for each page of the machine: bit 63 is set for a page in memory, bit 62 for
        // one that is swapped or being migrated.
        let table = File::open("/proc/self/pagemap")?;
        let mut entry = [0; 8];
        table.read_exact_at(&mut entry, at / wide(rustix::param::page_size()) * 8)?;
        Ok(u64::from_ne_bytes(entry) >> 62 != 0)
    }
}

/// The features that the kernel offers by a route; opens a userfaultfd and closes it again.
///
/// # Errors
/// The route does not work.
pub fn probe(route: Route) -> Result<Features, RouteError> {
    let offered = handshake(&create(route)?, Features::default());
    offered.map_err(|errno| RouteError::new(route, Step::Handshake, errno))
}

/// Creates a descriptor; the handshake is still to come.
fn create(route: Route) -> Result<OwnedFd, RouteError> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    let made = match route {
        Route::Device => {
            let device = File::options()
                .read(true)
                .write(true)
                .open("/dev/userfaultfd");
            let device = device.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                RouteError::new(route, Step::Device, errno)
            })?;
            // SAFETY: the descriptor is that of `/dev/userfaultfd`, for which `NewDescriptor` is
            // made: its argument is a number, and the kernel accesses no memory.
            unsafe { ioctl(&device, NewDescriptor(flags)) }
        }
        Route::Syscall | Route::UserModeOnly => {
            let mut flags = flags;
            if route == Route::UserModeOnly {
                flags |= UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
            }
            // SAFETY: the call accesses no memory. The descriptor can change only memory registered
            // with it, and only `Uffd::register` registers, always a `Memory`.
            unsafe { rustix::mm::userfaultfd(flags) }
        }
    };
    made.map_err(|errno| RouteError::new(route, Step::Create, errno))
}

/// Enables features; returns all that the kernel offers.
fn handshake(fd: &OwnedFd, features: Features) -> Result<Features, Errno> {
    let mut api = uffdio_api {
        api: UFFD_API.into(),
        features: features.0,
        ioctls: 0,
    };
    // SAFETY: the opcode is that of `UFFDIO_API`, whose argument is this struct; the kernel accesses
    // no other memory.
    unsafe { ioctl(fd, Updater::<{ UFFDIO_API }, _>::new(&mut api)) }?;
    Ok(Features(api.features))
}

/// `USERFAULTFD_IOC_NEW`, which linux-raw-sys lacks: the argument is a number, the answer a
/// descriptor.
struct NewDescriptor(UserfaultfdFlags);

// SAFETY: the opcode is that of `USERFAULTFD_IOC_NEW`: the kernel reads the argument as a number,
// accesses no memory and returns a new descriptor, which the caller owns.
unsafe impl Ioctl for NewDescriptor {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(0xAA, 0)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::without_provenance_mut(self.0.bits() as usize)
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: rustix calls this only after success, when the answer is a new descriptor that
        // nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(answer) })
    }
}

/// Converts an error of the crate `userfaultfd`, keeping its errno if it has one.
fn os_error(error: userfaultfd::Error) -> io::Error {
    match error {
        userfaultfd::Error::SystemError(errno) => io::Error::from_raw_os_error(errno as i32),
        other => io::Error::other(other.to_string()),
    }
}

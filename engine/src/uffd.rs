//! Placing pages through userfaultfd: the only file that speaks to the kernel about it.
//!
//! ```text
//! Uffd::open ─┬─ register(name, memory) → Region   copy, zero, poison, wake: by offset
//!             └─ handler()              → Handler  faults, by address; must be finished
//! ```
//!
//! * All calls return; none blocks on a missing page and none panics. Placing is safe from any
//!   number of threads at once: a page is placed by one of them, the others find it present.
//! * Registered memory is kept mapped by its [`Region`], and a handler that ends early ends the
//!   process (see [`Handler`]): waiting threads neither hang for ever nor read zeros.
//! * The caller registers a block before anything may touch what is missing in it, and unregisters
//!   it only once every page is there: pages that are still missing then read as zero.
//!
//! The crate `userfaultfd` 0.9 registers ranges, reads events and owns the descriptor. It is not
//! used for opening, because it does not go on to the system call when the device exists but may
//! not be opened, and hides which features the kernel offers; nor for placing, because its
//! `copy` reports a full EAGAIN as a partial copy of 2^64 - 11 bytes, and its `zeropage` loses the
//! count of a partial one.
//!
//! QEMU: `postcopy-ram.c`, `userfaultfd.c`.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{ffi::c_void, io, ptr};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::UserfaultfdFlags;
use userfaultfd_sys as sys;

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
pub use handler::{Fault, Handler};
pub use open::{Features, OpenError, Route, RouteError, Step};
pub use place::{Cause, PlaceError, Placement};
pub use region::Region;

/// An open userfaultfd.
#[derive(Debug)]
pub struct Uffd {
    shared: Arc<Shared>,
}

impl Uffd {
    /// Opens one by the first route that works, and asks for [`Features::WANTED`].
    ///
    /// A route other than the best may come with a [warning](Route::warning) for the user.
    ///
    /// # Errors
    /// No route works; the error says why for each.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_asking(Features::WANTED)
    }

    fn open_asking(wanted: Features) -> Result<Self, OpenError> {
        let (route, (fd, offered, features)) = first_open(|route| {
            // A descriptor shakes hands once, and a feature that is not offered fails it: so ask
            // one what there is, and another for it.
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

    /// Takes over a userfaultfd that has shaken hands.
    fn adopt(fd: OwnedFd, route: Route, offered: Features, features: Features) -> Self {
        // SAFETY: the descriptor is open and nobody else's; that is all the crate relies on.
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

    /// How it was opened.
    pub fn route(&self) -> Route {
        self.shared.route
    }

    /// All that the kernel offers.
    pub fn offered(&self) -> Features {
        self.shared.offered
    }

    /// What was asked for and is on.
    pub fn features(&self) -> Features {
        self.shared.features
    }

    /// From now on, a thread that touches a missing page of `memory` sleeps until it is placed.
    /// Pages written before stay as they are. `name` is the block's, for messages.
    ///
    /// # Errors
    /// The kernel does not support this kind of memory, or refuses: because another userfaultfd
    /// has it (EBUSY), for one.
    pub fn register(&self, name: &[u8], memory: Arc<Memory>) -> Result<Region, Error> {
        let block = name.escape_ascii().to_string();
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

    /// Takes on the duty to serve faults; see [`Handler`].
    pub fn handler(&self) -> Handler {
        Handler::new(Arc::clone(&self.shared))
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.uffd.as_fd()
    }
}

/// What regions and handlers share; the descriptor closes with the last of them.
#[derive(Debug)]
struct Shared {
    uffd: userfaultfd::Uffd,
    route: Route,
    offered: Features,
    features: Features,
    registered: Mutex<Vec<Registered>>,
}

#[derive(Debug)]
struct Registered {
    start: u64,
    block: String,
}

impl Shared {
    fn registered(&self) -> MutexGuard<'_, Vec<Registered>> {
        // The list is whole after each call that changes it.
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn knows_threads(&self) -> bool {
        self.features.contains(Features::THREAD_ID)
    }

    /// The blocks registered now, for a message; none if there are none.
    fn describe_registered(&self) -> Option<String> {
        let registered = self.registered();
        let names: Vec<_> = registered
            .iter()
            .map(|one| format!("\"{}\"", one.block))
            .collect();
        match names.len() {
            0 => None,
            1 => Some(format!("RAM block {}", names[0])),
            _ => Some(format!("RAM blocks {}", names.join(", "))),
        }
    }
}

const API: Opcode = opcode::read_write::<sys::uffdio_api>(sys::UFFDIO, sys::_UFFDIO_API as u8);
const COPY: Opcode = opcode::read_write::<sys::uffdio_copy>(sys::UFFDIO, sys::_UFFDIO_COPY as u8);
const ZERO: Opcode =
    opcode::read_write::<sys::uffdio_zeropage>(sys::UFFDIO, sys::_UFFDIO_ZEROPAGE as u8);
const POISON: Opcode =
    opcode::read_write::<sys::uffdio_poison>(sys::UFFDIO, sys::_UFFDIO_POISON as u8);

// In all of these the kernel changes memory only by filling missing pages of ranges registered
// with this descriptor. Only `Uffd::register` registers, and only a `Memory`, whose bytes Rust code
// reaches through atomics alone: a page that fills up at any moment is within their rules.
impl Kernel for Shared {
    fn copy(&self, at: u64, bytes: &[u8]) -> Answer {
        let (src, len) = (wide(bytes.as_ptr().expose_provenance()), wide(bytes.len()));
        let mut copy = sys::uffdio_copy {
            dst: at,
            src,
            len,
            mode: 0,
            copy: 0,
        };
        // SAFETY: the number belongs to the struct; `src` and `len` are those of a live slice,
        // which the kernel reads. See above for `dst`.
        let done = unsafe { ioctl(&self.uffd, Updater::<COPY, _>::new(&mut copy)) };
        Answer {
            error: done.err(),
            count: copy.copy,
        }
    }

    fn zero(&self, at: u64, len: u64) -> Answer {
        let range = sys::uffdio_range { start: at, len };
        let mut zero = sys::uffdio_zeropage {
            range,
            mode: 0,
            zeropage: 0,
        };
        // SAFETY: the number belongs to the struct; see above for the range.
        let done = unsafe { ioctl(&self.uffd, Updater::<ZERO, _>::new(&mut zero)) };
        Answer {
            error: done.err(),
            count: zero.zeropage,
        }
    }

    fn poison(&self, at: u64, len: u64) -> Answer {
        let range = sys::uffdio_range { start: at, len };
        let mut poison = sys::uffdio_poison {
            range,
            mode: 0,
            updated: 0,
        };
        // SAFETY: the number belongs to the struct; see above for the range.
        let done = unsafe { ioctl(&self.uffd, Updater::<POISON, _>::new(&mut poison)) };
        Answer {
            error: done.err(),
            count: poison.updated,
        }
    }

    fn wake(&self, at: u64, len: u64) -> Result<(), Errno> {
        let (Ok(at), Ok(len)) = (usize::try_from(at), usize::try_from(len)) else {
            return Err(Errno::INVAL);
        };
        let woken = self.uffd.wake(ptr::without_provenance_mut(at), len);
        woken.map_err(|error| Errno::from_io_error(&os_error(error)).unwrap_or(Errno::IO))
    }

    fn is_there(&self, at: u64) -> io::Result<bool> {
        // Eight bytes for each page of the machine: bit 63 for a page in memory, 62 for one that
        // is on its way elsewhere.
        let table = File::open("/proc/self/pagemap")?;
        let mut entry = [0; 8];
        table.read_exact_at(&mut entry, at / wide(rustix::param::page_size()) * 8)?;
        Ok(u64::from_ne_bytes(entry) >> 62 != 0)
    }
}

/// What the kernel offers by this route; opens a userfaultfd for it and closes it again.
///
/// # Errors
/// The route does not work.
pub fn probe(route: Route) -> Result<Features, RouteError> {
    let offered = handshake(&create(route)?, Features::default());
    offered.map_err(|errno| RouteError::new(route, Step::Handshake, errno))
}

/// A descriptor that has not shaken hands yet.
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
            // SAFETY: `NewDescriptor` says how the kernel answers, and hands it no memory.
            unsafe { ioctl(&device, NewDescriptor(flags)) }
        }
        // SAFETY: the call itself is harmless; what the descriptor may do to memory is bounded by
        // what is registered with it, see the `Kernel` implementation.
        Route::Syscall => unsafe { rustix::mm::userfaultfd(flags) },
        Route::UserModeOnly => {
            let flags = flags | UserfaultfdFlags::from_bits_retain(sys::UFFD_USER_MODE_ONLY);
            // SAFETY: as above.
            unsafe { rustix::mm::userfaultfd(flags) }
        }
    };
    made.map_err(|errno| RouteError::new(route, Step::Create, errno))
}

/// Asks for features; gives those the kernel offers, asked for or not.
fn handshake(fd: &OwnedFd, features: Features) -> Result<Features, Errno> {
    let mut api = sys::uffdio_api {
        api: sys::UFFD_API,
        features: features.0,
        ioctls: 0,
    };
    // SAFETY: the number belongs to the struct, and the kernel touches nothing else.
    unsafe { ioctl(fd, Updater::<API, _>::new(&mut api)) }?;
    Ok(Features(api.features))
}

/// `USERFAULTFD_IOC_NEW`: the argument is a number, the answer a descriptor.
struct NewDescriptor(UserfaultfdFlags);

// SAFETY: the opcode is that of `/dev/userfaultfd`, which reads its argument as a number, touches
// no memory and answers with a new descriptor that belongs to the caller.
unsafe impl Ioctl for NewDescriptor {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        const { opcode::none(sys::USERFAULTFD_IOC as u8, 0) }
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::without_provenance_mut(self.0.bits() as usize)
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: called after success only, when the answer is a descriptor made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(answer) })
    }
}

/// The crate's error as the standard library's, with its errno if it has one.
fn os_error(error: userfaultfd::Error) -> io::Error {
    match error {
        userfaultfd::Error::SystemError(errno) => io::Error::from_raw_os_error(errno as i32),
        other => io::Error::other(other.to_string()),
    }
}

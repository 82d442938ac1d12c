//! The three ways to get a userfaultfd, in the order they are tried, and why each may fail.
//!
//! Nothing here talks to the kernel; [`first_open`] is handed a function that does.

#![deny(unsafe_code)]

use std::{fmt, io};

use rustix::io::Errno;
use userfaultfd_sys as sys;

/// A way to get a userfaultfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/dev/userfaultfd`, since Linux 6.1: whoever may open the file may handle all faults.
    Device,
    /// The system call: needs CAP_SYS_PTRACE, or `vm.unprivileged_userfaultfd=1`.
    Syscall,
    /// The system call limited to faults of user code, since Linux 5.11: needs nothing.
    UserModeOnly,
}

impl Route {
    /// All routes, best first.
    pub const ALL: [Self; 3] = [Self::Device, Self::Syscall, Self::UserModeOnly];

    /// What a user should know who ended up with this route.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Device | Self::Syscall => None,
            Self::UserModeOnly => Some(
                "userfaultfd is limited to faults of user code: a system call that touches a \
                 missing page (read(2) into it, KVM, vhost) fails with EFAULT instead of waiting; \
                 `retpath doctor` says how to lift that",
            ),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Device => "/dev/userfaultfd",
            Self::Syscall => "system call",
            Self::UserModeOnly => "system call, user mode only",
        })
    }
}

/// Where a route ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opening the device file.
    Device,
    /// Creating the descriptor.
    Create,
    /// The `UFFDIO_API` handshake.
    Handshake,
}

/// Why a route does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// Which.
    pub route: Route,
    /// How far it went.
    pub step: Step,
    /// What the kernel answered.
    pub errno: i32,
}

impl RouteError {
    pub(super) fn new(route: Route, step: Step, errno: Errno) -> Self {
        Self {
            route,
            step,
            errno: errno.raw_os_error(),
        }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match (self.route, self.step, Errno::from_raw_os_error(self.errno)) {
            (Route::Device, Step::Device, Errno::NOENT) => {
                "there is no such file (Linux older than 6.1, or a container without it)"
            }
            (Route::Device, Step::Device, Errno::ACCESS | Errno::PERM) => {
                "this user may not open it"
            }
            (_, Step::Create, Errno::NOSYS) => {
                "this kernel is built without CONFIG_USERFAULTFD, or a sandbox hides it"
            }
            (Route::Syscall, Step::Create, Errno::PERM) => {
                "it needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1, or a sandbox forbids it"
            }
            (Route::UserModeOnly, Step::Create, Errno::PERM) => "a sandbox (seccomp) forbids it",
            (Route::UserModeOnly, Step::Create, Errno::INVAL) => {
                "Linux older than 5.11 does not know it"
            }
            (_, Step::Handshake, Errno::INVAL) => "the kernel refused the handshake",
            _ => return io::Error::from_raw_os_error(self.errno).fmt(f),
        };
        f.write_str(why)
    }
}

impl std::error::Error for RouteError {}

/// No route works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// Why not, for each route in the order of [`Route::ALL`].
    pub tried: Vec<RouteError>,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("userfaultfd cannot be opened")?;
        for (i, error) in self.tried.iter().enumerate() {
            let before = if i == 0 { ": " } else { "; " };
            write!(f, "{before}{}: {error}", error.route)?;
        }
        f.write_str("; `retpath doctor` prints the commands that fix this")
    }
}

impl std::error::Error for OpenError {}

/// Tries each route until one works.
pub(super) fn first_open<T>(
    mut open: impl FnMut(Route) -> Result<T, RouteError>,
) -> Result<(Route, T), OpenError> {
    let mut tried = Vec::new();
    for route in Route::ALL {
        match open(route) {
            Ok(opened) => return Ok((route, opened)),
            Err(error) => tried.push(error),
        }
    }
    Err(OpenError { tried })
}

/// A set of `UFFD_FEATURE_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub(super) u64);

macro_rules! features {
    ($($(#[$doc:meta])+ $name:ident = $bit:ident;)+) => {
        impl Features {
            $($(#[$doc])+ pub const $name: Self = Self(sys::$bit);)+

            /// Every feature with the kernel's name for it, oldest first.
            pub const NAMED: &[(&str, Self)] = &[$((stringify!($name), Self::$name)),+];
        }
    };
}

features! {
    /// Write-protect faults on anonymous memory.
    PAGEFAULT_FLAG_WP = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
    /// Fork events.
    EVENT_FORK = UFFD_FEATURE_EVENT_FORK;
    /// Remap events.
    EVENT_REMAP = UFFD_FEATURE_EVENT_REMAP;
    /// Remove events: discarding pages waits until the event is read.
    EVENT_REMOVE = UFFD_FEATURE_EVENT_REMOVE;
    /// Missing faults on hugetlbfs.
    MISSING_HUGETLBFS = UFFD_FEATURE_MISSING_HUGETLBFS;
    /// Missing faults on shared memory.
    MISSING_SHMEM = UFFD_FEATURE_MISSING_SHMEM;
    /// Unmap events.
    EVENT_UNMAP = UFFD_FEATURE_EVENT_UNMAP;
    /// A signal instead of an event.
    SIGBUS = UFFD_FEATURE_SIGBUS;
    /// The thread id in each fault.
    THREAD_ID = UFFD_FEATURE_THREAD_ID;
    /// Minor faults on hugetlbfs.
    MINOR_HUGETLBFS = UFFD_FEATURE_MINOR_HUGETLBFS;
    /// Minor faults on shared memory.
    MINOR_SHMEM = UFFD_FEATURE_MINOR_SHMEM;
    /// Fault addresses not rounded to pages.
    EXACT_ADDRESS = UFFD_FEATURE_EXACT_ADDRESS;
    /// Write protection of hugetlbfs and shared memory.
    WP_HUGETLBFS_SHMEM = UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    /// Write protection of pages not there yet.
    WP_UNPOPULATED = UFFD_FEATURE_WP_UNPOPULATED;
    /// Poisoning pages.
    POISON = UFFD_FEATURE_POISON;
    /// Write protection that resolves itself.
    WP_ASYNC = UFFD_FEATURE_WP_ASYNC;
    /// Moving pages in.
    MOVE = UFFD_FEATURE_MOVE;
}

impl Features {
    /// What this crate asks for, as far as the kernel offers it.
    pub const WANTED: Self = Self(
        Self::MISSING_HUGETLBFS.0
            | Self::MISSING_SHMEM.0
            | Self::THREAD_ID.0
            | Self::POISON.0
            | Self::MOVE.0,
    );

    /// Whether all of `other` are in here.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

//! The three routes to a userfaultfd, in the order they are tried, and why each may fail; and the
//! features of one.
//!
//! No system calls here: [`first_open`] takes a function that makes them.

#![deny(unsafe_code)]

use std::{fmt, io};

use linux_raw_sys::general;
use rustix::io::Errno;

/// A way to open a userfaultfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/dev/userfaultfd`, since Linux 6.1: a process that may open it can handle all faults.
    Device,
    /// The system call: needs CAP_SYS_PTRACE, or `vm.unprivileged_userfaultfd=1`.
    Syscall,
    /// The system call limited to faults of user code, since Linux 5.11: needs nothing. A system call
    /// that touches a missing page (read(2) into it, KVM, vhost) fails with EFAULT instead of waiting.
    UserModeOnly,
}

impl Route {
    /// All routes, best first.
    pub const ALL: [Self; 3] = [Self::Device, Self::Syscall, Self::UserModeOnly];
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

/// The step of a route that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opening the device file.
    Device,
    /// Creating the descriptor.
    Create,
    /// The `UFFDIO_API` handshake.
    Handshake,
}

/// An error of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// The route.
    pub route: Route,
    /// The step that failed.
    pub step: Step,
    /// The error number.
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
                "no such file (Linux older than 6.1, or a container without it)"
            }
            (Route::Device, Step::Device, Errno::ACCESS | Errno::PERM) => {
                "this user may not open it"
            }
            (_, Step::Create, Errno::NOSYS) => {
                "this kernel is built without CONFIG_USERFAULTFD, or a sandbox blocks it"
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

/// No route to a userfaultfd works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenError {
    /// The error of each route, in the order of [`Route::ALL`].
    pub tried: Vec<RouteError>,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("userfaultfd cannot be opened")?;
        for (i, error) in self.tried.iter().enumerate() {
            let before = if i == 0 { ": " } else { "; " };
            write!(f, "{before}{}: {error}", error.route)?;
        }
        Ok(())
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

impl Features {
    /// Missing faults on hugetlbfs.
    pub const MISSING_HUGETLBFS: Self = Self(general::UFFD_FEATURE_MISSING_HUGETLBFS as u64);
    /// Missing faults on shared memory.
    pub const MISSING_SHMEM: Self = Self(general::UFFD_FEATURE_MISSING_SHMEM as u64);
    /// The thread id in each fault, Linux 4.14.
    pub const THREAD_ID: Self = Self(general::UFFD_FEATURE_THREAD_ID as u64);

    /// The features that this crate enables where the kernel offers them.
    pub const WANTED: Self =
        Self(Self::MISSING_HUGETLBFS.0 | Self::MISSING_SHMEM.0 | Self::THREAD_ID.0);

    /// The set as the kernel writes it.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether all features of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

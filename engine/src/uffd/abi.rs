//! What the kernel headers and the crate `linux-raw-sys`, which takes everything else from them, do
//! not name in a usable form: one ioctl, and the features as a set.
//!
//! The crate `userfaultfd-sys` 0.6 on crates.io generates its items from whatever kernel headers
//! the build machine has, so that newer ones may be missing there.
//!
//! Manual pages: userfaultfd(2), ioctl_userfaultfd(2). Header: `include/uapi/linux/userfaultfd.h`.

#![deny(unsafe_code)]

use linux_raw_sys::general;
use rustix::ioctl::{Opcode, opcode};

/// Asks `/dev/userfaultfd` for a new descriptor; the argument is the flags of the system call.
pub(super) const USERFAULTFD_IOC_NEW: Opcode = opcode::none(0xAA, 0);

/// A set of `UFFD_FEATURE_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub(super) u64);

macro_rules! features {
    ($($(#[$doc:meta])+ $name:ident = $kernel:ident;)+) => {
        impl Features {
            $($(#[$doc])+ pub const $name: Self = Self(general::$kernel as u64);)+

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
    /// A signal instead of an event, Linux 4.14.
    SIGBUS = UFFD_FEATURE_SIGBUS;
    /// The thread id in each fault, Linux 4.14.
    THREAD_ID = UFFD_FEATURE_THREAD_ID;
    /// Minor faults on hugetlbfs, Linux 5.13.
    MINOR_HUGETLBFS = UFFD_FEATURE_MINOR_HUGETLBFS;
    /// Minor faults on shared memory, Linux 5.14.
    MINOR_SHMEM = UFFD_FEATURE_MINOR_SHMEM;
    /// Fault addresses that are not rounded to pages, Linux 5.18.
    EXACT_ADDRESS = UFFD_FEATURE_EXACT_ADDRESS;
    /// Write protection of hugetlbfs and shared memory, Linux 5.19.
    WP_HUGETLBFS_SHMEM = UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    /// Write protection of missing pages, Linux 6.4.
    WP_UNPOPULATED = UFFD_FEATURE_WP_UNPOPULATED;
    /// `UFFDIO_POISON`, Linux 6.6.
    POISON = UFFD_FEATURE_POISON;
    /// Write protection that resolves itself, Linux 6.7.
    WP_ASYNC = UFFD_FEATURE_WP_ASYNC;
    /// `UFFDIO_MOVE`, Linux 6.8.
    MOVE = UFFD_FEATURE_MOVE;
}

impl Features {
    /// The features that this crate enables where the kernel offers them.
    pub const WANTED: Self =
        Self(Self::MISSING_HUGETLBFS.0 | Self::MISSING_SHMEM.0 | Self::THREAD_ID.0);

    /// Whether all features of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

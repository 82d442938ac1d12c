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

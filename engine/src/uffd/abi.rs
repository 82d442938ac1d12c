//! The userfaultfd ABI that this crate uses directly: structs, ioctl numbers and features.
//!
//! The crate `userfaultfd-sys` 0.6 on crates.io generates its items from whatever kernel headers
//! the build machine has, so `UFFDIO_POISON` and the features after Linux 5.13 may be missing
//! there. Here they are written out. Fields of the structs are 64 bits wide, in the machine's byte
//! order, and C's layout has no padding. The last field of most is the kernel's answer; some
//! failures leave it unchanged.
//!
//! Manual pages: userfaultfd(2), ioctl_userfaultfd(2). Header: `include/uapi/linux/userfaultfd.h`.

#![deny(unsafe_code)]

use rustix::ioctl::{Opcode, opcode};

/// The only version of the API.
pub(super) const UFFD_API: u64 = 0xAA;
/// Flag of the system call and of `USERFAULTFD_IOC_NEW`: handle only faults of user code.
pub(super) const UFFD_USER_MODE_ONLY: u32 = 1;

/// Group of the ioctls of the descriptor and of `/dev/userfaultfd`.
const GROUP: u8 = 0xAA;

/// Numbers of ioctls within the group, as they index the bits of `uffdio_register.ioctls`.
pub(super) const _UFFDIO_COPY: u8 = 0x03;
pub(super) const _UFFDIO_ZEROPAGE: u8 = 0x04;
pub(super) const _UFFDIO_POISON: u8 = 0x08;
pub(super) const _UFFDIO_API: u8 = 0x3F;

pub(super) const UFFDIO_API: Opcode = opcode::read_write::<UffdioApi>(GROUP, _UFFDIO_API);
pub(super) const UFFDIO_COPY: Opcode = opcode::read_write::<UffdioCopy>(GROUP, _UFFDIO_COPY);
pub(super) const UFFDIO_ZEROPAGE: Opcode =
    opcode::read_write::<UffdioZeropage>(GROUP, _UFFDIO_ZEROPAGE);
pub(super) const UFFDIO_POISON: Opcode = opcode::read_write::<UffdioPoison>(GROUP, _UFFDIO_POISON);
/// Asks `/dev/userfaultfd` for a new descriptor; the argument is the flags of the system call.
pub(super) const USERFAULTFD_IOC_NEW: Opcode = opcode::none(GROUP, 0);

/// Argument of `UFFDIO_API`, the handshake.
#[repr(C)]
pub(super) struct UffdioApi {
    pub(super) api: u64,
    /// In: features to enable. Out: features offered.
    pub(super) features: u64,
    pub(super) ioctls: u64,
}

/// A range of host virtual addresses.
#[repr(C)]
pub(super) struct UffdioRange {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// Argument of `UFFDIO_COPY`.
#[repr(C)]
pub(super) struct UffdioCopy {
    pub(super) dst: u64,
    pub(super) src: u64,
    pub(super) len: u64,
    pub(super) mode: u64,
    /// Out: bytes placed, or a negated errno.
    pub(super) copy: i64,
}

/// Argument of `UFFDIO_ZEROPAGE`.
#[repr(C)]
pub(super) struct UffdioZeropage {
    pub(super) range: UffdioRange,
    pub(super) mode: u64,
    /// Out: bytes placed, or a negated errno.
    pub(super) zeropage: i64,
}

/// Argument of `UFFDIO_POISON`, Linux 6.6.
#[repr(C)]
pub(super) struct UffdioPoison {
    pub(super) range: UffdioRange,
    pub(super) mode: u64,
    /// Out: bytes poisoned, or a negated errno.
    pub(super) updated: i64,
}

/// A set of `UFFD_FEATURE_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub(super) u64);

macro_rules! features {
    ($($(#[$doc:meta])+ $name:ident = $bit:literal;)+) => {
        impl Features {
            $($(#[$doc])+ pub const $name: Self = Self(1 << $bit);)+

            /// Every feature with the kernel's name for it, oldest first.
            pub const NAMED: &[(&str, Self)] = &[$((stringify!($name), Self::$name)),+];
        }
    };
}

features! {
    /// Write-protect faults on anonymous memory.
    PAGEFAULT_FLAG_WP = 0;
    /// Fork events.
    EVENT_FORK = 1;
    /// Remap events.
    EVENT_REMAP = 2;
    /// Remove events: discarding pages waits until the event is read.
    EVENT_REMOVE = 3;
    /// Missing faults on hugetlbfs.
    MISSING_HUGETLBFS = 4;
    /// Missing faults on shared memory.
    MISSING_SHMEM = 5;
    /// Unmap events.
    EVENT_UNMAP = 6;
    /// A signal instead of an event, Linux 4.14.
    SIGBUS = 7;
    /// The thread id in each fault, Linux 4.14.
    THREAD_ID = 8;
    /// Minor faults on hugetlbfs, Linux 5.13.
    MINOR_HUGETLBFS = 9;
    /// Minor faults on shared memory, Linux 5.14.
    MINOR_SHMEM = 10;
    /// Fault addresses that are not rounded to pages, Linux 5.18.
    EXACT_ADDRESS = 11;
    /// Write protection of hugetlbfs and shared memory, Linux 5.19.
    WP_HUGETLBFS_SHMEM = 12;
    /// Write protection of missing pages, Linux 6.4.
    WP_UNPOPULATED = 13;
    /// `UFFDIO_POISON`, Linux 6.6.
    POISON = 14;
    /// Write protection that resolves itself, Linux 6.7.
    WP_ASYNC = 15;
    /// `UFFDIO_MOVE`, Linux 6.8.
    MOVE = 16;
}

impl Features {
    /// The features that this crate enables where the kernel offers them.
    pub const WANTED: Self = Self(
        Self::MISSING_HUGETLBFS.0
            | Self::MISSING_SHMEM.0
            | Self::THREAD_ID.0
            | Self::POISON.0
            | Self::MOVE.0,
    );

    /// Whether all features of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use linux_raw_sys::{general as kernel, ioctl};

    use super::*;

    /// Each struct has the size of the kernel's, and each field its offset.
    macro_rules! same_layout {
        ($($ours:ident = $theirs:ident { $($field:ident)+ })+) => {$(
            assert_eq!(size_of::<$ours>(), size_of::<kernel::$theirs>(), stringify!($ours));
            $(assert_eq!(
                offset_of!($ours, $field),
                offset_of!(kernel::$theirs, $field),
                concat!(stringify!($ours), ".", stringify!($field))
            );)+
        )+};
    }

    #[test]
    fn layouts_equal_the_kernel_headers() {
        same_layout! {
            UffdioApi = uffdio_api { api features ioctls }
            UffdioRange = uffdio_range { start len }
            UffdioCopy = uffdio_copy { dst src len mode copy }
            UffdioZeropage = uffdio_zeropage { range mode zeropage }
            UffdioPoison = uffdio_poison { range mode updated }
        }
    }

    #[test]
    fn numbers_equal_the_kernel_headers() {
        assert_eq!(UFFD_API, u64::from(kernel::UFFD_API));
        assert_eq!(UFFD_USER_MODE_ONLY, kernel::UFFD_USER_MODE_ONLY);
        assert_eq!(UFFDIO_API, ioctl::UFFDIO_API as Opcode);
        assert_eq!(UFFDIO_COPY, ioctl::UFFDIO_COPY as Opcode);
        assert_eq!(UFFDIO_ZEROPAGE, ioctl::UFFDIO_ZEROPAGE as Opcode);
        assert_eq!(u32::from(_UFFDIO_POISON), kernel::_UFFDIO_POISON);
    }

    #[test]
    fn features_equal_the_kernel_headers() {
        macro_rules! same {
            ($($name:ident = $theirs:ident;)+) => {
                [$((Features::$name, u64::from(kernel::$theirs))),+]
            };
        }
        let all = same! {
            PAGEFAULT_FLAG_WP = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
            EVENT_FORK = UFFD_FEATURE_EVENT_FORK;
            EVENT_REMAP = UFFD_FEATURE_EVENT_REMAP;
            EVENT_REMOVE = UFFD_FEATURE_EVENT_REMOVE;
            MISSING_HUGETLBFS = UFFD_FEATURE_MISSING_HUGETLBFS;
            MISSING_SHMEM = UFFD_FEATURE_MISSING_SHMEM;
            EVENT_UNMAP = UFFD_FEATURE_EVENT_UNMAP;
            SIGBUS = UFFD_FEATURE_SIGBUS;
            THREAD_ID = UFFD_FEATURE_THREAD_ID;
            MINOR_HUGETLBFS = UFFD_FEATURE_MINOR_HUGETLBFS;
            MINOR_SHMEM = UFFD_FEATURE_MINOR_SHMEM;
            EXACT_ADDRESS = UFFD_FEATURE_EXACT_ADDRESS;
            WP_HUGETLBFS_SHMEM = UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
            WP_UNPOPULATED = UFFD_FEATURE_WP_UNPOPULATED;
            POISON = UFFD_FEATURE_POISON;
            WP_ASYNC = UFFD_FEATURE_WP_ASYNC;
            MOVE = UFFD_FEATURE_MOVE;
        };
        assert_eq!(all.len(), Features::NAMED.len());
        for ((ours, theirs), (name, _)) in all.into_iter().zip(Features::NAMED) {
            assert_eq!(ours.0, theirs, "{name}");
        }
    }
}

//! Ioctl numbers, features, events and modes.
//!
//! Types follow what the crate `userfaultfd` expects: masks and `_UFFDIO_*` are `u64`, events `u8`,
//! whole ioctl requests `u32`.

use crate::layout::{
    uffdio_api, uffdio_continue, uffdio_copy, uffdio_range, uffdio_register, uffdio_writeprotect,
    uffdio_zeropage,
};

/// The only version of the API, and the ioctl group.
pub const UFFD_API: u64 = 0xAA;
/// Ioctl group of the descriptor.
pub const UFFDIO: u8 = 0xAA;
/// Ioctl group of `/dev/userfaultfd`.
pub const USERFAULTFD_IOC: u32 = 0xAA;
/// Flag of the system call and of `USERFAULTFD_IOC_NEW`, Linux 5.11: handle only faults that user
/// code causes.
pub const UFFD_USER_MODE_ONLY: u32 = 1;

/// Watch a range.
pub const _UFFDIO_REGISTER: u64 = 0x00;
/// Stop watching a range.
pub const _UFFDIO_UNREGISTER: u64 = 0x01;
/// Wake the threads that wait for a range.
pub const _UFFDIO_WAKE: u64 = 0x02;
/// Place bytes.
pub const _UFFDIO_COPY: u64 = 0x03;
/// Place zeros.
pub const _UFFDIO_ZEROPAGE: u64 = 0x04;
/// Write-protect, or stop it, Linux 5.7.
pub const _UFFDIO_WRITEPROTECT: u64 = 0x06;
/// Map what the page cache holds, Linux 5.13.
pub const _UFFDIO_CONTINUE: u64 = 0x07;
/// The handshake.
pub const _UFFDIO_API: u64 = 0x3F;

const READ: u32 = 2;
const READ_WRITE: u32 = 3;

// The encoding of asm-generic/ioctl.h: direction 2 bits, size 14, group 8, number 8. powerpc, mips
// and sparc number the directions otherwise; there these constants do not hold, and callers let nix
// or rustix compute the request.
const fn request<T>(direction: u32, number: u64) -> u32 {
    let size = size_of::<T>();
    assert!(size < 1 << 14 && number < 1 << 8);
    direction << 30 | (size as u32) << 16 | (UFFDIO as u32) << 8 | number as u32
}

/// Request of the handshake.
pub const UFFDIO_API: u32 = request::<uffdio_api>(READ_WRITE, _UFFDIO_API);
/// Request to watch a range.
pub const UFFDIO_REGISTER: u32 = request::<uffdio_register>(READ_WRITE, _UFFDIO_REGISTER);
/// Request to stop watching a range (the direction is the kernel's slip, fixed forever).
pub const UFFDIO_UNREGISTER: u32 = request::<uffdio_range>(READ, _UFFDIO_UNREGISTER);
/// Request to wake threads (the direction is the kernel's slip, fixed forever).
pub const UFFDIO_WAKE: u32 = request::<uffdio_range>(READ, _UFFDIO_WAKE);
/// Request to place bytes.
pub const UFFDIO_COPY: u32 = request::<uffdio_copy>(READ_WRITE, _UFFDIO_COPY);
/// Request to place zeros.
pub const UFFDIO_ZEROPAGE: u32 = request::<uffdio_zeropage>(READ_WRITE, _UFFDIO_ZEROPAGE);
/// Request to write-protect.
pub const UFFDIO_WRITEPROTECT: u32 =
    request::<uffdio_writeprotect>(READ_WRITE, _UFFDIO_WRITEPROTECT);
/// Request to map from the page cache.
pub const UFFDIO_CONTINUE: u32 = request::<uffdio_continue>(READ_WRITE, _UFFDIO_CONTINUE);
/// Request to `/dev/userfaultfd`, Linux 6.1: a new descriptor; the argument is the system call's
/// flags.
pub const USERFAULTFD_IOC_NEW: u32 = USERFAULTFD_IOC << 8;

/// A page fault.
pub const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
/// A fork.
pub const UFFD_EVENT_FORK: u8 = 0x13;
/// A mremap(2).
pub const UFFD_EVENT_REMAP: u8 = 0x14;
/// A madvise(2) that dropped pages.
pub const UFFD_EVENT_REMOVE: u8 = 0x15;
/// A munmap(2).
pub const UFFD_EVENT_UNMAP: u8 = 0x16;

/// The fault was a write.
pub const UFFD_PAGEFAULT_FLAG_WRITE: u64 = 1 << 0;
/// The page was write-protected.
pub const UFFD_PAGEFAULT_FLAG_WP: u64 = 1 << 1;
/// The page cache holds the page, only the mapping lacks.
pub const UFFD_PAGEFAULT_FLAG_MINOR: u64 = 1 << 2;

/// Write-protect faults on anonymous memory.
pub const UFFD_FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
/// Fork events.
pub const UFFD_FEATURE_EVENT_FORK: u64 = 1 << 1;
/// Remap events.
pub const UFFD_FEATURE_EVENT_REMAP: u64 = 1 << 2;
/// Remove events.
pub const UFFD_FEATURE_EVENT_REMOVE: u64 = 1 << 3;
/// Missing faults on hugetlbfs.
pub const UFFD_FEATURE_MISSING_HUGETLBFS: u64 = 1 << 4;
/// Missing faults on shared memory.
pub const UFFD_FEATURE_MISSING_SHMEM: u64 = 1 << 5;
/// Unmap events.
pub const UFFD_FEATURE_EVENT_UNMAP: u64 = 1 << 6;
/// A signal instead of an event, Linux 4.14.
pub const UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
/// Thread id in each fault, Linux 4.14.
pub const UFFD_FEATURE_THREAD_ID: u64 = 1 << 8;
/// Minor faults on hugetlbfs, Linux 5.13.
pub const UFFD_FEATURE_MINOR_HUGETLBFS: u64 = 1 << 9;
/// Minor faults on shared memory, Linux 5.14.
pub const UFFD_FEATURE_MINOR_SHMEM: u64 = 1 << 10;

/// Report missing pages.
pub const UFFDIO_REGISTER_MODE_MISSING: u64 = 1 << 0;
/// Report writes to protected pages.
pub const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
/// Report pages that only the mapping lacks, Linux 5.13.
pub const UFFDIO_REGISTER_MODE_MINOR: u64 = 1 << 2;
/// Do not wake waiting threads.
pub const UFFDIO_COPY_MODE_DONTWAKE: u64 = 1 << 0;
/// Place the page write-protected.
pub const UFFDIO_COPY_MODE_WP: u64 = 1 << 1;
/// Do not wake waiting threads.
pub const UFFDIO_ZEROPAGE_MODE_DONTWAKE: u64 = 1 << 0;
/// Protect; without it, stop protecting.
pub const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1 << 0;
/// Do not wake waiting threads.
pub const UFFDIO_WRITEPROTECT_MODE_DONTWAKE: u64 = 1 << 1;
/// Do not wake waiting threads.
pub const UFFDIO_CONTINUE_MODE_DONTWAKE: u64 = 1 << 0;
/// Map the page write-protected, Linux 6.4.
pub const UFFDIO_CONTINUE_MODE_WP: u64 = 1 << 1;

const SINCE_4_14: u64 = if cfg!(feature = "linux4_14") { !0 } else { 0 };
const SINCE_5_7: u64 = if cfg!(feature = "linux5_7") { !0 } else { 0 };
const SINCE_5_13: u64 = if cfg!(feature = "linux5_13") { !0 } else { 0 };

/// Features that a kernel of the age chosen by the Cargo features has.
pub const UFFD_API_FEATURES: u64 = UFFD_FEATURE_EVENT_FORK
    | UFFD_FEATURE_EVENT_REMAP
    | UFFD_FEATURE_EVENT_REMOVE
    | UFFD_FEATURE_EVENT_UNMAP
    | UFFD_FEATURE_MISSING_HUGETLBFS
    | UFFD_FEATURE_MISSING_SHMEM
    | SINCE_4_14 & (UFFD_FEATURE_SIGBUS | UFFD_FEATURE_THREAD_ID);

/// Ioctls that work on every descriptor, as bits.
pub const UFFD_API_IOCTLS: u64 = 1 << _UFFDIO_REGISTER | 1 << _UFFDIO_UNREGISTER | 1 << _UFFDIO_API;

/// Ioctls that a kernel of the age chosen by the Cargo features has for ranges, as bits.
pub const UFFD_API_RANGE_IOCTLS: u64 = 1 << _UFFDIO_WAKE
    | 1 << _UFFDIO_COPY
    | 1 << _UFFDIO_ZEROPAGE
    | SINCE_5_7 & 1 << _UFFDIO_WRITEPROTECT
    | SINCE_5_13 & 1 << _UFFDIO_CONTINUE;

/// The same for hugetlbfs.
pub const UFFD_API_RANGE_IOCTLS_BASIC: u64 = SINCE_4_14 & (1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY);

#[cfg(not(any(
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "sparc",
    target_arch = "sparc64"
)))]
const _: () = {
    assert!(UFFDIO_API == 0xc018_aa3f);
    assert!(UFFDIO_REGISTER == 0xc020_aa00);
    assert!(UFFDIO_UNREGISTER == 0x8010_aa01);
    assert!(UFFDIO_WAKE == 0x8010_aa02);
    assert!(UFFDIO_COPY == 0xc028_aa03);
    assert!(UFFDIO_ZEROPAGE == 0xc020_aa04);
    assert!(UFFDIO_WRITEPROTECT == 0xc018_aa06);
    assert!(UFFDIO_CONTINUE == 0xc020_aa07);
    assert!(USERFAULTFD_IOC_NEW == 0xaa00);
};

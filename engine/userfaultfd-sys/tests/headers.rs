//! Our numbers and layouts against `linux-raw-sys`, which is generated from the kernel's headers.

use core::mem::{align_of, offset_of, size_of};
use linux_raw_sys::{general as kernel, ioctl};
use userfaultfd_sys as ours;

/// Each name stands for the same value in both crates.
macro_rules! same {
    ($judge:ident: $($name:ident)+) => {
        $(assert_eq!(u64::from(ours::$name), u64::from($judge::$name), stringify!($name));)+
    };
}

/// Each struct has the same size and alignment, and each field the same place.
macro_rules! same_layout {
    ($($name:ident { $($field:ident)+ })+) => {
        $(
            assert_eq!(size_of::<ours::$name>(), size_of::<kernel::$name>(), stringify!($name));
            assert_eq!(align_of::<ours::$name>(), align_of::<kernel::$name>(), stringify!($name));
            $(assert_eq!(
                offset_of!(ours::$name, $field),
                offset_of!(kernel::$name, $field),
                concat!(stringify!($name), ".", stringify!($field))
            );)+
        )+
    };
}

#[test]
fn numbers_equal_the_kernel_headers() {
    same!(kernel:
        UFFD_API UFFDIO UFFD_USER_MODE_ONLY
        _UFFDIO_REGISTER _UFFDIO_UNREGISTER _UFFDIO_WAKE _UFFDIO_COPY _UFFDIO_ZEROPAGE
        _UFFDIO_WRITEPROTECT _UFFDIO_CONTINUE _UFFDIO_API
        UFFD_EVENT_PAGEFAULT UFFD_EVENT_FORK UFFD_EVENT_REMAP UFFD_EVENT_REMOVE UFFD_EVENT_UNMAP
        UFFD_PAGEFAULT_FLAG_WRITE UFFD_PAGEFAULT_FLAG_WP UFFD_PAGEFAULT_FLAG_MINOR
        UFFD_FEATURE_PAGEFAULT_FLAG_WP UFFD_FEATURE_EVENT_FORK UFFD_FEATURE_EVENT_REMAP
        UFFD_FEATURE_EVENT_REMOVE UFFD_FEATURE_MISSING_HUGETLBFS UFFD_FEATURE_MISSING_SHMEM
        UFFD_FEATURE_EVENT_UNMAP UFFD_FEATURE_SIGBUS UFFD_FEATURE_THREAD_ID
        UFFD_FEATURE_MINOR_HUGETLBFS UFFD_FEATURE_MINOR_SHMEM
        UFFDIO_REGISTER_MODE_MISSING UFFDIO_REGISTER_MODE_WP UFFDIO_REGISTER_MODE_MINOR
        UFFDIO_COPY_MODE_DONTWAKE UFFDIO_COPY_MODE_WP UFFDIO_ZEROPAGE_MODE_DONTWAKE
    );
}

#[test]
fn requests_equal_the_kernel_headers() {
    same!(ioctl:
        UFFDIO_API UFFDIO_REGISTER UFFDIO_UNREGISTER UFFDIO_WAKE UFFDIO_COPY UFFDIO_ZEROPAGE
        UFFDIO_WRITEPROTECT UFFDIO_CONTINUE
    );
}

#[test]
fn layouts_equal_the_kernel_headers() {
    same_layout! {
        uffd_msg { event reserved1 reserved2 reserved3 arg }
        uffdio_api { api features ioctls }
        uffdio_range { start len }
        uffdio_register { range mode ioctls }
        uffdio_copy { dst src len mode copy }
        uffdio_zeropage { range mode zeropage }
        uffdio_writeprotect { range mode }
        uffdio_continue { range mode mapped }
    }
    assert_eq!(
        size_of::<ours::uffd_msg_arg>(),
        size_of::<kernel::uffd_msg__bindgen_ty_1>()
    );
    assert_eq!(
        size_of::<ours::uffd_msg_pagefault>(),
        size_of::<kernel::uffd_msg__bindgen_ty_1__bindgen_ty_1>()
    );
}

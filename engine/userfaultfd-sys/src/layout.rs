//! Structs that cross the system call boundary, with their sizes and offsets asserted.
//!
//! All fields of the `uffdio_*` structs are 64 bits wide, so C's layout has no padding. The last
//! field of most is the kernel's answer: it is not read, only written, and some failures leave it
//! as it was.

/// One event, as read(2) delivers it: 32 bytes.
///
/// ```text
/// 0      1          2          4            8
/// event  reserved1  reserved2  reserved3    arg (24 bytes)
/// ```
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct uffd_msg {
    /// Which event, one of `UFFD_EVENT_*`; says which field of `arg` holds.
    pub event: u8,
    /// Zero.
    pub reserved1: u8,
    /// Zero.
    pub reserved2: u16,
    /// Zero.
    pub reserved3: u32,
    /// What happened.
    pub arg: uffd_msg_arg,
}

/// The payload of a [`uffd_msg`].
#[repr(C)]
#[derive(Clone, Copy)]
pub union uffd_msg_arg {
    /// For `UFFD_EVENT_PAGEFAULT`.
    pub pagefault: uffd_msg_pagefault,
    /// For `UFFD_EVENT_FORK`.
    pub fork: uffd_msg_fork,
    /// For `UFFD_EVENT_REMAP`.
    pub remap: uffd_msg_remap,
    /// For `UFFD_EVENT_REMOVE` and `UFFD_EVENT_UNMAP`.
    pub remove: uffd_msg_remove,
    /// The room the kernel keeps for events to come.
    pub reserved: [u64; 3],
}

/// A thread touched a page that needs help.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct uffd_msg_pagefault {
    /// `UFFD_PAGEFAULT_FLAG_*`.
    pub flags: u64,
    /// Host virtual address, rounded down to a page unless `UFFD_FEATURE_EXACT_ADDRESS` is on.
    pub address: u64,
    /// What a feature adds.
    pub feat: uffd_msg_feat,
}

/// The part of a page fault that a negotiated feature fills in.
#[repr(C)]
#[derive(Clone, Copy)]
pub union uffd_msg_feat {
    /// Thread id of the thread that faulted; zero without `UFFD_FEATURE_THREAD_ID`.
    pub ptid: u32,
}

/// The process forked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffd_msg_fork {
    /// File descriptor of the child's userfaultfd, already open in the reader.
    pub ufd: u32,
}

/// A registered range moved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffd_msg_remap {
    /// Old address.
    pub from: u64,
    /// New address.
    pub to: u64,
    /// Bytes.
    pub len: u64,
}

/// Pages of a registered range were dropped, or the range was unmapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffd_msg_remove {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
}

/// `UFFDIO_API`: the handshake.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_api {
    /// `UFFD_API`.
    pub api: u64,
    /// In: features wanted. Out: features offered.
    pub features: u64,
    /// Out: bit n is set if ioctl number n works on the descriptor.
    pub ioctls: u64,
}

/// A range of host virtual addresses; both fields multiples of the page size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// `UFFDIO_REGISTER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_register {
    /// What to watch.
    pub range: uffdio_range,
    /// `UFFDIO_REGISTER_MODE_*`.
    pub mode: u64,
    /// Out: bit n is set if ioctl number n works on the range.
    pub ioctls: u64,
}

/// `UFFDIO_COPY`: puts bytes into missing pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_copy {
    /// Address of the first missing page.
    pub dst: u64,
    /// Address of the bytes.
    pub src: u64,
    /// Bytes, a multiple of the page size.
    pub len: u64,
    /// `UFFDIO_COPY_MODE_*`.
    pub mode: u64,
    /// Out: bytes placed, or a negated errno.
    pub copy: i64,
}

/// `UFFDIO_ZEROPAGE`: makes missing pages read as zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_zeropage {
    /// Missing pages.
    pub range: uffdio_range,
    /// `UFFDIO_ZEROPAGE_MODE_*`.
    pub mode: u64,
    /// Out: bytes placed, or a negated errno.
    pub zeropage: i64,
}

/// `UFFDIO_WRITEPROTECT`, Linux 5.7.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_writeprotect {
    /// Pages.
    pub range: uffdio_range,
    /// `UFFDIO_WRITEPROTECT_MODE_*`.
    pub mode: u64,
}

/// `UFFDIO_CONTINUE`, Linux 5.13: maps pages that the page cache already holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct uffdio_continue {
    /// Pages.
    pub range: uffdio_range,
    /// `UFFDIO_CONTINUE_MODE_*`.
    pub mode: u64,
    /// Out: bytes mapped, or a negated errno.
    pub mapped: i64,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(size_of::<uffd_msg>() == 32 && align_of::<uffd_msg>() == 1);
    assert!(size_of::<uffd_msg_arg>() == 24);
    assert!(size_of::<uffd_msg_pagefault>() == 24);
    assert!(size_of::<uffdio_api>() == 24);
    assert!(size_of::<uffdio_range>() == 16);
    assert!(size_of::<uffdio_register>() == 32);
    assert!(size_of::<uffdio_copy>() == 40);
    assert!(size_of::<uffdio_zeropage>() == 32);
    assert!(size_of::<uffdio_writeprotect>() == 24);
    assert!(size_of::<uffdio_continue>() == 32);

    assert!(offset_of!(uffd_msg, arg) == 8);
    assert!(offset_of!(uffd_msg_pagefault, address) == 8);
    assert!(offset_of!(uffd_msg_pagefault, feat) == 16);
    assert!(offset_of!(uffdio_register, ioctls) == 24);
    assert!(offset_of!(uffdio_copy, copy) == 32);
    assert!(offset_of!(uffdio_zeropage, zeropage) == 24);
    assert!(offset_of!(uffdio_continue, mapped) == 24);
};

//! What memory can be made of.

#![deny(unsafe_code)]

use std::fs;

use crate::protocol::wide;

/// Where the pages of a [`Memory`](super::Memory) come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private memory of this process.
    Anonymous,
    /// A memfd, mapped shared: another process can map the same pages.
    Shared,
    /// A memfd of 2 MiB pages from the hugetlbfs pool.
    Huge2M,
    /// A memfd of 1 GiB pages from the hugetlbfs pool.
    Huge1G,
}

impl Backing {
    /// Bytes in the smallest piece the kernel places or discards: the machine's page, or the huge
    /// page. A RAM block may use a larger host page made of several of these.
    pub fn page_size(self) -> u64 {
        match self {
            Self::Anonymous | Self::Shared => wide(rustix::param::page_size()),
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }
}

/// How many huge pages the pool must hold to have `needed` free ones, beside those in use now.
pub(super) fn pool_for(page_size: u64, needed: u64) -> u64 {
    let read = |name: &str| -> Option<u64> {
        let kib = page_size >> 10;
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let in_use = || {
        // Reserved ones are free, but not for us.
        let reserved = read("resv_hugepages").unwrap_or(0);
        let used = read("nr_hugepages")?.checked_sub(read("free_hugepages")?)?;
        used.checked_add(reserved)
    };
    in_use().unwrap_or(0).saturating_add(needed)
}

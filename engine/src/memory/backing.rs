//! What memory can be made of.

#![deny(unsafe_code)]

use super::wide;

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

//! What a decoder must be told, because the stream does not say it.

use alloc::vec::Vec;

use crate::error::{DecodeError, Rule};
use crate::forward::ram::is_target_page;
use crate::name::{BlockName, NameBuf};

/// What the stream does not say, and what this reader allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a target page in bytes, until the stream says it: in
    /// POSTCOPY_ADVISE, or in the configuration.
    pub target_page: u64,
    /// Page size in bytes of the RAM blocks that are not listed in
    /// [`page_sizes`](Self::page_sizes). If POSTCOPY_ADVISE rules it out, the
    /// smallest size that it allows is taken instead.
    pub host_page: u64,
    /// Page sizes of single RAM blocks, in bytes. A stream of a postcopy
    /// migration says them too; they are then compared.
    pub page_sizes: Vec<(NameBuf, u64)>,
    /// Takes ZERO records that fill a page with another byte than 0, as
    /// sources before QEMU 8.2 may send them.
    pub nonzero_fill: bool,
    /// Longest machine type name, in bytes.
    pub max_machine_name: u32,
    /// Longest VMDESCRIPTION, in bytes.
    pub max_description: u32,
    /// Largest package, in bytes. QEMU up to 2.11 sent at most 16 MiB.
    pub max_package: u32,
    /// Most RAM blocks.
    pub max_blocks: usize,
    /// Most sections of different numbers.
    pub max_sections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target_page: 4096,
            host_page: 4096,
            page_sizes: Vec::new(),
            nonzero_fill: false,
            max_machine_name: 255,
            max_description: 64 << 20,
            max_package: u32::MAX,
            max_blocks: 4096,
            max_sections: 65_536,
        }
    }
}

impl Options {
    /// The first option that cannot be, as an error at the stream's start.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let fault = |field, rule| DecodeError {
            offset: 0,
            message: None,
            field: Some(field),
            rule,
        };
        if !is_target_page(self.target_page) {
            let size = self.target_page;
            return Err(fault("target_page", Rule::TargetPage { size }));
        }
        if !self.host_page.is_power_of_two() {
            let size = self.host_page;
            return Err(fault("host_page", Rule::HostPage { size }));
        }
        for &(_, size) in &self.page_sizes {
            if !size.is_power_of_two() {
                return Err(fault("page_sizes", Rule::HostPage { size }));
            }
        }
        Ok(())
    }

    /// The page size that the caller gave for this block.
    pub(super) fn listed(&self, name: &[u8]) -> Option<u64> {
        self.page_sizes
            .iter()
            .find(|(listed, _)| listed.name().as_bytes() == name)
            .map(|&(_, size)| size)
    }
}

/// A limit of the caller's, checked.
pub(super) fn within(got: u64, limit: u64) -> Result<(), Rule> {
    if got > limit {
        return Err(Rule::Limit { got, limit });
    }
    Ok(())
}

//! Options of the decoder: properties that are not in the stream, and limits.

use alloc::vec::Vec;

use crate::error::{DecodeError, Rule};
use crate::forward::ram::is_target_page;
use crate::name::{BlockName, NameBuf};

/// Properties that are not in the stream, and limits of the reader.
///
/// ```
/// use retpath_codec::NameBuf;
/// use retpath_codec::forward::{Decoder, Options};
///
/// let options = Options::default()
///     .max_blocks(64)
///     .page_sizes([(NameBuf::new("hugemem")?, 2 << 20)]);
/// let decoder = Decoder::new(options);
/// # Ok::<(), retpath_codec::Rule>(())
/// ```
///
/// # Errors
///
/// Invalid options are reported by the first call of
/// [`Decoder::next`](super::Decoder::next), at offset 0: a target page size that
/// is not a power of two from 1024 to 65536, or a page size that is not a power
/// of two.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Target page size in bytes, until the stream states it in the
    /// configuration or in POSTCOPY_ADVISE. Default: 4096.
    pub target_page: u64,
    /// Page size in bytes of the RAM blocks that are not in
    /// [`page_sizes`](Self::page_sizes). If POSTCOPY_ADVISE does not announce
    /// this size, the smallest size that it announces is used. Default: 4096.
    pub host_page: u64,
    /// Page sizes of single RAM blocks, in bytes. The stream of a postcopy
    /// migration states them as well; a difference is an error. Default: none.
    pub page_sizes: Vec<(NameBuf, u64)>,
    /// Accepts ZERO records that fill a page with a byte other than 0, which
    /// sources before QEMU 8.2 may send. Default: `false`.
    pub nonzero_fill: bool,
    /// Maximum length of the machine type name, in bytes. Default: 255.
    pub max_machine_name: u32,
    /// Maximum length of the VMDESCRIPTION, in bytes. Default: 64 MiB.
    pub max_description: u32,
    /// Maximum size of a package, in bytes. QEMU up to 2.11 sent at most 16 MiB.
    /// Default: 4 GiB - 1, which is what the wire can express.
    pub max_package: u32,
    /// Maximum number of RAM blocks, for each of which the decoder keeps name and
    /// sizes. Default: 4096.
    pub max_blocks: usize,
    /// Maximum number of sections with different ids, which the decoder keeps.
    /// Default: 65536.
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
    /// Sets [`target_page`](field@Self::target_page).
    #[must_use]
    pub fn target_page(mut self, value: u64) -> Self {
        self.target_page = value;
        self
    }

    /// Sets [`host_page`](field@Self::host_page).
    #[must_use]
    pub fn host_page(mut self, value: u64) -> Self {
        self.host_page = value;
        self
    }

    /// Sets [`page_sizes`](field@Self::page_sizes).
    #[must_use]
    pub fn page_sizes(mut self, sizes: impl IntoIterator<Item = (NameBuf, u64)>) -> Self {
        self.page_sizes = sizes.into_iter().collect();
        self
    }

    /// Sets [`nonzero_fill`](field@Self::nonzero_fill).
    #[must_use]
    pub fn nonzero_fill(mut self, value: bool) -> Self {
        self.nonzero_fill = value;
        self
    }

    /// Sets [`max_machine_name`](field@Self::max_machine_name).
    #[must_use]
    pub fn max_machine_name(mut self, value: u32) -> Self {
        self.max_machine_name = value;
        self
    }

    /// Sets [`max_description`](field@Self::max_description).
    #[must_use]
    pub fn max_description(mut self, value: u32) -> Self {
        self.max_description = value;
        self
    }

    /// Sets [`max_package`](field@Self::max_package).
    #[must_use]
    pub fn max_package(mut self, value: u32) -> Self {
        self.max_package = value;
        self
    }

    /// Sets [`max_blocks`](field@Self::max_blocks).
    #[must_use]
    pub fn max_blocks(mut self, value: usize) -> Self {
        self.max_blocks = value;
        self
    }

    /// Sets [`max_sections`](field@Self::max_sections).
    #[must_use]
    pub fn max_sections(mut self, value: usize) -> Self {
        self.max_sections = value;
        self
    }

    /// Checks the options.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let error = |field, rule| DecodeError::new(0, None, Some(field), rule);
        if !is_target_page(self.target_page) {
            let size = self.target_page;
            return Err(error("target_page", Rule::TargetPage { size }));
        }
        if !self.host_page.is_power_of_two() {
            let size = self.host_page;
            return Err(error("host_page", Rule::HostPage { size }));
        }
        for &(_, size) in &self.page_sizes {
            if !size.is_power_of_two() {
                return Err(error("page_sizes", Rule::HostPage { size }));
            }
        }
        Ok(())
    }

    /// Returns the page size that the caller gave for this block.
    pub(super) fn listed(&self, name: &[u8]) -> Option<u64> {
        self.page_sizes
            .iter()
            .find(|(listed, _)| listed.name().as_bytes() == name)
            .map(|&(_, size)| size)
    }
}

/// Checks a number against a limit of the caller.
pub(super) fn within(got: u64, limit: u64) -> Result<(), Rule> {
    if got > limit {
        return Err(Rule::Limit { got, limit });
    }
    Ok(())
}

//! RAM records: what a `ram` section, and the preempt channel, consist of.
//!
//! ```text
//!  offset  size  field
//!       0  8     word, big-endian: an offset in the RAM block in its high
//!                bits, flags in the bits below the target page size
//!       8  1+n   block name with its length; not with CONTINUE, not with
//!                records that belong to no block
//!       .  ...   body, depends on the record
//! ```
//!
//! Mirrors `ram.c:ram_load_precopy`, `ram.c:ram_load_postcopy` and
//! `ram.c:parse_ramblock`.

use crate::forward::BlockId;
use crate::generated::ram as flag;
use crate::name::Name;

/// A RAM record. Offsets are in bytes from the start of the RAM block and
/// multiples of the target page size; `named` says whether the block's name
/// stands in the record (otherwise the record says CONTINUE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A target page that is filled with one byte.
    Zero {
        /// RAM block.
        block: BlockId,
        /// Where the page is.
        offset: u64,
        /// The byte, 0 unless [`Options`](super::Options) allows others.
        fill: u8,
        /// Whether the name is there.
        named: bool,
    },
    /// A target page's contents.
    Page {
        /// RAM block.
        block: BlockId,
        /// Where the page is.
        offset: u64,
        /// The contents, one target page.
        data: &'a [u8],
        /// Whether the name is there.
        named: bool,
    },
    /// The list of RAM blocks follows, as [`Record::Block`]s whose lengths add
    /// up to the total.
    MemSize {
        /// Sum of the lengths in bytes.
        total: u64,
    },
    /// An entry of the list of RAM blocks.
    Block {
        /// The block's place in the list.
        block: BlockId,
        /// Its name.
        name: Name<'a>,
        /// Its used length in bytes.
        len: u64,
        /// Its page size in bytes, if it stands in the stream: with postcopy,
        /// if it is not the usual one.
        page_size: Option<u64>,
        /// Its guest physical address, with `x-ignore-shared` only.
        gpa: Option<u64>,
    },
    /// The difference to the page as it was sent before. Not decoded.
    Xbzrle {
        /// RAM block.
        block: BlockId,
        /// Where the page is.
        offset: u64,
        /// The difference, at most one target page long.
        data: &'a [u8],
        /// Whether the name is there.
        named: bool,
    },
    /// The page, compressed with zlib. Not decoded.
    Compressed {
        /// RAM block.
        block: BlockId,
        /// Where the page is.
        offset: u64,
        /// What zlib made of it.
        data: &'a [u8],
        /// Whether the name is there.
        named: bool,
    },
    /// RDMA only.
    Hook,
    /// Wait until the multifd channels have delivered what they hold.
    MultifdFlush,
    /// The end of the section's payload, or of the preempt channel.
    Eos,
}

impl Record<'_> {
    /// Returns block and offset of the page that the record is about; `None`
    /// for records that are not about a page.
    pub const fn page(&self) -> Option<(BlockId, u64)> {
        match *self {
            Record::Zero { block, offset, .. }
            | Record::Page { block, offset, .. }
            | Record::Xbzrle { block, offset, .. }
            | Record::Compressed { block, offset, .. } => Some((block, offset)),
            _ => None,
        }
    }

    /// The flag that says which record it is; `None` for an entry of the list
    /// of RAM blocks, which has no word.
    pub const fn flag(&self) -> Option<u64> {
        Some(match self {
            Record::Zero { .. } => flag::ZERO,
            Record::Page { .. } => flag::PAGE,
            Record::MemSize { .. } => flag::MEM_SIZE,
            Record::Block { .. } => return None,
            Record::Xbzrle { .. } => flag::XBZRLE,
            Record::Compressed { .. } => flag::COMPRESS_PAGE,
            Record::Hook => flag::HOOK,
            Record::MultifdFlush => flag::MULTIFD_FLUSH,
            Record::Eos => flag::EOS,
        })
    }

    /// Name that people use, such as `ZERO`.
    pub fn label(&self) -> &'static str {
        self.flag().and_then(flag::label).unwrap_or("BLOCK")
    }
}

/// Most bytes that zlib makes of `len` bytes, which are at most 64 KiB.
pub(super) const fn compress_bound(len: usize) -> usize {
    len + (len >> 12) + (len >> 14) + 13
}

/// Whether a target page can have this size.
pub(super) const fn is_target_page(size: u64) -> bool {
    size.is_power_of_two() && flag::MIN_TARGET_PAGE <= size && size <= flag::MAX_TARGET_PAGE
}

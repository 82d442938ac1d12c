//! RAM records, of which `ram` sections and the preempt channel consist.
//!
//! ```text
//!  offset  size  field
//!       0  8     offset in the RAM block, in bytes, combined with flags in
//!                the bits below the target page size; big-endian
//!       8  1+n   length byte and block name; omitted with the flag CONTINUE
//!                and by records without a block
//!       .  ...   depends on the record:
//!                ZERO           1  fill byte
//!                PAGE           target page size; the contents
//!                XBZRLE         1  encoding, 2  length n, n  difference
//!                COMPRESS_PAGE  4  length n, n  zlib stream
//! ```
//!
//! The block list consists of entries without flags:
//!
//! ```text
//!  offset  size  field
//!       0  1+n   length byte and block name
//!     1+n  8     used length in bytes, big-endian
//!       .  8     page size in bytes; with postcopy, if not the usual one
//!       .  8     guest physical address; with x-ignore-shared
//! ```
//!
//! Mirrors `ram.c:ram_load_precopy`, `ram.c:ram_load_postcopy` and
//! `ram.c:parse_ramblock`.
//!
//! ```
//! use retpath_codec::forward::BlockIndex;
//! use retpath_codec::forward::ram::Record;
//!
//! let record = Record::Zero { block: BlockIndex::new(0), offset: 0x2000, fill: 0, named: true };
//! assert_eq!(record.label(), "ZERO");
//! assert_eq!(record.page(), Some((BlockIndex::new(0), 0x2000)));
//! ```

use crate::forward::BlockIndex;
use crate::generated::ram as flag;
use crate::name::Name;

/// A RAM record.
///
/// Offsets are in bytes from the start of the RAM block and multiples of the
/// target page size. `named` is whether the record contains the block name;
/// otherwise it has the flag CONTINUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A target page filled with one byte.
    Zero {
        /// RAM block.
        block: BlockIndex,
        /// Offset of the page.
        offset: u64,
        /// The byte; 0 unless [`Options::nonzero_fill`](super::Options) is set.
        fill: u8,
        /// Whether the record contains the block name.
        named: bool,
    },
    /// The contents of a target page.
    Page {
        /// RAM block.
        block: BlockIndex,
        /// Offset of the page.
        offset: u64,
        /// The contents; one target page.
        data: &'a [u8],
        /// Whether the record contains the block name.
        named: bool,
    },
    /// The start of the block list: [`Record::Block`]s follow, whose lengths add
    /// up to the total.
    MemSize {
        /// Sum of the lengths of the RAM blocks, in bytes.
        total: u64,
    },
    /// An entry of the block list.
    Block {
        /// Index of the block.
        block: BlockIndex,
        /// Name of the block.
        name: Name<'a>,
        /// Used length in bytes.
        len: u64,
        /// Page size in bytes, if the stream states it: with postcopy, if it is
        /// not the larger one of host page size and target page size.
        page_size: Option<u64>,
        /// Guest physical address; with `x-ignore-shared` only.
        gpa: Option<u64>,
    },
    /// The difference from the previously sent contents of the page, in XBZRLE
    /// encoding, which this crate does not decode.
    Xbzrle {
        /// RAM block.
        block: BlockIndex,
        /// Offset of the page.
        offset: u64,
        /// The encoded difference; at most one target page.
        data: &'a [u8],
        /// Whether the record contains the block name.
        named: bool,
    },
    /// A page that is compressed with zlib, which this crate does not
    /// decompress.
    Compressed {
        /// RAM block.
        block: BlockIndex,
        /// Offset of the page.
        offset: u64,
        /// The zlib stream.
        data: &'a [u8],
        /// Whether the record contains the block name.
        named: bool,
    },
    /// Used by RDMA migration only.
    Hook,
    /// The destination must wait for the data of the multifd channels.
    MultifdFlush,
    /// The end of the payload of the section, or of the preempt channel.
    Eos,
}

impl Record<'_> {
    /// Returns block and offset of the page that the record is about; `None`
    /// for records that are not about a page.
    pub const fn page(&self) -> Option<(BlockIndex, u64)> {
        match *self {
            Record::Zero { block, offset, .. }
            | Record::Page { block, offset, .. }
            | Record::Xbzrle { block, offset, .. }
            | Record::Compressed { block, offset, .. } => Some((block, offset)),
            _ => None,
        }
    }

    /// Returns the flag that identifies the record; `None` for
    /// [`Record::Block`], which has no flags.
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

    /// Returns the name of the record, such as `ZERO`.
    pub fn label(&self) -> &'static str {
        self.flag().and_then(flag::label).unwrap_or("BLOCK")
    }
}

/// Returns the maximum size of the zlib stream of `len` bytes, at most 64 KiB.
pub(super) const fn compress_bound(len: usize) -> usize {
    len + (len >> 12) + (len >> 14) + 13
}

/// Returns whether a target page can have this size.
pub(super) const fn is_target_page(size: u64) -> bool {
    size.is_power_of_two() && flag::MIN_TARGET_PAGE <= size && size <= flag::MAX_TARGET_PAGE
}

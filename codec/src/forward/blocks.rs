//! The RAM blocks of a stream.
//!
//! A decoder that has not seen the block list learns each block from the first
//! record that names it; the length of such a block is unknown.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::command::{PageSizes, Range};
use crate::error::Rule;
use crate::forward::options::{Options, within};
use crate::name::{BlockName, Name, NameBuf};

/// A RAM block as a stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamBlock {
    /// Name of the block.
    pub name: NameBuf,
    /// Used length in bytes; `None` when the decoder has not seen the block
    /// list.
    pub len: Option<u64>,
    /// Page size in bytes: from the stream, else from
    /// [`Options::page_sizes`], else the default of the stream.
    pub page_size: u64,
}

impl StreamBlock {
    /// Makes a block.
    pub const fn new(name: NameBuf, len: Option<u64>, page_size: u64) -> Self {
        Self {
            name,
            len,
            page_size,
        }
    }
}

/// Index of a RAM block in [`Decoder::blocks`](super::Decoder::blocks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(u32);

impl BlockIndex {
    /// Makes the id of the block at this index.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Returns the index into [`Decoder::blocks`](super::Decoder::blocks).
    pub fn index(self) -> usize {
        // Lossless on targets with at least 32 bits.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The blocks, and what their page sizes follow from.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    list: Vec<StreamBlock>,
    /// Indices into `list`, sorted by name. The source chooses how many blocks there
    /// are, up to [`Options::max_blocks`], and names one in any record.
    by_name: Vec<u32>,
    /// Whether blocks are learned from names in records.
    learns: bool,
    /// The page sizes in POSTCOPY_ADVISE.
    pub(super) sizes: Option<PageSizes>,
}

/// A block that a record names.
#[derive(Clone, Copy)]
pub(super) enum Found {
    Known(BlockIndex),
    /// A block to add once the record is complete.
    New(BlockIndex),
}

impl Found {
    pub(super) fn id(self) -> BlockIndex {
        match self {
            Found::Known(id) | Found::New(id) => id,
        }
    }
}

impl Blocks {
    pub(super) fn new(learns: bool) -> Self {
        Self {
            list: Vec::new(),
            by_name: Vec::new(),
            learns,
            sizes: None,
        }
    }

    pub(super) fn learns(&self) -> bool {
        self.learns
    }

    pub(super) fn list(&self) -> &[StreamBlock] {
        &self.list
    }

    pub(super) fn id(&self, name: &[u8]) -> Option<BlockIndex> {
        let at = self.position(name).ok()?;
        self.by_name.get(at).copied().map(BlockIndex)
    }

    /// Searches `by_name`; as [`slice::binary_search`].
    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&id| {
            let block = self.list.get(BlockIndex(id).index());
            block.map_or(Ordering::Less, |block| {
                block.name.name().as_bytes().cmp(name)
            })
        })
    }

    /// Finds the block that a record or command names.
    pub(super) fn find(&self, name: Name<'_>, options: &Options) -> Result<Found, Rule> {
        match self.id(name.as_bytes()) {
            Some(id) => Ok(Found::Known(id)),
            None if self.learns => self.room(options).map(Found::New),
            None => Err(Rule::UnknownBlock),
        }
    }

    /// Returns the id for one more block.
    pub(super) fn room(&self, options: &Options) -> Result<BlockIndex, Rule> {
        // Ids have 32 bits, whatever the caller allows.
        let limit = u32::try_from(options.max_blocks).unwrap_or(u32::MAX);
        let count = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        within(u64::from(count) + 1, limit.into())?;
        Ok(BlockIndex(count))
    }

    /// Adds a block. Among blocks of one name, which only a caller can pass, the
    /// first is found.
    pub(super) fn push(&mut self, block: StreamBlock) {
        let id = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        if let Err(at) = self.position(block.name.name().as_bytes()) {
            self.by_name.insert(at, id);
        }
        self.list.push(block);
    }

    /// Adds a block of which only the name is known.
    pub(super) fn learn(&mut self, name: Name<'_>, options: &Options) {
        self.push(StreamBlock {
            name: name.to_buf(),
            len: None,
            page_size: options
                .listed(name.as_bytes())
                .unwrap_or(self.usual(options)),
        });
    }

    /// Returns the page size of blocks whose page size is not stated.
    pub(super) fn usual(&self, options: &Options) -> u64 {
        match self.sizes {
            Some(PageSizes { summary, .. }) if summary & options.host_page == 0 => {
                // The lowest bit is the host page size of the source.
                summary & summary.wrapping_neg()
            }
            _ => options.host_page,
        }
    }

    /// Checks that `len` bytes from `start` are inside the block.
    pub(super) fn check(&self, id: BlockIndex, start: u64, len: u64) -> Result<(), Rule> {
        let Some(block) = self.list.get(id.index()) else {
            // About to be learned: its length is unknown.
            return Range::new(start, len).map(drop);
        };
        match (start.checked_add(len), block.len) {
            (None, _) => Err(Rule::Overflow { start, len }),
            (Some(end), Some(limit)) if end > limit => Err(Rule::PastBlock { start, len: limit }),
            _ => Ok(()),
        }
    }

    /// Checks that a range is inside the block and consists of complete pages.
    pub(super) fn check_range(&self, id: BlockIndex, range: Range) -> Result<(), Rule> {
        self.check(id, range.start, range.len)?;
        let page = self.list.get(id.index()).map_or(1, |block| block.page_size);
        aligned(range.start, page)?;
        aligned(range.len, page)
    }
}

/// Checks that a number is a multiple of a page size.
pub(super) fn aligned(value: u64, page: u64) -> Result<(), Rule> {
    match value.checked_rem(page) {
        Some(0) => Ok(()),
        _ => Err(Rule::Misaligned { value, page }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_blocks_sorted_by_name() {
        let mut blocks = Blocks::new(false);
        let names = (0..256_u32).map(|i| alloc::format!("{}", i * 167 % 256));
        for (i, name) in (0..).zip(names) {
            let name = NameBuf::new(name).unwrap();
            assert_eq!(blocks.id(name.name().as_bytes()), None);
            blocks.push(StreamBlock::new(name.clone(), None, 4096));
            assert_eq!(blocks.id(name.name().as_bytes()), Some(BlockIndex::new(i)));
        }
        let sorted = blocks.by_name.iter();
        let name = |&id: &u32| blocks.list[BlockIndex(id).index()].name.clone();
        assert!(sorted.clone().map(name).is_sorted());
        assert_eq!(sorted.len(), 256);
    }
}

//! The RAM blocks that a stream has announced.
//!
//! In a blind decoder, which has not seen the announcement, a block is known
//! from the first record that names it, and its length stays unknown.

use alloc::vec::Vec;

use crate::command::{PageSizes, Range};
use crate::error::Rule;
use crate::forward::options::{Options, within};
use crate::name::{BlockName, Name, NameBuf};

/// A RAM block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its name.
    pub name: NameBuf,
    /// Its used length in bytes, if it has been announced on a channel that
    /// the decoder has seen.
    pub len: Option<u64>,
    /// Its page size in bytes: the stream's, the caller's, or the usual one.
    pub page_size: u64,
}

/// A RAM block's place in [`Decoder::blocks`](super::Decoder::blocks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u32);

impl BlockId {
    /// The block at this index.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Index into [`Decoder::blocks`](super::Decoder::blocks).
    pub fn index(self) -> usize {
        // Nothing with fewer than 32 bits is big enough for RAM blocks.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The blocks, and how page sizes are found.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    list: Vec<Block>,
    /// Whether names that are not in the list are taken up.
    learns: bool,
    /// What POSTCOPY_ADVISE said.
    pub(super) sizes: Option<PageSizes>,
}

/// A block that a record names.
#[derive(Clone, Copy)]
pub(super) enum Found {
    Known(BlockId),
    /// One to be taken up once the whole record is there.
    New(BlockId),
}

impl Found {
    pub(super) fn id(self) -> BlockId {
        match self {
            Found::Known(id) | Found::New(id) => id,
        }
    }
}

impl Blocks {
    pub(super) fn new(learns: bool) -> Self {
        Self {
            list: Vec::new(),
            learns,
            sizes: None,
        }
    }

    pub(super) fn learns(&self) -> bool {
        self.learns
    }

    pub(super) fn list(&self) -> &[Block] {
        &self.list
    }

    pub(super) fn id(&self, name: &[u8]) -> Option<BlockId> {
        let index = self
            .list
            .iter()
            .position(|block| block.name.name().as_bytes() == name)?;
        u32::try_from(index).ok().map(BlockId)
    }

    /// The block that a record or a command names.
    pub(super) fn find(&self, name: Name<'_>, options: &Options) -> Result<Found, Rule> {
        match self.id(name.as_bytes()) {
            Some(id) => Ok(Found::Known(id)),
            None if self.learns => self.room(options).map(Found::New),
            None => Err(Rule::UnknownBlock),
        }
    }

    /// The place of one more block.
    pub(super) fn room(&self, options: &Options) -> Result<BlockId, Rule> {
        // So that a block's number has 32 bits, whatever the caller allows.
        let limit = u32::try_from(options.max_blocks).unwrap_or(u32::MAX);
        let count = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        within(u64::from(count) + 1, limit.into())?;
        Ok(BlockId(count))
    }

    pub(super) fn push(&mut self, block: Block) {
        self.list.push(block);
    }

    /// Takes up a block of which only the name is known.
    pub(super) fn learn(&mut self, name: Name<'_>, options: &Options) {
        self.push(Block {
            name: name.to_buf(),
            len: None,
            page_size: options
                .listed(name.as_bytes())
                .unwrap_or(self.usual(options)),
        });
    }

    /// The page size of a block of which nothing else is said.
    pub(super) fn usual(&self, options: &Options) -> u64 {
        match self.sizes {
            Some(PageSizes { summary, .. }) if summary & options.host_page == 0 => {
                // The lowest bit: the source's host page.
                summary & summary.wrapping_neg()
            }
            _ => options.host_page,
        }
    }

    /// Checks that `len` bytes at `start` lie in a block.
    pub(super) fn check(&self, id: BlockId, start: u64, len: u64) -> Result<(), Rule> {
        let Some(block) = self.list.get(id.index()) else {
            // One that is about to be learned: it has no length.
            return Range::new(start, len).map(drop);
        };
        match (start.checked_add(len), block.len) {
            (None, _) => Err(Rule::Overflow { start, len }),
            (Some(end), Some(limit)) if end > limit => Err(Rule::PastBlock { start, len: limit }),
            _ => Ok(()),
        }
    }

    /// Checks that a range lies in a block and consists of whole pages of it.
    pub(super) fn check_range(&self, id: BlockId, range: Range) -> Result<(), Rule> {
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

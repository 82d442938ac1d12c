//! RAM blocks: names, lengths and page sizes.
//!
//! Every offset and length from a peer or from the kernel is checked here, without
//! wrapping, before it is used.

use std::fmt;

use retpath_codec::{BlockName, Name, NameBuf};

/// Number of a RAM block: its index in the block list.
pub type BlockId = usize;

/// A RAM block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name in the block list.
    pub name: NameBuf,
    /// Length in bytes, a multiple of `page`.
    pub len: u64,
    /// Host page size in bytes: the unit of requests and placement. A power of two,
    /// and a multiple of the target page size.
    pub page: u64,
}

/// A range of a RAM block, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The RAM block.
    pub block: BlockId,
    /// Offset in the block.
    pub offset: u64,
    /// Length.
    pub len: u64,
}

impl Span {
    /// Offset of its end in the block.
    pub fn end(self) -> u64 {
        self.offset + self.len
    }

    /// Whether the ranges have bytes in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.block == other.block && self.offset < other.end() && other.offset < self.end()
    }
}

/// The RAM blocks of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    list: Vec<Block>,
    /// Their numbers, in order of their names.
    by_name: Vec<BlockId>,
    target: u64,
}

/// Invalid block or range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockError {
    /// The target page size is not a power of two of at least 1 KiB.
    TargetPage {
        /// The size in bytes.
        size: u64,
    },
    /// The host page size is not a power of two, or smaller than a target page.
    HostPage {
        /// The size in bytes.
        size: u64,
    },
    /// The block's length is 0 or not a multiple of its page size.
    Length {
        /// The length in bytes.
        len: u64,
        /// The block's host page size in bytes.
        page: u64,
    },
    /// Two blocks have the same name.
    Twice,
    /// No block has this name or number.
    Unknown,
    /// The range is empty.
    Empty,
    /// The range ends past the end of its block.
    Overrun {
        /// Its start in bytes.
        start: u64,
        /// Its length in bytes.
        len: u64,
        /// The block's length in bytes.
        block: u64,
    },
    /// The range does not begin and end at page boundaries.
    Unaligned {
        /// Its start in bytes.
        start: u64,
        /// Its length in bytes.
        len: u64,
        /// The page size in bytes.
        page: u64,
    },
}

impl Blocks {
    /// Makes an empty list for target pages of `target` bytes.
    ///
    /// # Errors
    ///
    /// [`BlockError::TargetPage`].
    pub fn new(target: u64) -> Result<Self, BlockError> {
        if !target.is_power_of_two() || target < 1024 {
            return Err(BlockError::TargetPage { size: target });
        }
        Ok(Self {
            list: Vec::new(),
            by_name: Vec::new(),
            target,
        })
    }

    /// Adds a block and returns its number.
    ///
    /// # Errors
    ///
    /// [`BlockError::HostPage`], [`BlockError::Length`], [`BlockError::Twice`].
    pub fn add(&mut self, block: Block) -> Result<BlockId, BlockError> {
        if !block.page.is_power_of_two() || block.page < self.target {
            return Err(BlockError::HostPage { size: block.page });
        }
        if block.len == 0 || !block.len.is_multiple_of(block.page) {
            return Err(BlockError::Length {
                len: block.len,
                page: block.page,
            });
        }
        let id = self.list.len();
        match self.place_of(block.name.name()) {
            Ok(_) => return Err(BlockError::Twice),
            Err(place) => self.by_name.insert(place, id),
        }
        self.list.push(block);
        Ok(id)
    }

    /// Target page size in bytes.
    pub fn target(&self) -> u64 {
        self.target
    }

    /// The blocks, in order of their numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Block> {
        self.list.iter()
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A block by its number.
    ///
    /// # Errors
    ///
    /// [`BlockError::Unknown`].
    pub fn block(&self, id: BlockId) -> Result<&Block, BlockError> {
        self.list.get(id).ok_or(BlockError::Unknown)
    }

    /// A block's number by its name.
    pub fn find(&self, name: Name<'_>) -> Option<BlockId> {
        self.place_of(name).ok().map(|place| self.by_name[place])
    }

    /// The place of a name in `by_name`, or where it belongs.
    fn place_of(&self, name: Name<'_>) -> Result<usize, usize> {
        let name_of = |id: &BlockId| self.list[*id].name.name().as_bytes();
        self.by_name
            .binary_search_by(|id| name_of(id).cmp(name.as_bytes()))
    }

    /// The number of target pages of a block; 0 if there is no such block.
    pub fn target_pages(&self, id: BlockId) -> u64 {
        self.list.get(id).map_or(0, |block| block.len / self.target)
    }

    /// The number of target pages of all blocks.
    pub fn total_pages(&self) -> u64 {
        self.list.iter().map(|block| block.len / self.target).sum()
    }

    /// Bitwise OR of all page sizes, as in POSTCOPY_ADVISE.
    pub fn page_summary(&self) -> u64 {
        self.list
            .iter()
            .fold(0, |summary, block| summary | block.page)
    }

    /// Checks that a range lies inside its block and consists of whole pages of `page`
    /// bytes. Returns the block.
    ///
    /// # Errors
    ///
    /// [`BlockError::Unknown`], [`BlockError::Empty`], [`BlockError::Overrun`]
    /// and [`BlockError::Unaligned`].
    pub fn check(
        &self,
        id: BlockId,
        start: u64,
        len: u64,
        page: u64,
    ) -> Result<&Block, BlockError> {
        let block = self.block(id)?;
        if len == 0 {
            return Err(BlockError::Empty);
        }
        if start.checked_add(len).is_none_or(|end| end > block.len) {
            return Err(BlockError::Overrun {
                start,
                len,
                block: block.len,
            });
        }
        if !start.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(BlockError::Unaligned { start, len, page });
        }
        Ok(block)
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BlockError::TargetPage { size } => {
                write!(
                    f,
                    "target page size {size}: must be a power of two of at least 1024"
                )
            }
            BlockError::HostPage { size } => write!(
                f,
                "host page size {size}: must be a power of two and at least the target page size"
            ),
            BlockError::Length { len, page } => {
                write!(
                    f,
                    "block length {len}: must be a positive multiple of its page size {page}"
                )
            }
            BlockError::Twice => f.write_str("two blocks have the same name"),
            BlockError::Unknown => f.write_str("no such block"),
            BlockError::Empty => f.write_str("empty range"),
            BlockError::Overrun { start, len, block } => write!(
                f,
                "range 0x{start:x} + 0x{len:x} exceeds the block length 0x{block:x}"
            ),
            BlockError::Unaligned { start, len, page } => {
                write!(
                    f,
                    "range 0x{start:x} + 0x{len:x} is not aligned to the page size {page}"
                )
            }
        }
    }
}

impl std::error::Error for BlockError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(len: u64, page: u64) -> Result<Blocks, BlockError> {
        let mut blocks = Blocks::new(4096)?;
        let name = NameBuf::new("pc.ram").expect("valid name");
        blocks.add(Block { name, len, page })?;
        Ok(blocks)
    }

    #[test]
    fn refuses_invalid_page_sizes() {
        assert!(Blocks::new(512).is_err());
        assert!(Blocks::new(4097).is_err());
        assert_eq!(one(8192, 2048), Err(BlockError::HostPage { size: 2048 }));
        assert_eq!(one(8192, 12288), Err(BlockError::HostPage { size: 12288 }));
        assert_eq!(one(0, 4096), Err(BlockError::Length { len: 0, page: 4096 }));
        assert_eq!(
            one(4096, 65536),
            Err(BlockError::Length {
                len: 4096,
                page: 65536
            })
        );
    }

    #[test]
    fn refuses_a_duplicate_name() {
        let mut blocks = one(4096, 4096).expect("valid block");
        let again = blocks.block(0).expect("block 0").clone();
        assert_eq!(blocks.add(again), Err(BlockError::Twice));
    }

    #[test]
    fn numbers_the_blocks_and_counts_their_pages() {
        let mut blocks = one(1 << 21, 1 << 16).expect("valid block");
        let name = NameBuf::new("vga.vram").expect("valid name");
        let (len, page) = (5 << 12, 1 << 12);
        assert_eq!(blocks.add(Block { name, len, page }), Ok(1));
        assert_eq!((blocks.len(), blocks.is_empty()), (2, false));
        assert_eq!((blocks.target_pages(1), blocks.total_pages()), (5, 517));
        assert_eq!(
            (blocks.target_pages(2), blocks.page_summary()),
            (0, 0x11000)
        );
    }

    #[test]
    fn checks_ranges_without_wrapping() {
        let blocks = one(1 << 21, 1 << 16).expect("valid block");
        let page = 1 << 16;
        assert_eq!(blocks.check(0, 0, 1 << 21, page), blocks.block(0));
        assert_eq!(blocks.check(1, 0, page, page), Err(BlockError::Unknown));
        assert_eq!(blocks.check(0, 0, 0, page), Err(BlockError::Empty));
        for (start, len) in [(1 << 21, page), (u64::MAX - 0xffff, page), (page, u64::MAX)] {
            let want = BlockError::Overrun {
                start,
                len,
                block: 1 << 21,
            };
            assert_eq!(blocks.check(0, start, len, page), Err(want));
        }
        for (start, len) in [(4096, page), (0, 4096)] {
            let want = BlockError::Unaligned { start, len, page };
            assert_eq!(blocks.check(0, start, len, page), Err(want));
        }
        assert_eq!(blocks.page_summary(), page);
        assert_eq!(blocks.target_pages(0), 512);
    }
}

//! The list of RAM blocks, with which a `ram` section starts.
//!
//! Mirrors `ram.c:parse_ramblocks`. A block's bitmaps are allocated when it is announced,
//! so its length is checked against the limit first.

use retpath_codec::{BlockName, Name, forward};

use super::{Action, Cause, Destination, ErrorKind, MAX_BLOCKS};
use crate::blocks::{Block, BlockId, Blocks};

impl Destination {
    /// Handles an entry of the block list.
    pub(super) fn block(
        &mut self,
        number: forward::BlockIndex,
        name: Name<'_>,
        len: u64,
        page_size: Option<u64>,
    ) -> Result<(), Cause> {
        let cause = |kind| Cause::in_block(name, kind);
        if number.index() != self.blocks.len() {
            let what = "RAM blocks must be numbered in the order of their announcement";
            return Err(cause(ErrorKind::Misuse(what)));
        }
        let page = match (self.listed_page(name), page_size) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(cause(ErrorKind::PageSize { ours, theirs }));
            }
            (listed, announced) => listed.or(announced).unwrap_or(self.usual_page()),
        };
        let block = Block {
            name: name.to_buf(),
            len,
            page,
        };
        let id = self.add_block(block).map_err(cause)?;
        self.actions.push_back(Action::Block { id });
        Ok(())
    }

    /// Adds a block, all of whose pages are missing.
    pub(super) fn add_block(&mut self, block: Block) -> Result<BlockId, ErrorKind> {
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(ErrorKind::TooManyBlocks);
        }
        if u32::try_from(block.page).is_err() {
            return Err(ErrorKind::PageTooLarge { page: block.page });
        }
        let limit = self.config.max_ram;
        let used = self.blocks.total_pages() * self.blocks.target();
        // Without a limit, too: sizes in bytes are 64-bit numbers.
        if used.checked_add(block.len).is_none_or(|sum| sum > limit) {
            let total = used.saturating_add(block.len);
            return Err(ErrorKind::TooMuchRam { total, limit });
        }
        if self.blocks.is_empty() {
            self.blocks = Blocks::new(self.config.target_page).map_err(ErrorKind::Block)?;
        }
        let id = self.blocks.add(block.clone()).map_err(ErrorKind::Block)?;
        self.pages.add(&block, self.config.target_page);
        Ok(id)
    }

    /// The configured host page size of a block.
    fn listed_page(&self, name: Name<'_>) -> Option<u64> {
        let mut listed = self.config.page_sizes.iter();
        let (_, page) = listed.find(|(block, _)| block.name() == name)?;
        Some(*page)
    }

    /// The host page size of a block without a configured one: that of the source's host,
    /// which is the smallest in POSTCOPY_ADVISE.
    fn usual_page(&self) -> u64 {
        let ours = self.config.host_page.max(self.config.target_page);
        match self.advice {
            Some(advice) if advice.summary != 0 && advice.summary & ours == 0 => {
                1 << advice.summary.trailing_zeros()
            }
            _ => ours,
        }
    }
}

//! The list of RAM blocks, with which a `ram` section starts.
//!
//! Mirrors `ram.c:parse_ramblocks`. Bitmaps are made for a block when it is
//! announced, so its length is checked against the limit first.

use retpath_codec::{BlockName, Name, forward};

use super::{Action, Destination, Flaw, MAX_BLOCKS, Place, What};
use crate::blocks::{Block, BlockId, Blocks};

impl Destination {
    /// A line of the block list.
    pub(super) fn block(
        &mut self,
        number: forward::BlockId,
        name: Name<'_>,
        len: u64,
        page_size: Option<u64>,
    ) -> Result<(), Flaw> {
        let flaw = |what| Flaw {
            what,
            place: Some(Place {
                block: name.to_buf(),
                offset: None,
            }),
        };
        let next = self.blocks.len();
        if number.index() != next {
            return Err(flaw(What::BlockNumber { next }));
        }
        let page = match (self.listed_page(name), page_size) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(flaw(What::PageSize { ours, theirs }));
            }
            (listed, announced) => listed.or(announced).unwrap_or(self.usual_page()),
        };
        let block = Block {
            name: name.to_buf(),
            len,
            page,
        };
        let id = self.add_block(block).map_err(flaw)?;
        self.actions.push_back(Action::Block { id });
        Ok(())
    }

    /// Adds a block of which every page is missing.
    pub(super) fn add_block(&mut self, block: Block) -> Result<BlockId, What> {
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(What::TooManyBlocks);
        }
        if u32::try_from(block.page).is_err() {
            return Err(What::PageTooLarge { page: block.page });
        }
        let (total, limit) = (self.ram.saturating_add(block.len), self.config.max_ram);
        if total > limit {
            return Err(What::TooMuchRam { total, limit });
        }
        if self.blocks.is_empty() {
            self.blocks = Blocks::new(self.target).map_err(What::Block)?;
        }
        let id = self.blocks.add(block.clone()).map_err(What::Block)?;
        self.pages.add(&block, self.target);
        self.ram = total;
        Ok(id)
    }

    /// The host page size of a block, if the settings have it.
    fn listed_page(&self, name: Name<'_>) -> Option<u64> {
        let mut listed = self.config.page_sizes.iter();
        let (_, page) = listed.find(|(block, _)| block.name() == name)?;
        Some(*page)
    }

    /// The host page size of a block of which nothing is said: that of the
    /// source's host, the smallest one in POSTCOPY_ADVISE.
    fn usual_page(&self) -> u64 {
        let ours = self.config.host_page.max(self.target);
        match self.advice {
            Some(advice) if advice.summary != 0 && advice.summary & ours == 0 => {
                1 << advice.summary.trailing_zeros()
            }
            _ => ours,
        }
    }
}

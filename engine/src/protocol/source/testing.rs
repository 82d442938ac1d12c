//! Helpers of this module's unit tests.

use retpath_codec::NameBuf;

use crate::blocks::{Block, Blocks};

/// Blocks with the given numbers and sizes of host pages.
pub(crate) fn blocks(sizes: &[(u64, u64)]) -> Blocks {
    let mut blocks = Blocks::new(4096).expect("valid page size");
    for (i, (pages, page)) in sizes.iter().enumerate() {
        let name = match i {
            0 => "pc.ram".into(),
            _ => format!("block{i}"),
        };
        let block = Block {
            name: NameBuf::new(name).expect("valid name"),
            len: pages * page,
            page: *page,
        };
        blocks.add(block).expect("valid block");
    }
    blocks
}

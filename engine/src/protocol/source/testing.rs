//! What the tests of this module share.

use retpath_codec::NameBuf;

use crate::blocks::{Block, Blocks};

/// Blocks of some host pages each: how many, and how large.
pub(super) fn blocks(sizes: &[(u64, u64)]) -> Blocks {
    let mut blocks = Blocks::new(4096).expect("a good page size");
    for (i, (pages, page)) in sizes.iter().enumerate() {
        let name = match i {
            0 => "pc.ram".into(),
            _ => format!("block{i}"),
        };
        let block = Block {
            name: NameBuf::new(name).expect("a good name"),
            len: pages * page,
            page: *page,
        };
        blocks.add(block).expect("a good block");
    }
    blocks
}

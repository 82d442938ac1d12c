//! Helpers of this module's unit tests.

use retpath_codec::NameBuf;

use crate::blocks::{Block, Blocks};

/// Blocks with the given numbers and sizes of host pages.
pub(super) fn blocks(sizes: &[(u64, u64)]) -> Blocks {
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

/// A small random generator (splitmix64).
pub(super) struct Seed(pub(super) u64);

impl Seed {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

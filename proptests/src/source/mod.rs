//! Properties of the source core: against a model with a naive destination, and
//! against a hostile destination.

mod hostile;
mod model;
pub mod peer;
pub mod rig;

use retpath_codec::NameBuf;

pub use self::hostile::hostile;
pub use self::model::migration;

use crate::choices::Choices;
use retpath_engine::blocks::{Block, Blocks};

/// Target page size in bytes: the smallest valid one, which keeps migrations short.
const TARGET: u64 = 1024;

/// Interprets `bytes` as a source's lifetime: a migration compared with the
/// model, or arbitrary messages and calls.
pub fn source(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else {
        return;
    };
    let choices = &mut Choices::from_bytes(bytes);
    match mode % 2 {
        0 => migration(choices),
        _ => drop(hostile(choices)),
    }
}

/// Creates blocks of the given (number, size) of host pages.
pub fn blocks(sizes: &[(u64, u64)]) -> Blocks {
    blocks_of(4096, sizes)
}

/// Creates such blocks with target pages of `target` bytes.
fn blocks_of(target: u64, sizes: &[(u64, u64)]) -> Blocks {
    let mut blocks = Blocks::new(target).expect("valid page size");
    for (i, (pages, page)) in sizes.iter().enumerate() {
        let name = if i == 0 {
            "pc.ram".into()
        } else {
            format!("block{i}")
        };
        let name = NameBuf::new(name).expect("valid name");
        let block = Block {
            name,
            len: pages * page,
            page: *page,
        };
        blocks.add(block).expect("valid block");
    }
    blocks
}

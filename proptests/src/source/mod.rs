//! The source core: against a model of it and a destination that knows nothing
//! but sets, and against a destination that keeps no rule at all.

mod hostile;
mod model;
pub mod peer;
pub mod rig;

use retpath_codec::NameBuf;

pub use self::hostile::hostile;
pub use self::model::migration;

use crate::choices::Choices;
use retpath_engine::blocks::{Block, Blocks};

/// Target page size in bytes: the smallest that there is, so that a migration
/// is over soon.
const TARGET: u64 = 1024;

/// The bytes are a source's life: a migration that is compared with the model,
/// or messages and calls of any kind with any values.
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

/// Blocks of some host pages each: how many, and how large.
pub fn blocks(sizes: &[(u64, u64)]) -> Blocks {
    blocks_of(4096, sizes)
}

/// The same, with target pages of this size.
fn blocks_of(target: u64, sizes: &[(u64, u64)]) -> Blocks {
    let mut blocks = Blocks::new(target).expect("a good page size");
    for (i, (pages, page)) in sizes.iter().enumerate() {
        let name = if i == 0 {
            "pc.ram".into()
        } else {
            format!("block{i}")
        };
        let name = NameBuf::new(name).expect("a good name");
        let block = Block {
            name,
            len: pages * page,
            page: *page,
        };
        blocks.add(block).expect("a good block");
    }
    blocks
}

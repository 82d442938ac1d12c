//! Working sets of images: any bytes, and any order.

use proptest::collection::vec;
use proptest::prelude::*;

use retpath_codec::NameBuf;
use retpath_engine::blocks::{Block, Blocks, Span};
use retpath_engine::source::FirstRequest;
use retpath_image::{Digest, WorkingSet};
use retpath_proptests::config;

/// Page numbers count from the first of all blocks; beyond the last they start over.
fn span(blocks: &Blocks, page: u64, count: u64) -> Span {
    let all: u64 = blocks.iter().map(|block| block.len / block.page).sum();
    let mut page = page % all;
    for (number, block) in blocks.iter().enumerate() {
        let pages = block.len / block.page;
        if page < pages {
            let count = count.min(pages - page);
            let (offset, len) = (page * block.page, count * block.page);
            return Span {
                block: number,
                offset,
                len,
            };
        }
        page -= pages;
    }
    unreachable!("there are pages");
}

proptest! {
    #![proptest_config(config("proptest-regressions/working_set.txt"))]

    #[test]
    fn parses_any_bytes(bytes in vec(any::<u8>(), 0..200), listed in any::<bool>()) {
        let mut file = b"RPWS\0\x01----------------".to_vec();
        if listed {
            file.extend(b"\0\x02\x04huge\x10\x06pc.ram\x0c");
        }
        file.extend(bytes);
        retpath_proptests::image(&file);
    }

    #[test]
    fn reads_any_order_as_it_was_written(
        sizes in vec((1..3000_u64, 12..18_u32), 1..5),
        asked in vec((any::<u64>(), 1..100_u64, 0..9_usize), 0..60),
    ) {
        let mut blocks = Blocks::new(4096).expect("valid page size");
        for (at, (pages, bits)) in sizes.into_iter().enumerate() {
            let (name, page) = (NameBuf::new(format!("block {at}")).expect("valid"), 1_u64 << bits);
            blocks.add(Block { name, len: pages * page, page }).expect("valid block");
        }
        let mut requests = asked.iter().map(|&(page, count, ordered)| FirstRequest {
            span: span(&blocks, page, count),
            ordered,
        });
        let first: Vec<_> = requests.by_ref().take(30).collect();
        let second: Vec<_> = requests.collect();
        let known = WorkingSet::default().merge(&blocks, &[&first]);
        let merged = known.merge(&blocks, &[&second, &first]);
        let id = Digest::of(b"image");
        for one in [&known, &merged] {
            let bytes = one.to_bytes(id, &blocks);
            prop_assert_eq!(WorkingSet::parse(&bytes, id, &blocks).as_ref(), Ok(one));
        }
        // Nothing is lost, and nothing is there twice.
        let mut pages: Vec<_> = merged.order().iter().map(|span| (span.block, span.offset, span.len)).collect();
        pages.sort_unstable();
        prop_assert!(pages.windows(2).all(|two| two[0].0 < two[1].0 || two[0].1 + two[0].2 <= two[1].1));
        let has = |wanted: &FirstRequest| {
            let inside = pages.iter().filter(|one| one.0 == wanted.span.block);
            let common = inside.map(|&(_, offset, len)| {
                let end = (offset + len).min(wanted.span.end());
                end.saturating_sub(offset.max(wanted.span.offset))
            });
            common.sum::<u64>() == wanted.span.len
        };
        prop_assert!(first.iter().chain(&second).all(has));
        prop_assert_eq!(merged.merge(&blocks, &[]), merged);
    }
}

//! Compares the discard list with a naive one: a set of target pages that loses
//! the pages handed out and gains those the guest changes.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::{Decoded, Decoder, Event, Options};
use retpath_codec::{BlockName, NameBuf};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::source::{Config, Gather, Next, PageRun, Source, SourcePhase};
use retpath_proptests::config;

const TARGET: u64 = 1024;

/// Maximum number of ranges in one command.
const RANGES: usize = 12;

/// A target page: block and page number.
type Page = (usize, u64);

#[derive(Clone, Debug)]
enum Op {
    /// The source sends a run.
    Send,
    /// The guest changes a range.
    Change(Index, Index, u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![1..9_u64, 1..20_000_u64];
    let change = (any::<Index>(), any::<Index>(), len);
    vec(
        prop_oneof![
            2 => Just(Op::Send),
            1 => change.prop_map(|(block, at, len)| Op::Change(block, at, len)),
        ],
        0..200,
    )
}

/// Number of each block's host pages, and target pages per host page.
fn shapes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let small = (1..70_u64, select(&[1, 1, 2, 4][..]));
    let large = (1..5_u64, select(&[16, 128][..]));
    vec(prop_oneof![3 => small, 1 => large], 1..4)
}

fn blocks(shapes: &[(u64, u64)]) -> Blocks {
    let mut blocks = Blocks::new(TARGET).expect("valid page size");
    for (number, (pages, parts)) in shapes.iter().enumerate() {
        let page = parts * TARGET;
        let name = NameBuf::new(format!("block{number}")).expect("valid name");
        let len = pages * page;
        blocks.add(Block { name, len, page }).expect("valid block");
    }
    blocks
}

/// A source and its output.
struct Sender {
    source: Source,
    blocks: Blocks,
    gather: Gather,
    bytes: Vec<u8>,
}

impl Sender {
    fn new(blocks: &Blocks, run: u64) -> Self {
        let smallest = blocks.iter().map(|block| block.page).min();
        let config = Config::new("pc")
            .run(run * TARGET)
            .host_page(smallest.expect("there is at least one block"));
        Self {
            source: Source::new(config, blocks.clone()).expect("valid configuration"),
            blocks: blocks.clone(),
            gather: Gather::new(),
            bytes: Vec::new(),
        }
    }

    /// Advances the source; pages are sent as zero pages.
    fn step(&mut self) -> Option<PageRun> {
        match self.source.next(Channel::Main, 0, &mut self.bytes) {
            Next::Urgent(run) | Next::Sweep(run) => {
                let name = &self.blocks.block(run.block).expect("block exists").name;
                self.gather.lay_known(&run, name.name(), |_| true);
                let slices = self.gather.slices(&[]);
                self.bytes.extend(slices.flatten());
                Some(run)
            }
            _ => None,
        }
    }
}

fn pages(run: &PageRun) -> impl Iterator<Item = Page> + use<> {
    let block = run.block;
    run.offsets().map(move |offset| (block, offset / TARGET))
}

/// Rounds to host pages, the unit in which a source discards.
fn whole(blocks: &Blocks, dirty: &BTreeSet<Page>) -> BTreeSet<Page> {
    let host = |(block, page): &Page| {
        let parts = blocks.block(*block).expect("block exists").page / TARGET;
        let first = page / parts * parts;
        let block = *block;
        (first..first + parts).map(move |page| (block, page))
    };
    let mut all: BTreeSet<Page> = dirty.iter().flat_map(host).collect();
    if all.is_empty() {
        // A QEMU destination requires at least one discard.
        all.extend(host(&(0, 0)));
    }
    all
}

/// Returns the pages that a stream discards, and checks the commands' form.
fn discarded(blocks: &Blocks, bytes: &[u8]) -> BTreeSet<Page> {
    let mut decoder = Decoder::new(
        Options::default().target_page(TARGET).host_page(
            blocks
                .iter()
                .map(|block| block.page)
                .min()
                .expect("block exists"),
        ),
    );
    let mut all = BTreeSet::new();
    // Block and end of the last range.
    let mut last = (0, 0);
    let mut rest = bytes;
    while let Decoded::Event { event, size } = decoder.next(rest).expect("valid stream") {
        rest = &rest[size..];
        let Event::Command(Command::PostcopyRamDiscard { block, ranges }) = event else {
            continue;
        };
        let id = blocks.find(block).expect("block exists");
        assert!((1..=RANGES).contains(&ranges.count()));
        for range in ranges.iter() {
            let page = blocks.block(id).expect("block exists").page;
            let inside = blocks.check(id, range.start, range.len, page);
            assert!(inside.is_ok(), "range consists of whole host pages");
            // Ranges are sorted, and adjacent ones are merged.
            let start = (id, range.start);
            assert!(
                start > last || range.start == 0 && id == 0,
                "{range:?} after {last:?}"
            );
            last = (id, range.start + range.len);
            let pages = range.start / TARGET..last.1 / TARGET;
            all.extend(pages.map(|page| (id, page)));
        }
    }
    assert!(rest.is_empty());
    all
}

proptest! {
    #![proptest_config(config("proptest-regressions/discards.txt"))]

    #[test]
    fn discards_what_is_sent_after_the_switch_and_nothing_else(
        shapes in shapes(),
        run in 1..9_u64,
        ops in ops(),
    ) {
        let blocks = blocks(&shapes);
        let mut sender = Sender::new(&blocks, run);
        while sender.source.phase() == SourcePhase::Fresh {
            sender.step();
        }
        let mut dirty: BTreeSet<Page> = BTreeSet::new();
        for (block, (pages, parts)) in shapes.iter().enumerate() {
            dirty.extend((0..pages * parts).map(|page| (block, page)));
        }
        for op in ops {
            match op {
                Op::Send => {
                    for page in sender.step().iter().flat_map(pages) {
                        prop_assert!(dirty.remove(&page), "{page:?} was clean");
                    }
                }
                Op::Change(block, at, len) => {
                    let block = block.index(shapes.len());
                    let room = blocks.block(block).expect("block exists").len;
                    let start = u64::try_from(at.index(usize::try_from(room)?))?;
                    let len = len.min(room - start);
                    sender.source.mark_dirty(block, start, len).expect("range lies in the block");
                    let pages = start / TARGET..(start + len).div_ceil(TARGET);
                    dirty.extend(pages.map(|page| (block, page)));
                }
            }
        }
        let naive = whole(&blocks, &dirty);
        sender.source.switch(Vec::new()).expect("phase is precopy");
        while sender.source.phase() == SourcePhase::Switching {
            sender.step();
        }
        prop_assert_eq!(&discarded(&blocks, &sender.bytes), &naive);
        prop_assert_eq!(sender.source.stats().discarded, u64::try_from(naive.len())?);
        prop_assert_eq!(sender.source.remaining(), u64::try_from(naive.len())? * TARGET);

        let mut sent = BTreeSet::new();
        while sender.source.phase() == SourcePhase::Postcopy {
            for page in sender.step().iter().flat_map(pages) {
                prop_assert!(sent.insert(page), "{page:?} was sent twice");
            }
        }
        prop_assert_eq!(sent, naive);
    }
}

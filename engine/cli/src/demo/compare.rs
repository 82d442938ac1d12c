//! What arrived against what the source holds, page by page, and what the
//! counters say about how often each page was placed.

use super::held::Held;
use super::summary::SourceSummary;
use super::{TARGET, TARGET_BYTES};
use retpath_engine::blocks::{BlockId, Blocks};
use retpath_engine::memory::Memory;
use retpath_engine::source::PageSource;
use retpath_engine::stats::Stats;

/// A target page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: BlockId,
    pub(super) offset: u64,
}

/// What comparing target pages came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pages: u64,
    pub(super) wrong: u64,
    first: Option<Place>,
}

impl Found {
    pub(super) fn page(&mut self, place: Place, same: bool) {
        self.pages += 1;
        if !same {
            self.wrong += 1;
            self.first.get_or_insert(place);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.wrong += other.wrong;
        self.first = self.first.or(other.first);
    }

    /// Where the first difference is, for people.
    fn where_first(&self, blocks: &Blocks) -> String {
        let Some(place) = self.first else {
            return String::new();
        };
        let name = blocks
            .block(place.block)
            .map(|block| block.name.to_string());
        let name = name.unwrap_or_default();
        format!(", the first at 0x{:x} of {name}", place.offset)
    }
}

/// Bytes that are compared at once.
const CHUNK: usize = 16 * TARGET_BYTES;

/// Compares a block, every byte of it.
///
/// # Errors
///
/// The memories are not as large as the block.
pub(super) fn compare(
    block: BlockId,
    len: u64,
    memory: &Memory,
    held: &Held,
) -> Result<Found, String> {
    let mut found = Found::default();
    let mut bytes = vec![0; CHUNK];
    for start in (0..len).step_by(CHUNK) {
        let size = usize::try_from(len - start).map_or(CHUNK, |left| left.min(CHUNK));
        let got = &mut bytes[..size];
        memory.read(start, got).map_err(|error| error.to_string())?;
        let want = held.lend(block, start, size);
        let want = want.ok_or("the source's memory is too short")?;
        let pages = got.chunks(TARGET_BYTES).zip(want.chunks(TARGET_BYTES));
        for ((got, want), number) in pages.zip(0..) {
            let offset = start + number * TARGET;
            found.page(Place { block, offset }, got == want);
        }
    }
    Ok(found)
}

/// Everything that must be right.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub(super) blocks: &'a Blocks,
    /// Every page, in the end.
    pub(super) end: Found,
    /// The pages that were touched, when they were.
    pub(super) touched: Found,
    pub(super) destination: &'a Stats,
    pub(super) source: &'a SourceSummary,
    /// Cuts that were wanted.
    pub(super) cuts: u64,
}

impl Verdict<'_> {
    /// Target pages that never arrived, by the destination's count.
    pub(super) fn missing(&self) -> u64 {
        self.blocks.total_pages().saturating_sub(self.placed())
    }

    /// Pages that arrived or were placed more than once.
    pub(super) fn twice(&self) -> u64 {
        let Stats {
            duplicates,
            present,
            ..
        } = self.destination;
        let too_many = self.placed().saturating_sub(self.blocks.total_pages());
        duplicates + present + too_many
    }

    /// Target pages that were placed and not discarded again.
    fn placed(&self) -> u64 {
        // All blocks of a demonstration have the same page size.
        let page = self.blocks.iter().next().map_or(TARGET, |block| block.page);
        let stats = self.destination;
        let before = stats.precopy.saturating_sub(stats.discarded);
        (stats.demand + stats.sweep) * (page / TARGET) + before
    }

    /// What is not right, in a line each.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.end.wrong > 0 {
            let (wrong, pages) = (self.end.wrong, self.end.pages);
            let place = self.end.where_first(self.blocks);
            lines.push(format!(
                "{wrong} of {pages} pages differ from the source's{place}"
            ));
        }
        if self.end.pages != self.blocks.total_pages() {
            let (pages, all) = (self.end.pages, self.blocks.total_pages());
            lines.push(format!("only {pages} of {all} pages were compared"));
        }
        if self.touched.wrong > 0 {
            let wrong = self.touched.wrong;
            let place = self.touched.where_first(self.blocks);
            lines.push(format!(
                "pages that were wrong when a thread touched them: {wrong}{place}"
            ));
        }
        match self.missing() {
            0 => {}
            missing => lines.push(format!("pages that were never placed: {missing}")),
        }
        match self.twice() {
            0 => {}
            twice => lines.push(format!("pages that were placed twice: {twice}")),
        }
        let happened = self.source.cuts;
        if happened != self.cuts {
            let cuts = self.cuts;
            lines.push(format!("only {happened} of {cuts} cuts happened"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use retpath_codec::NameBuf;

    use super::super::content::Content;
    use super::super::held;
    use super::*;
    use retpath_engine::blocks::Block;
    use retpath_engine::memory::Backing;

    const PAGES: u64 = 50;

    fn blocks() -> Blocks {
        let mut blocks = Blocks::new(TARGET).expect("4 KiB");
        let name = NameBuf::new("pc.ram").expect("good");
        let (len, page) = (PAGES * TARGET, TARGET);
        blocks.add(Block { name, len, page }).expect("good");
        blocks
    }

    fn pair() -> (Arc<Memory>, Held) {
        let (file, _) = held::fill(&blocks(), &Content::new(9, TARGET)).expect("filled");
        let held = Held::map(&file, &blocks()).expect("sealed");
        let memory = Memory::new(Backing::Anonymous, PAGES * TARGET).expect("memory");
        let all = usize::try_from(PAGES * TARGET).expect("small");
        let bytes = held.lend(0, 0, all).expect("all of it");
        memory.write(0, bytes).expect("inside");
        (Arc::new(memory), held)
    }

    #[test]
    fn finds_every_changed_page() {
        let (memory, held) = pair();
        let len = PAGES * TARGET;
        let found = compare(0, len, &memory, &held).expect("same length");
        assert_eq!((found.pages, found.wrong), (PAGES, 0));
        for (count, offset) in [(1, len - 1), (2, 3 * TARGET), (3, 17 * TARGET + 77)] {
            let mut byte = [0];
            memory.read(offset, &mut byte).expect("inside");
            memory.write(offset, &[byte[0] ^ 1]).expect("inside");
            let found = compare(0, len, &memory, &held).expect("same length");
            assert_eq!((found.pages, found.wrong), (PAGES, count));
        }
        let found = compare(0, len, &memory, &held).expect("same length");
        let first = found.where_first(&blocks());
        assert_eq!(first, ", the first at 0x3000 of pc.ram");
    }

    /// A migration in which everything went well.
    fn good() -> (Stats, SourceSummary, Found) {
        let stats = Stats {
            precopy: 16,
            demand: 4,
            sweep: PAGES - 20,
            ..Stats::default()
        };
        let end = Found {
            pages: PAGES,
            ..Found::default()
        };
        let source = SourceSummary {
            cuts: 3,
            ..SourceSummary::default()
        };
        (stats, source, end)
    }

    fn complaints(stats: &Stats, source: &SourceSummary, end: Found, touched: Found) -> String {
        let verdict = Verdict {
            blocks: &blocks(),
            end,
            touched,
            destination: stats,
            source,
            cuts: 3,
        };
        verdict.complaints().join("\n")
    }

    #[test]
    fn has_nothing_to_say_about_a_good_migration() {
        let (stats, source, end) = good();
        assert_eq!(complaints(&stats, &source, end, Found::default()), "");
    }

    #[test]
    fn complains_about_every_kind_of_failure() {
        let (stats, source, end) = good();
        let bad = Found {
            pages: PAGES,
            wrong: 2,
            first: Some(Place {
                block: 0,
                offset: 0x5000,
            }),
        };
        let none = Found::default();
        let said = complaints(&stats, &source, bad, none);
        let want = "2 of 50 pages differ from the source's, the first at 0x5000 of pc.ram";
        assert_eq!(said, want);
        let said = complaints(&stats, &source, none, none);
        assert_eq!(said, "only 0 of 50 pages were compared");
        let said = complaints(&stats, &source, end, bad);
        assert!(said.contains("touched them: 2, the first"), "{said}");

        let changed = |change: fn(&mut Stats)| {
            let mut stats = stats.clone();
            change(&mut stats);
            complaints(&stats, &source, end, none)
        };
        let said = changed(|stats| stats.sweep -= 3);
        assert_eq!(said, "pages that were never placed: 3");
        let said = changed(|stats| stats.discarded += 1);
        assert_eq!(said, "pages that were never placed: 1");
        for change in [
            (|stats| stats.sweep += 1) as fn(&mut Stats),
            |stats| stats.present += 1,
            |stats| stats.duplicates += 1,
        ] {
            assert_eq!(changed(change), "pages that were placed twice: 1");
        }

        let short = SourceSummary { cuts: 2, ..source };
        let said = complaints(&stats, &short, end, none);
        assert_eq!(said, "only 2 of 3 cuts happened");
    }
}

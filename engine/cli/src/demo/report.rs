//! The result of the demonstration: whether every page is right, how often each was placed, and
//! what is printed about it.

use std::fmt::Display;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::content::Content;
use super::source::Served;
use super::{Args, TARGET, TARGET_BYTES};
use crate::latency::{self, Nanos, Part};
use crate::size::Human;
use retpath_engine::blocks::{BlockId, Blocks};
use retpath_engine::memory::Memory;
use retpath_engine::source::PageSource;
use retpath_engine::stats::Stats;
use retpath_engine::uffd::Route;

/// The place of a target page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) block: BlockId,
    pub(super) offset: u64,
}

/// The result of comparing target pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pages: u64,
    wrong: u64,
    first_wrong: Option<Page>,
}

impl Compared {
    /// Compares every page of a block.
    ///
    /// # Errors
    ///
    /// The memories are shorter than the block.
    pub(super) fn block(
        &mut self,
        block: BlockId,
        len: u64,
        memory: &Memory,
        content: &Content,
    ) -> Result<(), String> {
        let mut got = [0; TARGET_BYTES];
        for offset in (0..len / TARGET).map(|number| number * TARGET) {
            let read = memory.read(offset, &mut got);
            read.map_err(|error| error.to_string())?;
            let want = content.memory.lend(block, offset, TARGET_BYTES);
            let want = want.ok_or("the source's memory is too short")?;
            self.page(Page { block, offset }, got == want);
        }
        Ok(())
    }

    /// Counts a page.
    pub(super) fn page(&mut self, page: Page, is_same: bool) {
        self.pages += 1;
        if !is_same {
            self.wrong += 1;
            self.first_wrong.get_or_insert(page);
        }
    }

    /// Adds the pages of another comparison.
    pub(super) fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.or(other.first_wrong);
    }

    /// Names the first wrong page.
    fn first(&self, blocks: &Blocks) -> String {
        let name = |page: &Page| Some(blocks.block(page.block).ok()?.name.to_string());
        match self.first_wrong {
            Some(page) => {
                let name = name(&page).unwrap_or_default();
                format!(", the first at 0x{:x} of {name}", page.offset)
            }
            None => String::new(),
        }
    }
}

/// Everything that is known at the end.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) blocks: &'a Blocks,
    pub(super) route: Route,
    /// Every page, at the end.
    pub(super) end: Compared,
    /// The pages that threads touched, at that time.
    pub(super) touched: Compared,
    pub(super) destination: Stats,
    pub(super) source: &'a Served,
    /// Target pages that are zero at the source.
    pub(super) source_zero: u64,
    /// Cuts that happened.
    pub(super) cuts: u64,
}

impl Report<'_> {
    /// Target pages that never arrived, by the destination's count.
    fn missing(&self) -> u64 {
        self.blocks.total_pages().saturating_sub(self.placed())
    }

    /// Pages that arrived or were placed more than once.
    fn twice(&self) -> u64 {
        let stats = &self.destination;
        let excess = self.placed().saturating_sub(self.blocks.total_pages());
        stats.duplicates + stats.present + excess
    }

    /// Target pages that were placed and not discarded again.
    fn placed(&self) -> u64 {
        let pieces = self.args.page_size / TARGET;
        let stats = &self.destination;
        (stats.demand + stats.sweep) * pieces + self.before_switch()
    }

    fn before_switch(&self) -> u64 {
        let stats = &self.destination;
        stats.precopy.saturating_sub(stats.discarded)
    }

    /// What is wrong, a line for each finding.
    pub(super) fn complaints(&self) -> Vec<String> {
        let Compared { pages, wrong, .. } = self.end;
        let (total, touched) = (self.blocks.total_pages(), self.touched.wrong);
        let (missing, twice) = (self.missing(), self.twice());
        let (cuts, wanted) = (self.cuts, self.args.cuts);
        let first = self.end.first(self.blocks);
        let first_touched = self.touched.first(self.blocks);
        [
            (wrong > 0)
                .then(|| format!("{wrong} of {pages} pages differ from the source's{first}")),
            (pages != total).then(|| format!("only {pages} of {total} pages were compared")),
            (touched > 0).then(|| {
                format!(
                    "pages that were wrong when a thread touched them: {touched}{first_touched}"
                )
            }),
            (missing > 0).then(|| format!("pages that were never placed: {missing}")),
            (twice > 0).then(|| format!("pages that were placed twice: {twice}")),
            (cuts != wanted).then(|| format!("only {cuts} of {wanted} cuts happened")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Gigabytes of memory moved per second.
    fn rate(&self) -> f64 {
        self.args.size as f64 / self.nanos().max(1) as f64
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.source.time.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The parts of a fault's latency, in order.
    fn parts(&self) -> [Part; 5] {
        let [total, request, transfer, placement] = latency::parts(&self.destination.latency);
        let source = latency::source((&self.source.stats.latency.source).into());
        [total, request, source, transfer, placement]
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let Self { args, end, .. } = self;
        let (stats, source) = (&self.destination, &self.source.stats);
        let placed = stats.demand + stats.sweep;
        let share = |pages: u64| format!("{:.1} %", 100.0 * pages as f64 / placed.max(1) as f64);
        let (wrong, missing, twice) = (end.wrong, self.missing(), self.twice());
        let compared = format!("of 4 KiB: {wrong} wrong, {missing} missing, {twice} placed twice");
        let touched = format!("by {} threads: {} wrong", args.threads, self.touched.wrong);
        let requests = format!(
            "{} repeated after a cut; {} for pages already sent",
            stats.requests_repeated, source.requests_dropped
        );
        let (resumes, torn) = (stats.resumes, stats.torn);
        let cuts = format!("{resumes} recoveries; {torn} incomplete pages dropped");
        let rows: [(&str, &dyn Display, String); 11] = [
            ("pages compared", &end.pages, compared),
            ("pages touched", &self.touched.pages, touched),
            (
                "pages placed",
                &placed,
                format!("of {}", Human(args.page_size)),
            ),
            ("  by demand", &stats.demand, share(stats.demand)),
            ("  by sweep", &stats.sweep, share(stats.sweep)),
            ("  zero", &stats.zero, share(stats.zero)),
            (
                "before the switch",
                &self.before_switch(),
                "of 4 KiB".into(),
            ),
            ("requests", &stats.requests, requests),
            ("cuts", &self.cuts, cuts),
            (
                "time",
                &Nanos(self.nanos()),
                format!("{:.2} GB/s", self.rate()),
            ),
            ("userfaultfd", &"", self.route.to_string()),
        ];
        let mut text = String::new();
        for (name, value, more) in rows.iter().filter(|row| row.0 != "cuts" || args.cuts > 0) {
            text += &format!("{name:<18} {value:>12}   {more}\n");
        }
        format!("{text}\n{}", latency::text(&self.parts()))
    }

    /// The report for programs: one object.
    pub(super) fn json(&self, complaints: &[String]) -> Value {
        let Self { args, end, .. } = self;
        let (stats, source) = (&self.destination, &self.source.stats);
        let block = |name: String, size| json!({ "name": name, "size": size });
        let blocks = self.blocks.iter();
        let blocks = blocks.map(|one| block(one.name.to_string(), one.len));
        json!({
            "ok": complaints.is_empty(),
            "complaints": complaints,
            "job": {
                "size": args.size,
                "blocks": blocks.collect::<Value>(),
                "page_size": args.page_size,
                "threads": args.threads,
                "channel": args.channel.to_possible_value().map(|value| value.get_name().to_owned()),
                "preempt": args.preempt,
                "cuts": args.cuts,
                "bandwidth": args.bandwidth,
                "seed": args.seed,
            },
            "route": self.route.to_string(),
            "pages": {
                "target_page_size": TARGET,
                "compared": end.pages,
                "wrong": end.wrong,
                "missing": self.missing(),
                "twice": self.twice(),
                "touched": self.touched.pages,
                "touched_wrong": self.touched.wrong,
                "demand": stats.demand,
                "sweep": stats.sweep,
                "zero": stats.zero,
                "source_zero": self.source_zero,
                "before_switch": self.before_switch(),
            },
            "faults": stats.faults,
            "requests": {
                "sent": stats.requests,
                "repeated": stats.requests_repeated,
                "arrived": source.requests,
                "dropped": source.requests_dropped,
            },
            "cuts": {
                "happened": self.cuts,
                "pauses": { "source": source.pauses, "destination": stats.pauses },
                "resumes": { "source": source.resumes, "destination": stats.resumes },
                "torn": stats.torn,
            },
            "time_ns": self.nanos(),
            "gigabytes_per_second": self.rate(),
            "latency": latency::json(&self.parts()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_args;
    use super::*;
    use retpath_engine::memory::Backing;

    const PAGES: u64 = 50;

    #[test]
    fn finds_every_changed_page() {
        let blocks = test_args(&["--size", "200K"]).layout().expect("good");
        let content = Content::new(&blocks, 9).expect("memory");
        let memory = Memory::new(Backing::Anonymous, PAGES * TARGET).expect("memory");
        memory.write(0, content.memory[0].bytes()).expect("inside");
        let compare = || {
            let mut compared = Compared::default();
            let len = PAGES * TARGET;
            let same_len = compared.block(0, len, &memory, &content);
            same_len.expect("same length");
            compared
        };
        assert_eq!((compare().pages, compare().wrong), (PAGES, 0));
        for (count, offset) in [
            (1, PAGES * TARGET - 1),
            (2, 3 * TARGET),
            (3, 17 * TARGET + 77),
        ] {
            let mut byte = [0];
            memory.read(offset, &mut byte).expect("inside");
            memory.write(offset, &[byte[0] ^ 1]).expect("inside");
            assert_eq!((compare().pages, compare().wrong), (PAGES, count));
        }
        assert_eq!(compare().first(&blocks), ", the first at 0x3000 of pc.ram");
    }

    /// What is said about a good migration with three cuts after `change`.
    fn complaints(change: impl FnOnce(&mut Report<'_>)) -> String {
        let args = test_args(&["--size", "200K", "--cuts", "3"]);
        let blocks = args.layout().expect("good");
        let mut report = Report {
            args: &args,
            blocks: &blocks,
            route: Route::Syscall,
            end: Compared {
                pages: PAGES,
                ..Compared::default()
            },
            touched: Compared::default(),
            destination: Stats {
                precopy: 16,
                demand: 4,
                sweep: PAGES - 20,
                ..Stats::default()
            },
            source: &Served::default(),
            source_zero: 0,
            cuts: 3,
        };
        change(&mut report);
        report.complaints().join("\n")
    }

    #[test]
    fn reports_every_kind_of_failure_and_nothing_else() {
        let bad = Compared {
            pages: PAGES,
            wrong: 2,
            first_wrong: Some(Page {
                block: 0,
                offset: 0x5000,
            }),
        };
        assert_eq!(complaints(|_| ()), "");
        assert_eq!(
            complaints(|report| report.end = bad),
            "2 of 50 pages differ from the source's, the first at 0x5000 of pc.ram"
        );
        assert_eq!(
            complaints(|report| report.end = Compared::default()),
            "only 0 of 50 pages were compared"
        );
        assert_eq!(
            complaints(|report| report.touched = bad),
            "pages that were wrong when a thread touched them: 2, the first at 0x5000 of pc.ram"
        );
        assert_eq!(
            complaints(|report| report.destination.sweep -= 3),
            "pages that were never placed: 3"
        );
        assert_eq!(
            complaints(|report| report.destination.discarded += 1),
            "pages that were never placed: 1"
        );
        for change in [
            (|stats| stats.sweep += 1) as fn(&mut Stats),
            |stats| stats.present += 1,
            |stats| stats.duplicates += 1,
        ] {
            let twice = complaints(|report| change(&mut report.destination));
            assert_eq!(twice, "pages that were placed twice: 1");
        }
        assert_eq!(
            complaints(|report| report.cuts = 2),
            "only 2 of 3 cuts happened"
        );
    }
}

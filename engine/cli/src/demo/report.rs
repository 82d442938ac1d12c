//! The result of the demonstration: whether every page is right, how often each was placed, and
//! what is printed about it.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::TARGET;
use super::migration::{Compared, Job, Migrated};
use crate::latency::{self, Nanos, Part};
use crate::report::Table;
use crate::size::Human;
use retpath_engine::blocks::Blocks;
use retpath_engine::uffd::Route;

/// Everything that is known at the end.
pub(super) struct Report<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) route: Route,
    /// Every page, at the end.
    pub(super) end: Compared,
    pub(super) migrated: &'a Migrated,
}

impl Compared {
    /// Names the first wrong page.
    fn first(&self, blocks: &Blocks) -> String {
        let name = |block| Some(blocks.block(block).ok()?.name.to_string());
        self.first_wrong.map_or(String::new(), |page| {
            let name = name(page.block).unwrap_or_default();
            format!(", the first at 0x{:x} of {name}", page.offset)
        })
    }
}

impl Report<'_> {
    /// Target pages that never arrived, by the destination's count.
    fn missing(&self) -> u64 {
        self.job.blocks.total_pages().saturating_sub(self.placed())
    }

    /// Pages that arrived or were placed more than once.
    fn twice(&self) -> u64 {
        let stats = &self.migrated.destination;
        let excess = self.placed().saturating_sub(self.job.blocks.total_pages());
        stats.duplicates + stats.present + excess
    }

    /// Target pages that were placed and not discarded again.
    fn placed(&self) -> u64 {
        let pieces = self.job.args.page_size / TARGET;
        let stats = &self.migrated.destination;
        (stats.demand + stats.sweep) * pieces + self.before_switch()
    }

    fn before_switch(&self) -> u64 {
        let stats = &self.migrated.destination;
        stats.precopy.saturating_sub(stats.discarded)
    }

    /// What is wrong, a line for each finding.
    pub(super) fn complaints(&self) -> Vec<String> {
        let (blocks, total) = (self.job.blocks, self.job.blocks.total_pages());
        let Compared { pages, wrong, .. } = self.end;
        let (first, first_touched) = (self.end.first(blocks), self.migrated.touched.first(blocks));
        let (missing, twice, touched) = (self.missing(), self.twice(), self.migrated.touched.wrong);
        let (cuts, wanted) = (self.cuts(), self.job.args.cuts);
        let findings = [
            (
                wrong > 0,
                format!("{wrong} of {pages} pages differ from the source's{first}"),
            ),
            (
                pages != total,
                format!("only {pages} of {total} pages were compared"),
            ),
            (
                touched > 0,
                format!(
                    "pages that were wrong when a thread touched them: {touched}{first_touched}"
                ),
            ),
            (
                missing > 0,
                format!("pages that were never placed: {missing}"),
            ),
            (twice > 0, format!("pages that were placed twice: {twice}")),
            (
                cuts != wanted,
                format!("only {cuts} of {wanted} cuts happened"),
            ),
        ];
        let findings = findings.into_iter().filter(|(is_wrong, _)| *is_wrong);
        findings.map(|(_, finding)| finding).collect()
    }

    fn cuts(&self) -> u64 {
        u64::try_from(self.migrated.cuts).unwrap_or(u64::MAX)
    }

    /// Gigabytes of memory moved per second.
    fn rate(&self) -> f64 {
        self.job.args.size as f64 / self.nanos().max(1) as f64
    }

    fn nanos(&self) -> u64 {
        Nanos::from(self.migrated.time).0
    }

    /// The parts of a fault's latency, in order.
    fn parts(&self) -> [Part<'_>; 5] {
        let Migrated {
            destination,
            source,
            ..
        } = self.migrated;
        let [total, request, transfer, placement] = latency::parts(&destination.latency);
        [
            total,
            request,
            latency::source(&source.latency),
            transfer,
            placement,
        ]
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let Self {
            job, end, migrated, ..
        } = self;
        let (stats, source) = (&migrated.destination, &migrated.source);
        let (wrong, missing, twice) = (end.wrong, self.missing(), self.twice());
        let mut table = Table::default();
        table.row(
            "pages compared",
            end.pages,
            format_args!("of 4 KiB: {wrong} wrong, {missing} missing, {twice} placed twice"),
        );
        let (threads, wrong) = (job.args.threads, migrated.touched.wrong);
        let touched = format_args!("by {threads} threads: {wrong} wrong");
        table.row("pages touched", migrated.touched.pages, touched);
        let size = Human(job.args.page_size);
        table.row(
            "pages placed",
            stats.demand + stats.sweep,
            format_args!("of {size}"),
        );
        table.pages((stats.demand, stats.sweep, stats.zero));
        table.row("before the switch", self.before_switch(), "of 4 KiB");
        let (repeated, dropped) = (stats.requests_repeated, source.requests_dropped);
        let requests =
            format_args!("{repeated} repeated after a cut; {dropped} for pages already sent");
        table.row("requests", stats.requests, requests);
        if job.args.cuts > 0 {
            let (resumes, torn) = (stats.resumes, stats.torn);
            let cuts = format_args!("{resumes} recoveries; {torn} incomplete pages dropped");
            table.row("cuts", migrated.cuts, cuts);
        }
        let rate = self.rate();
        table.row("time", Nanos(self.nanos()), format_args!("{rate:.2} GB/s"));
        table.row("userfaultfd", "", self.route);
        format!("{}\n{}", table.0, latency::text(&self.parts()))
    }

    /// The report for programs: one object.
    pub(super) fn json(&self, complaints: &[String]) -> Value {
        let Self {
            job, end, migrated, ..
        } = self;
        let (args, touched) = (job.args, migrated.touched);
        let (stats, source) = (&migrated.destination, &migrated.source);
        let blocks = job.blocks.iter();
        let blocks = blocks.map(|one| json!({ "name": one.name.to_string(), "size": one.len }));
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
                "touched": touched.pages,
                "touched_wrong": touched.wrong,
                "demand": stats.demand,
                "sweep": stats.sweep,
                "zero": stats.zero,
                "source_zero": job.content.zero,
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
                "happened": migrated.cuts,
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
    use std::sync::Arc;

    use fastrand::Rng;
    use indicatif::ProgressBar;
    use retpath_engine::memory::{Backing, Memory};
    use retpath_engine::stats::Stats;

    use super::super::content::Content;
    use super::super::migration::Page;
    use super::super::test_args;
    use super::*;

    const PAGES: u64 = 50;

    /// A job whose destination has received every page.
    fn with_received_job<T>(options: &[&str], use_it: impl FnOnce(&mut Job<'_>) -> T) -> T {
        let args = &test_args(options);
        let blocks = &args.layout().expect("good");
        let content = &Content::new(blocks, &mut Rng::with_seed(9)).expect("memory");
        let memory = Memory::new(Backing::Anonymous, PAGES * TARGET).expect("memory");
        memory.write(0, content.memory[0].bytes()).expect("inside");
        use_it(&mut Job {
            args,
            blocks,
            content,
            memory: vec![Arc::new(memory)],
            order: Vec::new(),
            bar: &ProgressBar::hidden(),
        })
    }

    #[test]
    fn finds_every_changed_page() {
        with_received_job(&["--size", "200K"], |job| {
            let compare = || job.compare().expect("same length");
            assert_eq!((compare().pages, compare().wrong), (PAGES, 0));
            for (count, offset) in [
                (1, PAGES * TARGET - 1),
                (2, 3 * TARGET),
                (3, 17 * TARGET + 77),
            ] {
                let mut byte = [0];
                job.memory[0].read(offset, &mut byte).expect("inside");
                job.memory[0].write(offset, &[byte[0] ^ 1]).expect("inside");
                assert_eq!((compare().pages, compare().wrong), (PAGES, count));
            }
            let first = compare().first(job.blocks);
            assert_eq!(first, ", the first at 0x3000 of pc.ram");
        });
    }

    /// What is said about a good migration with three cuts after `change`.
    fn complaints(change: impl FnOnce(&mut Compared, &mut Migrated)) -> String {
        with_received_job(&["--size", "200K", "--cuts", "3"], |job| {
            let mut end = Compared {
                pages: PAGES,
                ..Compared::default()
            };
            let mut destination = Stats::default();
            destination.precopy = 16;
            destination.demand = 4;
            destination.sweep = PAGES - 20;
            let mut migrated = Migrated {
                destination,
                cuts: 3,
                ..Migrated::default()
            };
            change(&mut end, &mut migrated);
            let report = Report {
                job,
                route: Route::Syscall,
                end,
                migrated: &migrated,
            };
            report.complaints().join("\n")
        })
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
        assert_eq!(complaints(|_, _| ()), "");
        assert_eq!(
            complaints(|end, _| *end = bad),
            "2 of 50 pages differ from the source's, the first at 0x5000 of pc.ram"
        );
        assert_eq!(
            complaints(|end, _| *end = Compared::default()),
            "only 0 of 50 pages were compared"
        );
        assert_eq!(
            complaints(|_, migrated| migrated.touched = bad),
            "pages that were wrong when a thread touched them: 2, the first at 0x5000 of pc.ram"
        );
        assert_eq!(
            complaints(|_, migrated| migrated.destination.sweep -= 3),
            "pages that were never placed: 3"
        );
        assert_eq!(
            complaints(|_, migrated| migrated.destination.discarded += 1),
            "pages that were never placed: 1"
        );
        for change in [
            (|stats| stats.sweep += 1) as fn(&mut Stats),
            |stats| stats.present += 1,
            |stats| stats.duplicates += 1,
        ] {
            let twice = complaints(|_, migrated| change(&mut migrated.destination));
            assert_eq!(twice, "pages that were placed twice: 1");
        }
        assert_eq!(
            complaints(|_, migrated| migrated.cuts = 2),
            "only 2 of 3 cuts happened"
        );
    }
}

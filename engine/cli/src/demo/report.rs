//! What the demonstration prints in the end, for people and for programs.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use super::Args;
use super::compare::Verdict;
use crate::latency::{self, Nanos, Part};
use crate::size::Human;
use retpath_engine::uffd::Route;

/// Everything that is known.
pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) route: Route,
    pub(super) verdict: &'a Verdict<'a>,
}

impl Report<'_> {
    /// Gigabytes of memory moved each second.
    fn rate(&self) -> f64 {
        let nanos = self.verdict.source.nanos.max(1);
        self.args.job.size as f64 / nanos as f64
    }

    /// The parts of a fault's latency, with what each of them is.
    fn parts(&self) -> [Part; 5] {
        let seen = latency::parts(&self.verdict.destination.latency);
        let source = self.verdict.source.latency.clone();
        let [total, request, transfer, placement] = seen;
        let source = latency::source(source);
        [total, request, source, transfer, placement]
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.render(&mut out);
        out
    }

    fn render(&self, out: &mut String) -> fmt::Result {
        let Self { args, verdict, .. } = self;
        let (stats, source) = (verdict.destination, verdict.source);
        let placed = (stats.demand + stats.sweep).max(1);
        let share = |pages: u64| format!("{:.1} %", 100.0 * pages as f64 / placed as f64);
        let mut line = |name: &str, value: &dyn Display, more: &str| {
            let line = format!("{name:<18} {value:>12}   {more}");
            writeln!(out, "{}", line.trim_end())
        };
        let page = Human(args.job.page_size.bytes());
        let wrong = verdict.end.wrong;
        let (missing, twice) = (verdict.missing(), verdict.twice());
        line(
            "pages compared",
            &verdict.end.pages,
            &format!("of 4 KiB: {wrong} wrong, {missing} missing, {twice} placed twice"),
        )?;
        let touched = verdict.touched;
        line(
            "pages touched",
            &touched.pages,
            &format!("by {} threads: {} wrong", args.threads, touched.wrong),
        )?;
        line(
            "pages placed",
            &(stats.demand + stats.sweep),
            &format!("of {page}"),
        )?;
        line("  by demand", &stats.demand, &share(stats.demand))?;
        line("  by sweep", &stats.sweep, &share(stats.sweep))?;
        line("  zero", &stats.zero, &share(stats.zero))?;
        let kept = stats.precopy.saturating_sub(stats.discarded);
        line("before the switch", &kept, "of 4 KiB")?;
        let (repeated, dropped) = (stats.requests_repeated, source.dropped);
        line(
            "requests",
            &stats.requests,
            &format!("{repeated} repeated after a cut; {dropped} asked for nothing new"),
        )?;
        if args.job.cuts > 0 {
            let (resumes, torn) = (stats.resumes, stats.torn);
            line(
                "cuts",
                &source.cuts,
                &format!("{resumes} recoveries; {torn} half pages thrown away"),
            )?;
        }
        line(
            "time",
            &Nanos(source.nanos),
            &format!("{:.2} GB/s", self.rate()),
        )?;
        line("userfaultfd", &"", &self.route.to_string())?;

        write!(out, "\n{}", latency::text(&self.parts()))
    }

    /// For programs: one object.
    pub(super) fn json(&self, complaints: &[String]) -> Value {
        let Self { args, verdict, .. } = self;
        let (stats, source) = (verdict.destination, verdict.source);
        let blocks = verdict.blocks.iter();
        let blocks =
            blocks.map(|block| json!({ "name": block.name.to_string(), "size": block.len }));
        json!({
            "ok": complaints.is_empty(),
            "complaints": complaints,
            "job": {
                "size": args.job.size,
                "blocks": blocks.collect::<Value>(),
                "page_size": args.job.page_size.bytes(),
                "threads": args.threads,
                "channel": args.channel.name(),
                "preempt": args.job.preempt,
                "cuts": args.job.cuts,
                "bandwidth": args.job.bandwidth,
                "seed": args.job.seed,
            },
            "route": self.route.to_string(),
            "pages": {
                "target_page_size": verdict.blocks.target(),
                "compared": verdict.end.pages,
                "wrong": verdict.end.wrong,
                "missing": verdict.missing(),
                "twice": verdict.twice(),
                "touched": verdict.touched.pages,
                "touched_wrong": verdict.touched.wrong,
                "demand": stats.demand,
                "sweep": stats.sweep,
                "zero": stats.zero,
                "source_zero": source.zero,
                "before_switch": stats.precopy.saturating_sub(stats.discarded),
            },
            "faults": stats.faults,
            "requests": {
                "sent": stats.requests,
                "repeated": stats.requests_repeated,
                "arrived": source.requests,
                "dropped": source.dropped,
            },
            "cuts": {
                "happened": source.cuts,
                "pauses": { "source": source.pauses, "destination": stats.pauses },
                "resumes": { "source": source.resumes, "destination": stats.resumes },
                "torn": stats.torn,
            },
            "time_ns": source.nanos,
            "gigabytes_per_second": self.rate(),
            "latency": latency::json(&self.parts()),
        })
    }
}

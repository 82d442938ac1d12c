//! What the demonstration prints in the end, for people and for programs.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use super::Args;
use super::compare::Verdict;
use super::summary::Times;
use crate::cli::size::Human;
use crate::stats::Buckets;
use crate::uffd::Route;

/// Everything that is known.
pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) route: Route,
    pub(super) verdict: &'a Verdict<'a>,
}

/// Longest bar of the histogram, in characters.
const BAR: u64 = 40;

impl Report<'_> {
    /// Gigabytes of memory moved each second.
    fn rate(&self) -> f64 {
        let nanos = self.verdict.source.nanos.max(1);
        self.args.job.size as f64 / nanos as f64
    }

    /// The parts of a fault's latency, with what each of them is.
    fn parts(&self) -> [(&'static str, Times, &'static str); 5] {
        let seen = &self.verdict.destination.latency;
        let source = self.verdict.source.latency.clone();
        [
            (
                "total",
                (&seen.total).into(),
                "from the fault until its page is placed",
            ),
            (
                "request",
                (&seen.request).into(),
                "until its request is written",
            ),
            (
                "source",
                source,
                "from reading the request until the page is handed out",
            ),
            (
                "transfer",
                (&seen.transfer).into(),
                "from the written request until the page is here",
            ),
            (
                "placement",
                (&seen.placement).into(),
                "until the page is placed",
            ),
        ]
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

        let parts = self.parts();
        writeln!(
            out,
            "\n{:<18} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "fault latency", "count", "p50", "p99", "p99.9", "max"
        )?;
        for (name, times, what) in &parts {
            let [p50, p99, p999, max] = [times.p50, times.p99, times.p999, times.max].map(Nanos);
            let count = times.count;
            writeln!(
                out,
                "  {name:<16} {count:>8} {p50:>9} {p99:>9} {p999:>9} {max:>9}   {what}"
            )?;
        }
        histogram(out, &parts)
    }

    /// For programs: one object.
    pub(super) fn json(&self, complaints: &[String]) -> Value {
        let Self { args, verdict, .. } = self;
        let (stats, source) = (verdict.destination, verdict.source);
        let blocks = verdict.blocks.iter();
        let blocks =
            blocks.map(|block| json!({ "name": block.name.to_string(), "size": block.len }));
        let latency = self
            .parts()
            .map(|(name, times, _)| (name.to_string(), times.to_json()));
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
            "latency": latency.into_iter().collect::<Value>(),
        })
    }
}

/// QEMU's buckets, from the first to the last that is not empty.
fn histogram(out: &mut String, parts: &[(&str, Times, &str)]) -> fmt::Result {
    let used = |index: &usize| parts.iter().any(|(_, times, _)| times.buckets[*index] > 0);
    let all = 0..crate::stats::BUCKETS;
    let (Some(first), Some(last)) = (all.clone().find(used), all.rev().find(used)) else {
        return Ok(());
    };
    write!(out, "\n  {:<16}", "from")?;
    for (name, ..) in parts {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    let total = &parts[0].1.buckets;
    let most = total.iter().copied().max().unwrap_or(0).max(1);
    for (index, count) in total.iter().enumerate().take(last + 1).skip(first) {
        let (low, _) = Buckets::bounds(index);
        write!(out, "  {:<16}", format!("{low} µs"))?;
        for (_, times, _) in parts {
            write!(out, " {:>9}", times.buckets[index])?;
        }
        let bar = "#".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        writeln!(out, "{}", format!("   {bar}").trim_end())?;
    }
    Ok(())
}

/// A time, to three digits.
struct Nanos(u64);

impl Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1_000 => return f.pad(&format!("{} ns", self.0)),
            1_000..1_000_000 => (nanos / 1e3, "µs"),
            1_000_000..1_000_000_000 => (nanos / 1e6, "ms"),
            _ => (nanos / 1e9, "s"),
        };
        let digits = match value {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_times_to_three_digits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (123_456_789, "123 ms"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(Nanos(nanos).to_string(), text);
        }
        assert_eq!(format!("{:>9}|", Nanos(5_000)), "  5.00 µs|");
    }

    #[test]
    fn draws_buckets_from_the_first_to_the_last_that_is_used() {
        let mut times = Times::default();
        times.buckets[3] = 80;
        times.buckets[5] = 1;
        let mut out = String::new();
        histogram(&mut out, &[("total", times, "")]).expect("a string takes all");
        let lines: Vec<&str> = out.lines().skip(2).collect();
        let bar = "#".repeat(40);
        assert_eq!(
            lines,
            [
                &format!("  {:<16} {:>9}   {bar}", "8 µs", 80)[..],
                &format!("  {:<16} {:>9}", "16 µs", 0),
                &format!("  {:<16} {:>9}   #", "32 µs", 1),
            ]
        );
        out.clear();
        histogram(&mut out, &[("total", Times::default(), "")]).expect("a string takes all");
        assert_eq!(out, "");
    }
}

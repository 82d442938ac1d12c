//! Latencies of faults, as a table for people and an object for programs.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use crate::stats::{BUCKETS, Buckets, FaultLatency, Latency};

/// Longest bar of the histogram, in characters.
const BAR: u64 = 40;

/// The parts that a destination sees, with what each of them is.
pub(super) fn parts(seen: &FaultLatency) -> [(&'static str, &Latency, &'static str); 4] {
    [
        (
            "total",
            &seen.total,
            "from the fault until its page is placed",
        ),
        ("request", &seen.request, "until its request is written"),
        (
            "transfer",
            &seen.transfer,
            "from the written request until the page is here",
        ),
        ("placement", &seen.placement, "until the page is placed"),
    ]
}

/// A line for each part, and a histogram of QEMU's buckets.
pub(super) fn text(parts: &[(&str, &Latency, &str)]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = render(&mut out, parts);
    out
}

fn render(out: &mut String, parts: &[(&str, &Latency, &str)]) -> fmt::Result {
    writeln!(
        out,
        "{:<18} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "fault latency", "count", "p50", "p99", "p99.9", "max"
    )?;
    for (name, latency, what) in parts {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| Nanos(latency.quantile(part)));
        let (count, max) = (latency.count(), Nanos(latency.max()));
        writeln!(
            out,
            "  {name:<16} {count:>8} {p50:>9} {p99:>9} {p999:>9} {max:>9}   {what}"
        )?;
    }
    histogram(out, parts)
}

/// From the first bucket to the last that is not empty.
fn histogram(out: &mut String, parts: &[(&str, &Latency, &str)]) -> fmt::Result {
    let counts = |latency: &Latency| *latency.buckets().counts();
    let used = |index: &usize| parts.iter().any(|(_, part, _)| counts(part)[*index] > 0);
    let all = 0..BUCKETS;
    let (Some(first), Some(last)) = (all.clone().find(used), all.rev().find(used)) else {
        return Ok(());
    };
    write!(out, "\n  {:<16}", "from")?;
    for (name, ..) in parts {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    let total = parts
        .first()
        .map_or([0; BUCKETS], |(_, part, _)| counts(part));
    let most = total.iter().copied().max().unwrap_or(0).max(1);
    for (index, count) in total.iter().enumerate().take(last + 1).skip(first) {
        let (low, _) = Buckets::bounds(index);
        write!(out, "  {:<16}", format!("{low} µs"))?;
        for (_, part, _) in parts {
            write!(out, " {:>9}", counts(part)[index])?;
        }
        let bar = "#".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        writeln!(out, "{}", format!("   {bar}").trim_end())?;
    }
    Ok(())
}

/// An object for each part.
pub(super) fn json(parts: &[(&str, &Latency, &str)]) -> Value {
    let part = |(name, latency, _): &(&str, &Latency, &str)| {
        let figures = json!({
            "count": latency.count(),
            "p50_ns": latency.quantile(0.5),
            "p99_ns": latency.quantile(0.99),
            "p999_ns": latency.quantile(0.999),
            "max_ns": latency.max(),
            "buckets": latency.buckets().counts(),
        });
        ((*name).to_owned(), figures)
    };
    Value::Object(parts.iter().map(part).collect())
}

/// A time, to three digits.
pub(super) struct Nanos(pub(super) u64);

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

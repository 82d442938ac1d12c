//! Times as `retpath` shows them: percentiles in a table, QEMU's buckets as bars, objects for
//! programs.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use crate::stats::{BUCKETS, Buckets, Latency};

/// Longest bar of a histogram, in characters.
const BAR: u64 = 40;

/// A time in nanoseconds, shown to three digits.
#[derive(Clone, Copy, Debug)]
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

/// A latency with its name and what it is.
pub(super) type Row<'a> = (&'a str, &'a Latency, &'a str);

/// Percentiles, one latency a line.
pub(super) fn table(out: &mut String, title: &str, rows: &[Row<'_>]) -> fmt::Result {
    let heads = ["count", "p50", "p99", "p99.9", "max"];
    write!(out, "{title:<18}")?;
    for head in heads {
        write!(out, " {head:>9}")?;
    }
    writeln!(out)?;
    for (name, latency, what) in rows {
        write!(out, "  {name:<16} {:>9}", latency.count())?;
        for quantile in [0.5, 0.99, 0.999] {
            write!(out, " {:>9}", Nanos(latency.quantile(quantile)))?;
        }
        writeln!(out, " {:>9}   {what}", Nanos(latency.max()))?;
    }
    Ok(())
}

/// QEMU's buckets, from the first to the last that is not empty; a bar for the first latency.
pub(super) fn histogram(out: &mut String, rows: &[Row<'_>]) -> fmt::Result {
    let counts = |row: &Row<'_>| *row.1.buckets().counts();
    let used = |index: &usize| rows.iter().any(|row| counts(row)[*index] > 0);
    let (Some(first), Some(last)) = ((0..BUCKETS).find(used), (0..BUCKETS).rev().find(used)) else {
        return Ok(());
    };
    write!(out, "  {:<16}", "from")?;
    for (name, ..) in rows {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    let total = counts(&rows[0]);
    let most = total.iter().copied().max().unwrap_or(0).max(1);
    for index in first..=last {
        let (low, _) = Buckets::bounds(index);
        write!(out, "  {:<16}", format!("{low} µs"))?;
        for row in rows {
            write!(out, " {:>9}", counts(row)[index])?;
        }
        let bar = "#".repeat(usize::try_from((total[index] * BAR).div_ceil(most)).unwrap_or(0));
        writeln!(out, "{}", format!("   {bar}").trim_end())?;
    }
    Ok(())
}

/// For programs; all times in nanoseconds.
pub(super) fn to_json(latency: &Latency) -> Value {
    json!({
        "count": latency.count(),
        "mean_ns": latency.mean().round(),
        "p50_ns": latency.quantile(0.5),
        "p99_ns": latency.quantile(0.99),
        "p999_ns": latency.quantile(0.999),
        "max_ns": latency.max(),
        "buckets": latency.buckets().counts(),
    })
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
        let mut latency = Latency::new();
        (0..80).for_each(|_| latency.record(9_000));
        latency.record(40_000);
        let mut out = String::new();
        histogram(&mut out, &[("source", &latency, "")]).expect("a string takes all");
        let lines: Vec<&str> = out.lines().skip(1).collect();
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
        histogram(&mut out, &[("source", &Latency::new(), "")]).expect("a string takes all");
        assert_eq!(out, "");
    }
}

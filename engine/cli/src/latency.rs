//! Fault latencies: a table for people, an object for programs.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use retpath_engine::stats::{BUCKETS, FaultLatency, Latency};

/// Longest bar of the histogram, in characters.
const BAR: u64 = 40;

/// The distribution of a latency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) count: u64,
    /// Nanoseconds, like all that follow.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// Count in each of QEMU's buckets.
    pub(crate) buckets: [u64; BUCKETS],
}

impl From<&Latency> for Times {
    fn from(latency: &Latency) -> Self {
        Self {
            count: latency.count(),
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            p999: latency.quantile(0.999),
            max: latency.max(),
            buckets: *latency.buckets(),
        }
    }
}

impl Times {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "count": self.count,
            "p50_ns": self.p50,
            "p99_ns": self.p99,
            "p999_ns": self.p999,
            "max_ns": self.max,
            "buckets": self.buckets,
        })
    }
}

/// A part of a fault's latency.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) times: Times,
    /// Which time it is.
    pub(crate) what: &'static str,
}

/// The parts that a destination measures.
pub(crate) fn parts(seen: &FaultLatency) -> [Part; 4] {
    let part = |name, latency: &Latency, what| Part {
        name,
        times: latency.into(),
        what,
    };
    [
        part(
            "total",
            &seen.total,
            "from the fault until its page is placed",
        ),
        part("request", &seen.request, "until its request is written"),
        part(
            "transfer",
            &seen.transfer,
            "from the written request until the page has arrived",
        ),
        part("placement", &seen.placement, "until the page is placed"),
    ]
}

/// The part that only a source measures.
pub(crate) fn source(times: Times) -> Part {
    Part {
        name: "source",
        times,
        what: "from reading the request until the page is sent",
    }
}

/// A table with a line for each part, and a histogram.
pub(crate) fn text(parts: &[Part]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = render(&mut out, parts);
    out
}

fn render(out: &mut String, parts: &[Part]) -> fmt::Result {
    writeln!(
        out,
        "{:<18} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "fault latency", "count", "p50", "p99", "p99.9", "max"
    )?;
    for Part { name, times, what } in parts {
        let [p50, p99, p999, max] = [times.p50, times.p99, times.p999, times.max].map(Nanos);
        let count = times.count;
        writeln!(
            out,
            "  {name:<16} {count:>8} {p50:>9} {p99:>9} {p999:>9} {max:>9}   {what}"
        )?;
    }
    histogram(out, parts)
}

/// An object for each part.
pub(crate) fn json(parts: &[Part]) -> Value {
    let part = |part: &Part| (part.name.to_owned(), part.times.to_json());
    Value::Object(parts.iter().map(part).collect())
}

/// Appends QEMU's buckets, from the first to the last that is not empty.
fn histogram(out: &mut String, parts: &[Part]) -> fmt::Result {
    let used = |index: &usize| parts.iter().any(|part| part.times.buckets[*index] > 0);
    let all = 0..BUCKETS;
    let (Some(first), Some(last)) = (all.clone().find(used), all.rev().find(used)) else {
        return Ok(());
    };
    write!(out, "\n  {:<16}", "from")?;
    for Part { name, .. } in parts {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    let Some(Part { times: total, .. }) = parts.first() else {
        return Ok(());
    };
    let total = &total.buckets;
    let most = total.iter().copied().max().unwrap_or(0).max(1);
    for (index, count) in total.iter().enumerate().take(last + 1).skip(first) {
        let (low, _) = Latency::bounds(index);
        write!(out, "  {:<16}", format!("{low} µs"))?;
        for Part { times, .. } in parts {
            write!(out, " {:>9}", times.buckets[index])?;
        }
        let bar = "#".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        writeln!(out, "{}", format!("   {bar}").trim_end())?;
    }
    Ok(())
}

/// A time in nanoseconds, shown with three digits.
pub(crate) struct Nanos(pub(crate) u64);

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

    fn part(times: Times) -> Part {
        Part {
            name: "total",
            times,
            what: "",
        }
    }

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
    fn draws_buckets_from_the_first_to_the_last_used() {
        let mut times = Times::default();
        times.buckets[3] = 80;
        times.buckets[5] = 1;
        let mut out = String::new();
        histogram(&mut out, &[part(times)]).expect("a string takes all");
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
        histogram(&mut out, &[part(Times::default())]).expect("a string takes all");
        assert_eq!(out, "");
    }
}

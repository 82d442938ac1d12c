//! Fault latencies: a table for people, an object for programs.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use serde_json::{Value, json};

use retpath_engine::stats::{BUCKETS, FaultLatency, Latency};

/// Longest bar of the histogram, in characters.
const BAR: u64 = 40;

/// A part of a fault's latency.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    name: &'static str,
    latency: &'a Latency,
    /// Which time it is.
    what: &'static str,
}

impl Part<'_> {
    /// The median, the 99th and 99.9th percentile and the maximum, in nanoseconds.
    fn times(&self) -> [u64; 4] {
        let latency = self.latency;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| latency.quantile(quantile));
        [p50, p99, p999, latency.max()]
    }

    /// The count in each of QEMU's buckets.
    fn buckets(&self) -> &[u64; BUCKETS] {
        self.latency.buckets()
    }
}

/// The parts that a destination measures.
pub(crate) fn parts(seen: &FaultLatency) -> [Part<'_>; 4] {
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
            "from the written request until the page has arrived",
        ),
        ("placement", &seen.placement, "until the page is placed"),
    ]
    .map(|(name, latency, what)| Part {
        name,
        latency,
        what,
    })
}

/// The part that only a source measures.
pub(crate) fn source(seen: &FaultLatency) -> Part<'_> {
    Part {
        name: "source",
        latency: &seen.source,
        what: "from reading the request until the page is sent",
    }
}

/// A table with a line for each part, and a histogram.
pub(crate) fn text(parts: &[Part<'_>]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = render(&mut out, parts);
    out
}

fn render(out: &mut String, parts: &[Part<'_>]) -> fmt::Result {
    writeln!(
        out,
        "{:<18} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "fault latency", "count", "p50", "p99", "p99.9", "max"
    )?;
    for part in parts {
        let Part {
            name,
            latency,
            what,
        } = part;
        let [p50, p99, p999, max] = part.times().map(Nanos);
        let count = latency.count();
        writeln!(
            out,
            "  {name:<16} {count:>8} {p50:>9} {p99:>9} {p999:>9} {max:>9}   {what}"
        )?;
    }
    histogram(out, parts)
}

/// An object for each part.
pub(crate) fn json(parts: &[Part<'_>]) -> Value {
    let object = |part: &Part<'_>| {
        let [p50, p99, p999, max] = part.times();
        let object = json!({
            "count": part.latency.count(),
            "p50_ns": p50,
            "p99_ns": p99,
            "p999_ns": p999,
            "max_ns": max,
            "buckets": part.buckets(),
        });
        (part.name.to_owned(), object)
    };
    Value::Object(parts.iter().map(object).collect())
}

/// Appends QEMU's buckets, from the first to the last that is not empty.
fn histogram(out: &mut String, parts: &[Part<'_>]) -> fmt::Result {
    let used = |index: &usize| parts.iter().any(|part| part.buckets()[*index] > 0);
    let all = 0..BUCKETS;
    let (Some(first), Some(last)) = (all.clone().find(used), all.rev().find(used)) else {
        return Ok(());
    };
    write!(out, "\n  {:<16}", "from")?;
    for Part { name, .. } in parts {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    let Some(total) = parts.first().map(Part::buckets) else {
        return Ok(());
    };
    let most = total.iter().copied().max().unwrap_or(0).max(1);
    for (index, count) in total.iter().enumerate().take(last + 1).skip(first) {
        let (low, _) = Latency::bounds(index);
        write!(out, "  {:<16}", format!("{low} µs"))?;
        for part in parts {
            write!(out, " {:>9}", part.buckets()[index])?;
        }
        let bar = "#".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        writeln!(out, "{}", format!("   {bar}").trim_end())?;
    }
    Ok(())
}

/// A time in nanoseconds, shown with three digits.
pub(crate) struct Nanos(pub(crate) u64);

impl From<Duration> for Nanos {
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

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

    fn part(latency: &Latency) -> Part<'_> {
        Part {
            name: "total",
            latency,
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
        let mut latency = Latency::default();
        (0..80).for_each(|_| latency.record(8_000));
        latency.record(32_000);
        let mut out = String::new();
        histogram(&mut out, &[part(&latency)]).expect("a string takes all");
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
        histogram(&mut out, &[part(&Latency::default())]).expect("a string takes all");
        assert_eq!(out, "");
    }
}

//! The report of `retpath serve`, for people and for programs.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use super::Args;
use super::outcome::Outcome;
use super::served_image::ServedImage;
use crate::latency::{self, Nanos, Part};

/// Everything that is known at the end.
pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) served: &'a ServedImage,
    pub(super) outcomes: &'a [Outcome],
}

impl Report<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (at, outcome) in self.outcomes.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            // Writing to a string does not fail.
            let _ = outcome.render(&mut out);
        }
        out
    }

    /// For programs: one object.
    pub(super) fn json(&self) -> Value {
        let blocks = self.served.blocks();
        let machine = self.served.machine().map(String::from_utf8_lossy);
        json!({
            "ok": self.outcomes.iter().all(|one| one.failure.is_none()),
            "image": self.args.image.display().to_string(),
            "id": self.served.id().map(|id| id.to_string()),
            "machine": machine,
            "unproven_end": self.served.has_unproven_end(),
            "bytes": blocks.iter().map(|block| block.len).sum::<u64>(),
            "target_page_size": blocks.target(),
            "preempt": self.args.preempt,
            "bandwidth": self.args.bandwidth,
            "destinations": self.outcomes.iter().map(Outcome::json).collect::<Value>(),
        })
    }
}

impl Outcome {
    /// The part of a fault's latency that a source sees.
    fn part(&self) -> [Part; 1] {
        [latency::source((&self.stats.latency.source).into())]
    }

    fn render(&self, out: &mut String) -> fmt::Result {
        let stats = &self.stats;
        let sent = stats.demand + stats.sweep;
        let share = |pages: u64| format!("{:.1} %", 100.0 * pages as f64 / sent.max(1) as f64);
        let state = match &self.failure {
            None => "has everything",
            Some(failure) => failure.guest.name(),
        };
        writeln!(out, "{}: {state}", self.address)?;
        let mut line = |name: &str, value: &dyn Display, more: &str| {
            let line = format!("{name:<18} {value:>12}   {more}");
            writeln!(out, "{}", line.trim_end())
        };
        line("pages sent", &sent, "after the switch")?;
        line("  by demand", &stats.demand, &share(stats.demand))?;
        line("  by sweep", &stats.sweep, &share(stats.sweep))?;
        line("  zero", &stats.zero, &share(stats.zero))?;
        let dropped = stats.requests_dropped;
        line(
            "requests",
            &stats.requests,
            &format!("{dropped} for pages already sent"),
        )?;
        if stats.pauses > 0 {
            let resumes = format!("{} recoveries", stats.resumes);
            line("cuts", &stats.pauses, &resumes)?;
        }
        if let Some(loaded) = self.loaded {
            line(
                "devices loaded",
                &nanos(loaded),
                "after the beginning, as QEMU reports",
            )?;
        }
        line("time", &nanos(self.time), "")?;
        if stats.latency.source.count() == 0 {
            return Ok(());
        }
        writeln!(out, "\n{}", latency::text(&self.part()).trim_end())
    }

    fn json(&self) -> Value {
        let stats = &self.stats;
        let failure = self.failure.as_ref().map(|failure| {
            json!({
                "why": failure.why,
                "guest": failure.guest.name(),
                "advice": failure.advice,
            })
        });
        json!({
            "uri": self.address.to_string(),
            "ok": self.failure.is_none(),
            "failure": failure,
            "preempt": self.preempt,
            "pages": { "demand": stats.demand, "sweep": stats.sweep, "zero": stats.zero },
            "requests": { "arrived": stats.requests, "dropped": stats.requests_dropped },
            "cuts": { "pauses": stats.pauses, "resumes": stats.resumes },
            "loaded_ns": self.loaded.map(|time| nanos(time).0),
            "time_ns": nanos(self.time).0,
            "latency": latency::json(&self.part()),
        })
    }
}

fn nanos(time: std::time::Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

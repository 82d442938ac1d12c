//! The report of `retpath serve`, for people and for programs.

use serde_json::{Value, json};

use super::Args;
use super::outcome::Outcome;
use super::served_image::ServedImage;
use super::working_set::Learned;
use crate::latency::{self, Nanos, Part};
use crate::report::Table;

/// Everything that is known at the end.
pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) served: &'a ServedImage,
    pub(super) working_set: Option<&'a Learned>,
    pub(super) outcomes: &'a [Outcome],
}

impl Report<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let outcomes = self.outcomes.iter().map(Outcome::text);
        let texts: Vec<_> = outcomes
            .chain(self.working_set.map(Learned::text))
            .collect();
        texts.join("\n")
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
            "working_set": self.working_set.map(Learned::json),
            "destinations": self.outcomes.iter().map(Outcome::json).collect::<Value>(),
        })
    }
}

impl Outcome {
    /// The part of a fault's latency that a source sees.
    fn part(&self) -> [Part<'_>; 1] {
        [latency::source(&self.stats.latency)]
    }

    fn text(&self) -> String {
        let stats = &self.stats;
        let state = match &self.failure {
            None => "has everything",
            Some(failure) => failure.guest.name(),
        };
        let mut table = Table(format!("{}: {state}\n", self.address));
        table.row("pages sent", stats.demand + stats.sweep, "after the switch");
        table.pages((stats.demand, stats.sweep, stats.zero));
        let dropped = format_args!("{} for pages already sent", stats.requests_dropped);
        table.row("requests", stats.requests, dropped);
        if stats.pauses > 0 {
            let resumes = format_args!("{} recoveries", stats.resumes);
            table.row("cuts", stats.pauses, resumes);
        }
        if let Some(loaded) = self.loaded {
            let what = "after the beginning, as QEMU reports";
            table.row("devices loaded", Nanos::from(loaded), what);
        }
        table.row("time", Nanos::from(self.time), "");
        if stats.latency.source.count() > 0 {
            let latency = latency::text(&self.part());
            table.0 += &format!("\n{}\n", latency.trim_end());
        }
        table.0
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
            "loaded_ns": self.loaded.map(|time| Nanos::from(time).0),
            "time_ns": Nanos::from(self.time).0,
            "latency": latency::json(&self.part()),
        })
    }
}

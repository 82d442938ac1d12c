//! What the source's process reports, on its way to the other one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::latency::Times;
use retpath_engine::stats::Stats;

/// What only the source can know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceSummary {
    /// Nanoseconds from the first connection until the destination said that
    /// it has everything.
    pub(super) nanos: u64,
    /// Target pages that are zero.
    pub(super) zero: u64,
    /// Cuts that happened.
    pub(super) cuts: u64,
    pub(super) pauses: u64,
    pub(super) resumes: u64,
    /// Requests that arrived, and those among them that asked for nothing new.
    pub(super) requests: u64,
    pub(super) dropped: u64,
    /// From reading a request until its page is handed out.
    pub(super) latency: Times,
}

impl SourceSummary {
    pub(super) fn new(stats: &Stats, time: Duration, zero: u64, cuts: usize) -> Self {
        Self {
            nanos: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            zero,
            cuts: u64::try_from(cuts).unwrap_or(u64::MAX),
            pauses: stats.pauses,
            resumes: stats.resumes,
            requests: stats.requests,
            dropped: stats.requests_dropped,
            latency: Times::from(&stats.latency.source),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "nanos": self.nanos,
            "zero": self.zero,
            "cuts": self.cuts,
            "pauses": self.pauses,
            "resumes": self.resumes,
            "requests": self.requests,
            "dropped": self.dropped,
            "latency": self.latency.to_json(),
        })
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_u64();
        Some(Self {
            nanos: number("nanos")?,
            zero: number("zero")?,
            cuts: number("cuts")?,
            pauses: number("pauses")?,
            resumes: number("resumes")?,
            requests: number("requests")?,
            dropped: number("dropped")?,
            latency: Times::from_json(value.get("latency")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_as_it_was_sent() {
        let mut stats = Stats {
            pauses: 3,
            resumes: 2,
            requests: 100,
            requests_dropped: 7,
            ..Stats::default()
        };
        for nanos in [900, 5_000, 70_000_000] {
            stats.latency.source.record(nanos);
        }
        let sent = SourceSummary::new(&stats, Duration::from_millis(1500), 42, 3);
        assert_eq!((sent.nanos, sent.latency.count), (1_500_000_000, 3));
        let line = sent.to_json().to_string();
        let value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(SourceSummary::from_json(&value), Some(sent));
    }

    #[test]
    fn refuses_a_report_that_lacks_something() {
        let whole = SourceSummary::default().to_json();
        for name in whole.as_object().expect("an object").keys() {
            let mut part = whole.clone();
            part.as_object_mut().expect("an object").remove(name);
            assert_eq!(SourceSummary::from_json(&part), None, "{name}");
        }
    }
}

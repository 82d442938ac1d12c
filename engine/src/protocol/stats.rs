//! Statistics: counters of pages and requests, and latencies of faults.
//!
//! Both cores use them, and each fills the fields that it can measure. All times are in
//! nanoseconds. Nothing here fails or panics; a latency longer than [`LONGEST`] is
//! recorded as that. The first latency of a kind allocates 16 KiB of counters, and one
//! that is twice as long as any before adds 8 KiB, up to 250 KiB.
//!
//! The buckets are those of QEMU's `postcopy-latency-dist`
//! (`postcopy-ram.c:blocktime_latency_account`).

use std::fmt;

#[cfg(feature = "percentiles")]
use hdrhistogram::Histogram;

/// Number of buckets in QEMU.
pub const BUCKETS: usize = 24;

/// Longest latency that is recorded exactly, in nanoseconds.
pub const LONGEST: u64 = 1_000_000_000_000;

/// Latencies of one kind: their distribution and, with the feature `percentiles`, quantiles.
///
/// Bucket `i` counts latencies of at least `2^i` and less than `2^(i+1)` microseconds. The
/// first one also counts shorter latencies, the last one longer ones.
#[derive(Clone, Default, PartialEq)]
pub struct Latency {
    buckets: [u64; BUCKETS],
    /// Exact to three digits, and as large as the longest latency makes it; `None`
    /// before the first.
    #[cfg(feature = "percentiles")]
    exact: Option<Histogram<u64>>,
}

impl Latency {
    /// The bucket of a latency in nanoseconds.
    pub fn bucket(nanos: u64) -> usize {
        let log = (nanos / 1000).checked_ilog2().unwrap_or(0);
        usize::try_from(log).unwrap_or(usize::MAX).min(BUCKETS - 1)
    }

    /// The bounds of bucket `index` in microseconds: the first latency in it, and the
    /// first one past it, unless it is the last bucket.
    pub fn bounds(index: usize) -> (u64, Option<u64>) {
        let last = BUCKETS - 1;
        let low = 1 << index.min(last);
        (low, (index < last).then_some(low * 2))
    }

    /// Records one latency in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.buckets[Self::bucket(nanos)] += 1;
        #[cfg(feature = "percentiles")]
        self.exact()
            .record(nanos.min(LONGEST))
            .expect("grows as far as LONGEST");
    }

    /// The number of recorded latencies.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The number of latencies in each of QEMU's buckets.
    pub fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// Adds what others have recorded.
    pub fn add(&mut self, others: &Self) {
        for (mine, other) in self.buckets.iter_mut().zip(others.buckets) {
            *mine += other;
        }
        #[cfg(feature = "percentiles")]
        if let Some(others) = &others.exact {
            let sum = self.exact().add(others);
            sum.expect("grows as far as LONGEST");
        }
    }
}

#[cfg(feature = "percentiles")]
impl Latency {
    /// The latency in nanoseconds that `quantile` of all stay at or below,
    /// such as 0.999, to three digits; 0 if there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let exact = self.exact.as_ref();
        exact.map_or(0, |exact| exact.value_at_quantile(quantile))
    }

    /// The longest latency in nanoseconds, to three digits; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.exact.as_ref().map_or(0, Histogram::max)
    }

    fn exact(&mut self) -> &mut Histogram<u64> {
        let none = || Histogram::new(3).expect("3 <= 5");
        self.exact.get_or_insert_with(none)
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Latency");
        out.field("count", &self.count());
        #[cfg(feature = "percentiles")]
        out.field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max());
        out.finish()
    }
}

/// The latency of faults on missing pages, in total and in parts.
///
/// ```text
///  fault ─ request ─▶ request written ─ transfer ─▶ page here ─ placement ─▶ placed
///                            └▶ request read ─ source ─▶ page handed out ─┘
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FaultLatency {
    /// Destination: from the fault until the page is placed.
    pub total: Latency,
    /// Destination: from the fault until its request has been written. Only for faults
    /// that caused a request.
    pub request: Latency,
    /// Source: from reading a request until its page is handed out.
    pub source: Latency,
    /// Destination: from the written request until the last byte of the page has been
    /// received. It includes `source`, which only the source can measure.
    pub transfer: Latency,
    /// Destination: from the last byte of the page until it is placed.
    pub placement: Latency,
}

/// Counters and latencies of one side of a migration. Host pages unless stated
/// otherwise.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Destination: faults on missing pages, each page once.
    pub faults: u64,
    /// Destination: faults on pages that had been requested already.
    pub faults_pending: u64,
    /// Destination: faults on pages that were present already.
    pub faults_present: u64,
    /// Requests written by the destination, or accepted by the source.
    pub requests: u64,
    /// Those among them that were repeated after a recovery.
    pub requests_repeated: u64,
    /// Requests for pages that had been sent or were queued already: the source drops
    /// them.
    pub requests_dropped: u64,
    /// Pages placed, or sent, because they were requested.
    pub demand: u64,
    /// Pages placed, or sent, without having been requested.
    pub sweep: u64,
    /// Source: those among `sweep` that were sent because they continue a stream of requests.
    pub predicted: u64,
    /// Source: those among `predicted` of which a later request showed that the guest used
    /// them. The last ones of a stream are never confirmed.
    pub predicted_hits: u64,
    /// Pages of zeros among `demand` and `sweep`; at the source target pages, including
    /// those sent before the switch.
    pub zero: u64,
    /// Target pages written, or sent, before the switch.
    pub precopy: u64,
    /// Target pages discarded at the switch.
    pub discarded: u64,
    /// Destination: target pages that are never sent, because their memory is unplugged
    /// in a virtio-mem device.
    pub unplugged: u64,
    /// Destination: pages that were present already when they were placed.
    pub present: u64,
    /// Destination: pages refused because they had been received already.
    pub duplicates: u64,
    /// Destination: incomplete pages dropped with a lost link.
    pub torn: u64,
    /// Number of lost links.
    pub pauses: u64,
    /// Number of times that the migration resumed.
    pub resumes: u64,
    /// Latencies of faults.
    pub latency: FaultLatency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_the_bucket_whose_bounds_contain_it() {
        for (nanos, index) in [
            (0, 0),
            (999, 0),
            (1_000, 0),
            (1_999, 0),
            (2_000, 1),
            (4_095_999, 11),
            (4_096_000, 12),
            (u64::MAX, 23),
        ] {
            assert_eq!(Latency::bucket(nanos), index, "{nanos} ns");
        }
        for index in 0..BUCKETS {
            let (low, high) = Latency::bounds(index);
            assert_eq!(Latency::bucket(low * 1000), index);
            match high {
                Some(high) => {
                    assert_eq!(Latency::bucket(high * 1000 - 1), index);
                    assert_eq!(Latency::bucket(high * 1000), index + 1);
                }
                None => assert_eq!(index, BUCKETS - 1),
            }
        }
        assert_eq!(Latency::bounds(usize::MAX), (1 << 23, None));
    }

    #[test]
    fn keeps_percentiles_to_three_digits() {
        let mut latency = Latency::default();
        for nanos in 1..=100_000 {
            latency.record(nanos * 10);
        }
        for (quantile, want) in [(0.5, 500_000), (0.99, 990_000), (0.999, 999_000)] {
            let got = latency.quantile(quantile);
            assert!(got.abs_diff(want) <= want / 1000, "{quantile}: {got}");
        }
        assert_eq!(latency.count(), 100_000);
        assert_eq!(latency.buckets().iter().sum::<u64>(), 100_000);
    }

    #[test]
    fn records_longer_latencies_as_the_longest() {
        let mut latency = Latency::default();
        latency.record(u64::MAX);
        assert_eq!(latency.count(), 1);
        assert!(latency.max() >= LONGEST);
        assert_eq!(latency.buckets()[23], 1);
    }

    #[test]
    fn adds_the_latencies_of_two_threads() {
        let (mut one, mut two) = (Latency::default(), Latency::default());
        one.record(1_000);
        two.record(5_000);
        one.add(&two);
        assert_eq!(one.count(), 2);
        assert_eq!(one.buckets()[..3], [1, 0, 1]);
        assert_eq!(one.quantile(0.0), 1_000);
    }

    #[test]
    fn debug_output_is_a_summary() {
        let mut latency = Latency::default();
        for nanos in 1..=100 {
            latency.record(nanos);
        }
        let text = "Latency { count: 100, p50: 50, p99: 99, max: 100 }";
        assert_eq!(format!("{latency:?}"), text);
    }

    #[test]
    fn an_empty_distribution_is_all_zero() {
        let latency = Latency::default();
        assert_eq!(
            (latency.count(), latency.quantile(0.5), latency.max()),
            (0, 0, 0)
        );
    }
}

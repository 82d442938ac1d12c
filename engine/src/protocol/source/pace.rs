//! The bandwidth limit: a token bucket.
//!
//! A run may be sent while the bucket is not empty, and may overdraw it, so a run
//! larger than the bucket passes and is paid for afterwards. The caller passes the
//! time; a clock that steps back adds no tokens.

/// Capacity of the bucket in nanoseconds of the rate. Short, so that a pause is not
/// followed by a burst that would delay requested pages.
const BURST: u64 = 10_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0 is no limit.
    rate: u64,
    /// When the bucket is full again if nothing more is sent; it is empty [`BURST`]
    /// before.
    full: u64,
}

impl Pace {
    /// A full bucket.
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, full: 0 }
    }

    /// Whether bytes may be sent now; otherwise the time at which they may.
    pub(super) fn ready(&mut self, now: u64) -> Result<(), u64> {
        if self.rate > 0
            && let Some(empty) = self.full.checked_sub(BURST)
            && empty >= now
        {
            return Err(empty + 1);
        }
        self.full = self.full.max(now);
        Ok(())
    }

    /// Charges bytes that are sent now.
    pub(super) fn take(&mut self, bytes: u64, now: u64) {
        self.full = self.full.max(now).saturating_add(self.time(bytes));
    }

    /// Refunds bytes that were not sent.
    pub(super) fn put_back(&mut self, bytes: u64) {
        self.full = self.full.saturating_sub(self.time(bytes));
    }

    /// How long bytes take at the rate, in nanoseconds.
    fn time(&self, bytes: u64) -> u64 {
        let rate = u128::from(self.rate.max(1));
        let time = (u128::from(bytes) * 1_000_000_000).div_ceil(rate);
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_the_rate() {
        const RATE: u64 = 10 << 20;
        const RUN: u64 = 64 << 10;
        let mut pace = Pace::new(RATE);
        let (mut now, mut sent) = (0, 0);
        while now < 10 * 1_000_000_000 {
            match pace.ready(now) {
                Ok(()) => {
                    pace.take(RUN, now);
                    sent += RUN;
                }
                Err(until) => {
                    assert!(until > now, "time must pass");
                    now = until;
                }
            }
        }
        let burst = RATE / 100 + RUN;
        assert!((10 * RATE..=10 * RATE + burst).contains(&sent), "{sent}");
    }

    #[test]
    fn returns_the_earliest_time() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.ready(0), Ok(()));
        pace.take(20, 0);
        // The bucket held 10 of them; the rest takes 10 ms and 1 ns.
        assert_eq!(pace.ready(0), Err(10_000_001));
        assert_eq!(pace.ready(10_000_000), Err(10_000_001));
        assert_eq!(pace.ready(10_000_001), Ok(()));
    }

    #[test]
    fn saves_at_most_one_burst() {
        const NOW: u64 = u64::MAX / 2;
        let mut pace = Pace::new(1000);
        assert_eq!(pace.ready(NOW), Ok(()));
        pace.take(10, NOW);
        assert!(pace.ready(NOW).is_err());
        pace.put_back(1);
        assert_eq!(pace.ready(NOW), Ok(()));
    }

    /// Waiting for a time that has passed would keep the caller busy.
    #[test]
    fn never_returns_a_time_in_the_past() {
        for now in [
            u64::MAX,
            u64::MAX - 1,
            u64::MAX - BURST,
            u64::MAX - BURST - 1,
        ] {
            let mut pace = Pace::new(1);
            assert_eq!(pace.ready(now), Ok(()));
            pace.take(u64::MAX, now);
            assert!(pace.ready(now).err().is_none_or(|until| until > now));
        }
    }

    #[test]
    fn accepts_extreme_rates_and_clocks() {
        for rate in [0, 1, u64::MAX] {
            let mut pace = Pace::new(rate);
            for now in [5, 0, u64::MAX, 3] {
                let _ = pace.ready(now);
                pace.take(u64::MAX, now);
                pace.put_back(u64::MAX);
            }
            pace.take(u64::MAX, 0);
            let _ = pace.ready(0);
            pace = Pace::new(rate);
            assert_eq!(pace.ready(0), Ok(()));
        }
    }

    /// Pages that are sent without [`Pace::ready`] are charged from now on, too.
    #[test]
    fn charges_from_the_present() {
        const NOW: u64 = 5_000_000_000;
        let mut pace = Pace::new(1000);
        pace.take(20, NOW);
        assert_eq!(pace.ready(NOW), Err(NOW + 10_000_001));
    }

    #[test]
    fn never_waits_without_a_limit() {
        let mut pace = Pace::new(0);
        for _ in 0..100 {
            pace.take(u64::MAX, 0);
            assert_eq!(pace.ready(0), Ok(()));
        }
    }
}

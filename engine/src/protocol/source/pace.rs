//! The bandwidth limit: a token bucket.
//!
//! A run may be sent while the bucket is not empty, and may overdraw it, so a run
//! larger than the bucket passes and is paid for afterwards. The caller passes the
//! time; a clock that steps back adds no tokens.

/// Capacity of the bucket in nanoseconds of the rate. Short, so that a pause is not
/// followed by a burst that would delay requested pages.
const BURST: u64 = 10_000_000;

const SECOND: i128 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0 is no limit.
    rate: u64,
    /// Bytes times nanoseconds per second.
    credit: i128,
    /// When it was last filled.
    filled: u64,
}

impl Pace {
    pub(super) fn new(rate: u64) -> Self {
        let mut pace = Self {
            rate,
            credit: 0,
            filled: 0,
        };
        pace.credit = pace.most();
        pace
    }

    /// Changes the rate and refills the bucket.
    pub(super) fn set(&mut self, rate: u64) {
        self.rate = rate;
        self.credit = self.most();
    }

    /// Whether bytes may be sent now; otherwise the time at which they may.
    pub(super) fn ready(&mut self, now: u64) -> Result<(), u64> {
        if self.rate == 0 {
            return Ok(());
        }
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        self.add(i128::from(passed).saturating_mul(self.rate.into()));
        if self.credit > 0 {
            return Ok(());
        }
        let wait = (1 - self.credit).unsigned_abs().div_ceil(self.rate.into());
        Err(now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// Charges bytes.
    pub(super) fn take(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(i128::from(bytes) * SECOND);
    }

    /// Refunds bytes that were not sent.
    pub(super) fn put_back(&mut self, bytes: u64) {
        self.add(i128::from(bytes) * SECOND);
    }

    fn add(&mut self, credit: i128) {
        self.credit = self.credit.saturating_add(credit).min(self.most());
    }

    fn most(&self) -> i128 {
        i128::from(self.rate) * i128::from(BURST)
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
                    pace.take(RUN);
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
        pace.take(20);
        // The bucket held 10 of them; the rest takes 10 ms and 1 ns.
        assert_eq!(pace.ready(0), Err(10_000_001));
        assert_eq!(pace.ready(10_000_000), Err(10_000_001));
        assert_eq!(pace.ready(10_000_001), Ok(()));
    }

    #[test]
    fn saves_at_most_one_burst() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.ready(u64::MAX), Ok(()));
        pace.take(10);
        assert!(pace.ready(u64::MAX).is_err());
        pace.put_back(1);
        assert_eq!(pace.ready(u64::MAX), Ok(()));
    }

    #[test]
    fn accepts_extreme_rates_and_clocks() {
        for rate in [0, 1, u64::MAX] {
            let mut pace = Pace::new(rate);
            for now in [5, 0, u64::MAX, 3] {
                let _ = pace.ready(now);
                pace.take(u64::MAX);
                pace.put_back(u64::MAX);
            }
            pace.take(u64::MAX);
            let _ = pace.ready(0);
            pace.set(rate);
            assert_eq!(pace.ready(0), Ok(()));
        }
    }

    #[test]
    fn never_waits_without_a_limit() {
        let mut pace = Pace::new(0);
        for _ in 0..100 {
            pace.take(u64::MAX);
            assert_eq!(pace.ready(0), Ok(()));
        }
    }
}

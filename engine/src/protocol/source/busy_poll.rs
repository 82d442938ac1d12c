//! Decides when the loop looks for the next request instead of sleeping; a policy without
//! a clock.
//!
//! A thread that sleeps on another CPU takes longer to wake up than a page takes to
//! serve. While requests follow each other closely, the loop therefore looks for the next
//! one again and again, for as long as the last one was awaited at most. It lets other
//! threads run between two looks, and sleeps as usual for some time once one of them
//! needed the CPU for long: a thread that sleeps is then woken up sooner than one that
//! waits for its turn. That time doubles whenever it happens again, and shrinks with
//! every request that is found.
//!
//! Nothing here fails or panics.

/// How long the loop sleeps as usual after another thread needed the CPU, in nanoseconds:
/// at first, and at most. The first is about as long as the scheduler lets a thread run.
const PAUSES: [u64; 2] = [2_000_000, 100_000_000];

/// Decides how long to look for requests.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// Maximum time between two requests that follow each other closely, in nanoseconds.
    limit: u64,
    /// When requests arrived last.
    last: Option<u64>,
    /// When to stop looking.
    until: u64,
    /// When looking is allowed again.
    paused_until: u64,
    /// How long the next pause is.
    pause: u64,
}

impl BusyPoll {
    /// Never looks without sleeping if `limit` is 0.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            last: None,
            until: 0,
            paused_until: 0,
            pause: PAUSES[0],
        }
    }

    /// Requests have arrived.
    pub(crate) fn requested(&mut self, now: u64) {
        let gap = self.last.map(|last| now.saturating_sub(last));
        let is_close = gap.is_some_and(|gap| gap <= self.limit) && now >= self.paused_until;
        self.last = Some(now);
        if self.is_active(now) {
            self.pause = (self.pause - self.pause / 64).max(PAUSES[0]);
        }
        self.until = match is_close {
            true => now.saturating_add(self.limit),
            false => 0,
        };
    }

    /// Whether to look for requests now rather than to sleep.
    pub(crate) fn is_active(&self, now: u64) -> bool {
        now < self.until
    }

    /// Other threads could run from `before` until `now`.
    pub(crate) fn yielded(&mut self, before: u64, now: u64) {
        if now.saturating_sub(before) > self.limit {
            self.until = 0;
            self.paused_until = now.saturating_add(self.pause);
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 200_000;

    /// A policy to which requests came at these times.
    fn after(times: &[u64]) -> BusyPoll {
        let mut policy = BusyPoll::new(LIMIT);
        times.iter().for_each(|&now| policy.requested(now));
        policy
    }

    #[test]
    fn looks_for_requests_that_follow_each_other_closely() {
        assert!(!after(&[]).is_active(0));
        assert!(!after(&[0]).is_active(0), "a single request");
        let policy = after(&[0, LIMIT]);
        assert!(policy.is_active(LIMIT) && policy.is_active(2 * LIMIT - 1));
        assert!(!policy.is_active(2 * LIMIT));
        assert!(!after(&[0, LIMIT + 1]).is_active(LIMIT + 1));
        let policy = after(&[0, LIMIT, 3 * LIMIT]);
        assert!(!policy.is_active(3 * LIMIT), "requests come apart again");
    }

    #[test]
    fn sleeps_once_another_thread_needed_the_cpu_for_long() {
        let mut policy = after(&[0, 1]);
        policy.yielded(1, 1 + LIMIT);
        assert!(policy.is_active(2));
        let back = 2 + LIMIT;
        policy.yielded(1, back);
        assert!(!policy.is_active(2));
        for now in [
            back,
            back + 1,
            back + PAUSES[0] - LIMIT,
            back + PAUSES[0] - 1,
        ] {
            policy.requested(now);
            assert!(!policy.is_active(now), "{now}");
        }
        policy.requested(back + PAUSES[0]);
        assert!(policy.is_active(back + PAUSES[0]));
    }

    #[test]
    fn sleeps_longer_the_more_often_the_cpu_is_needed() {
        let mut policy = BusyPoll::new(LIMIT);
        let pause = |policy: &mut BusyPoll| {
            policy.yielded(0, 2 * LIMIT);
            policy.paused_until - 2 * LIMIT
        };
        let pauses: Vec<u64> = (0..8).map(|_| pause(&mut policy) / 1_000_000).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 100, 100]);
        // Requests that are found shorten the next pause, and others do not.
        let start = 1_000_000_000;
        (0..100).for_each(|i| policy.requested(start + i * (LIMIT + 1)));
        assert_eq!(policy.pause, PAUSES[1]);
        (0..50).for_each(|i| policy.requested(2 * start + i));
        assert!((PAUSES[1] / 3..PAUSES[1] / 2).contains(&policy.pause));
        (0..500).for_each(|i| policy.requested(2 * start + 50 + i));
        assert_eq!(policy.pause, PAUSES[0]);
    }

    #[test]
    fn never_looks_at_a_limit_of_zero() {
        let mut policy = BusyPoll::new(0);
        for now in [0, 0, 1, u64::MAX, 5] {
            policy.requested(now);
            assert!(!policy.is_active(now));
        }
    }

    #[test]
    fn accepts_any_clock() {
        let mut policy = BusyPoll::new(u64::MAX);
        for now in [5, 0, u64::MAX, 3] {
            policy.requested(now);
            policy.yielded(now, 0);
            policy.yielded(0, now);
            let _ = policy.is_active(now);
        }
    }
}

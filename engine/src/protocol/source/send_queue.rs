//! Sizes the send queue of the main channel; a policy without a clock.
//!
//! Pages that wait in the kernel's send queue delay a requested page that has to follow
//! them, or that is one of them: the sweep follows the requests, so the next page to be
//! touched often waits there already, and no preempt channel can overtake it. The queue
//! is therefore short while pages are requested. It grows while none are: the two sides
//! then wake each other less often, which is most of what the background sweep costs over
//! a short queue.
//!
//! The limit is a sixteenth of the bytes swept since the last request. Nothing here fails
//! or panics.

use std::ops::RangeInclusive;

/// Decides how many bytes may wait in the send queue.
#[derive(Debug)]
pub(crate) struct SendQueue {
    range: RangeInclusive<usize>,
    /// Requests seen.
    requests: u64,
    /// Bytes swept since the last one.
    swept: u64,
    /// The limit that was set last.
    set: Option<usize>,
}

impl SendQueue {
    /// `page` is the largest host page size in bytes. A queue that is shorter than a
    /// requested page only makes the two sides wait for each other.
    pub(crate) fn new(range: &RangeInclusive<usize>, page: u64) -> Self {
        let page = usize::try_from(page).unwrap_or(usize::MAX);
        let (least, most) = (*range.start(), *range.end());
        Self {
            range: least.max(page).min(most)..=most,
            requests: 0,
            swept: 0,
            set: None,
        }
    }

    /// There is a new link, whose queue has its default size.
    pub(crate) fn reset(&mut self) {
        (self.swept, self.set) = (0, None);
    }

    /// Counts `bytes` of the sweep.
    pub(crate) fn swept(&mut self, bytes: u64) {
        self.swept = self.swept.saturating_add(bytes);
    }

    /// Whether no page has been requested for so long that the limit is the greatest.
    pub(crate) fn is_quiet(&self) -> bool {
        self.set == Some(*self.range.end())
    }

    /// Returns the limit to set, if it has changed. `requests` have been received in all.
    pub(crate) fn limit(&mut self, requests: u64) -> Option<usize> {
        if self.requests != requests {
            (self.requests, self.swept) = (requests, 0);
        }
        let (least, most) = (*self.range.start(), *self.range.end());
        let grown = usize::try_from(self.swept / 16).unwrap_or(usize::MAX);
        let factor = grown / least.max(1);
        // Powers of two, so that the limit seldom changes.
        let size = least << factor.checked_ilog2().unwrap_or(0).min(usize::BITS / 2);
        let size = size.min(most);
        (self.set.replace(size) != Some(size)).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = 64 << 10;
    const MOST: usize = 4 << 20;

    #[test]
    fn grows_while_no_page_is_requested_and_shrinks_at_once() {
        let mut queue = SendQueue::new(&(LEAST..=MOST), 4096);
        let mut sizes = Vec::new();
        for _ in 0..(256 << 20) / LEAST {
            assert_eq!(queue.is_quiet(), sizes.last() == Some(&MOST));
            sizes.extend(queue.limit(0));
            queue.swept(LEAST as u64);
        }
        let doubled: Vec<usize> = (0..7).map(|i| LEAST << i).collect();
        assert_eq!(sizes, doubled);
        assert_eq!(queue.limit(1), Some(LEAST));
        assert_eq!(queue.limit(1), None);
        assert!(!queue.is_quiet());
        queue.swept(32 * LEAST as u64);
        assert_eq!(queue.limit(1), Some(2 * LEAST));
        queue.reset();
        assert_eq!(queue.limit(1), Some(LEAST), "a new link");
    }

    #[test]
    fn has_room_for_a_huge_page() {
        let first = |page| SendQueue::new(&(LEAST..=MOST), page).limit(0);
        assert_eq!(first(2 << 20), Some(2 << 20));
        assert_eq!(first(1 << 30), Some(MOST));
    }

    #[test]
    fn doubles_at_most_32_times() {
        let mut queue = SendQueue::new(&(4096..=usize::MAX), 4096);
        queue.swept(u64::MAX);
        assert_eq!(queue.limit(0), Some(4096 << 32));
    }

    #[test]
    fn stays_within_any_range() {
        for range in [
            0..=0,
            0..=MOST,
            1..=1,
            RangeInclusive::new(MOST, LEAST),
            5..=usize::MAX,
        ] {
            let mut queue = SendQueue::new(&range, 4096);
            for bytes in [0, 1, LEAST as u64, u64::MAX] {
                queue.swept(bytes);
                if let Some(size) = queue.limit(0) {
                    assert!(size <= *range.end(), "{range:?}: {size}");
                }
            }
        }
    }
}

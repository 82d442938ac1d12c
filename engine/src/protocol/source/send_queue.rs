//! Sizes the send queue of the main channel; a policy without a clock.
//!
//! Pages that wait in the kernel's send queue delay a requested page, so on a channel
//! that carries both the queue is short while pages are requested. It grows while none
//! are: the two sides then wake each other less often, which is most of what the
//! background sweep costs over a short queue.
//!
//! The limit is a quarter of the bytes swept since the last request. Nothing here fails
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

    /// Returns the limit to set, if it has changed. `requests` have been received in
    /// all; `shared` says whether requested pages travel in this queue.
    pub(crate) fn limit(&mut self, requests: u64, shared: bool) -> Option<usize> {
        if self.requests != requests {
            (self.requests, self.swept) = (requests, 0);
        }
        let (least, most) = (*self.range.start(), *self.range.end());
        let size = if shared {
            let grown = usize::try_from(self.swept / 4).unwrap_or(usize::MAX);
            let factor = grown / least.max(1);
            // Powers of two, so that the limit seldom changes.
            least << factor.checked_ilog2().unwrap_or(0).min(usize::BITS / 2)
        } else {
            most
        };
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
        for _ in 0..(64 << 20) / LEAST {
            sizes.extend(queue.limit(0, true));
            queue.swept(LEAST as u64);
        }
        let doubled: Vec<usize> = (0..7).map(|i| LEAST << i).collect();
        assert_eq!(sizes, doubled);
        assert_eq!(queue.limit(1, true), Some(LEAST));
        assert_eq!(queue.limit(1, true), None);
        queue.swept(8 * LEAST as u64);
        assert_eq!(queue.limit(1, true), Some(2 * LEAST));
    }

    #[test]
    fn stays_long_if_requested_pages_have_their_own_channel() {
        let mut queue = SendQueue::new(&(LEAST..=MOST), 4096);
        assert_eq!(queue.limit(0, false), Some(MOST));
        assert_eq!(queue.limit(7, false), None);
        queue.reset();
        assert_eq!(queue.limit(7, false), Some(MOST), "a new link");
    }

    #[test]
    fn has_room_for_a_huge_page() {
        let first = |page| SendQueue::new(&(LEAST..=MOST), page).limit(0, true);
        assert_eq!(first(2 << 20), Some(2 << 20));
        assert_eq!(first(1 << 30), Some(MOST));
    }

    #[test]
    fn doubles_at_most_32_times() {
        let mut queue = SendQueue::new(&(4096..=usize::MAX), 4096);
        queue.swept(u64::MAX);
        assert_eq!(queue.limit(0, true), Some(4096 << 32));
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
                if let Some(size) = queue.limit(0, true) {
                    assert!(size <= *range.end(), "{range:?}: {size}");
                }
            }
        }
    }
}

//! How much of the sweep may wait in the kernel.
//!
//! Pages that wait in the send queue stand in front of a requested one, so on a
//! channel that carries both the queue is short while pages are requested. It
//! grows while none is: the sides then wake each other less often, which is
//! most of what a sweep over a short queue costs.
//!
//! The queue follows the bytes swept since the last request, a quarter of them:
//! no clock is needed, and a slow sweep grows it slowly. Nothing here fails.

use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Window {
    range: RangeInclusive<usize>,
    /// Requests seen.
    requests: u64,
    /// Bytes swept since the last one.
    swept: u64,
    /// What was set last.
    set: Option<usize>,
}

impl Window {
    /// `page` is the largest host page in bytes: where a request is for more
    /// than the queue, a short one only makes the sides wait for each other.
    pub(super) fn new(range: &RangeInclusive<usize>, page: u64) -> Self {
        let page = usize::try_from(page).unwrap_or(usize::MAX);
        let (least, most) = (*range.start(), *range.end());
        Self {
            range: least.max(page).min(most)..=most,
            requests: 0,
            swept: 0,
            set: None,
        }
    }

    /// A link of its own size: the last one's is forgotten.
    pub(super) fn reset(&mut self) {
        (self.swept, self.set) = (0, None);
    }

    /// Counts `bytes` of the sweep.
    pub(super) fn swept(&mut self, bytes: u64) {
        self.swept = self.swept.saturating_add(bytes);
    }

    /// The size to set, if it is not the one that is. `requests` have been
    /// seen in all; `shared` says whether their pages travel in this queue.
    pub(super) fn turn(&mut self, requests: u64, shared: bool) -> Option<usize> {
        if self.requests != requests {
            (self.requests, self.swept) = (requests, 0);
        }
        let (least, most) = (*self.range.start(), *self.range.end());
        let size = if shared {
            let grown = usize::try_from(self.swept / 4).unwrap_or(usize::MAX);
            let doubled = grown / least.max(1);
            // In powers of two, so that it is not set all the time.
            least << doubled.checked_ilog2().unwrap_or(0).min(usize::BITS / 2)
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
    fn grows_while_nothing_is_requested_and_shrinks_at_once() {
        let mut window = Window::new(&(LEAST..=MOST), 4096);
        let mut sizes = Vec::new();
        for _ in 0..(64 << 20) / LEAST {
            sizes.extend(window.turn(0, true));
            window.swept(LEAST as u64);
        }
        let doubled: Vec<usize> = (0..7).map(|i| LEAST << i).collect();
        assert_eq!(sizes, doubled);
        assert_eq!(window.turn(1, true), Some(LEAST));
        assert_eq!(window.turn(1, true), None);
        window.swept(8 * LEAST as u64);
        assert_eq!(window.turn(1, true), Some(2 * LEAST));
    }

    #[test]
    fn stays_long_where_requests_have_a_channel_of_their_own() {
        let mut window = Window::new(&(LEAST..=MOST), 4096);
        assert_eq!(window.turn(0, false), Some(MOST));
        assert_eq!(window.turn(7, false), None);
        window.reset();
        assert_eq!(window.turn(7, false), Some(MOST), "a new link");
    }

    #[test]
    fn has_room_for_a_huge_page() {
        let first = |page| Window::new(&(LEAST..=MOST), page).turn(0, true);
        assert_eq!(first(2 << 20), Some(2 << 20));
        assert_eq!(first(1 << 30), Some(MOST));
    }

    #[test]
    fn keeps_to_any_range() {
        for range in [
            0..=0,
            0..=MOST,
            1..=1,
            RangeInclusive::new(MOST, LEAST),
            5..=usize::MAX,
        ] {
            let mut window = Window::new(&range, 4096);
            for bytes in [0, 1, LEAST as u64, u64::MAX] {
                window.swept(bytes);
                if let Some(size) = window.turn(0, true) {
                    assert!(size <= *range.end(), "{range:?}: {size}");
                }
            }
        }
    }
}

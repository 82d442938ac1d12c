//! Detects a source that stays in precopy after all of the guest's memory has been
//! received.
//!
//! Most often the guest changes memory faster than the connection carries it. A
//! source with the capability switchover-ack looks the same while it waits for
//! SWITCHOVER_ACK, and an old machine type does not show whether its QEMU knows
//! that message. Time is in nanoseconds; nothing here fails.

/// Time in that state before it is reported.
const SAY: u64 = 5_000_000_000;

/// A source that sends nothing for this long counts as paused by its user.
const PAUSE: u64 = 1_000_000_000;

/// Watches a source; see the module documentation.
#[derive(Debug, Default)]
pub(super) struct Unswitched {
    since: Option<u64>,
    /// Pages received, and when that number last changed.
    moved: (u64, u64),
    said: bool,
}

impl Unswitched {
    /// `pages` is the number of pages received in precopy once every page has been
    /// received; `None` if the source cannot be waiting for SWITCHOVER_ACK. Returns,
    /// once, for how many seconds that has lasted.
    pub(super) fn handle(&mut self, now: u64, pages: Option<u64>) -> Option<u64> {
        let Some(pages) = pages else {
            self.since = None;
            return None;
        };
        if self.moved.0 != pages {
            self.moved = (pages, now);
        } else if now.saturating_sub(self.moved.1) >= PAUSE {
            self.since = None;
            return None;
        }
        let went_on = now.saturating_sub(*self.since.get_or_insert(now));
        if self.said || went_on < SAY {
            return None;
        }
        self.said = true;
        Some(went_on / 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: u64 = 100_000_000;

    #[test]
    fn reports_a_source_that_keeps_sending_once() {
        let mut unswitched = Unswitched::default();
        let told = (0..200).filter_map(|i| unswitched.handle(i * TENTH, Some(i)));
        assert_eq!(told.collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn does_not_report_a_source_that_was_paused_or_cannot_wait() {
        let mut unswitched = Unswitched::default();
        for i in 0..600 {
            // Four seconds of pages, then two of none.
            let pages = i / 60 * 40 + (i % 60).min(40);
            assert_eq!(unswitched.handle(i * TENTH, Some(pages)), None);
        }
        for i in 600..900 {
            assert_eq!(unswitched.handle(i * TENTH, None), None);
        }
    }
}

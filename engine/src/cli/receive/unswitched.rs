//! A source that goes on in precopy although all of the guest's memory has come.
//!
//! Most often its guest changes memory faster than the link carries it. But one
//! with the capability switchover-ack looks the same while it waits for leave,
//! and an old machine type does not tell whether its QEMU knows the message. Time
//! is in nanoseconds; nothing here fails.

/// How long that may go on before it is worth a line.
const SAY: u64 = 5_000_000_000;

/// A source that sends nothing for so long has been paused by its user.
const PAUSE: u64 = 1_000_000_000;

/// Watches a source; see the module.
#[derive(Debug, Default)]
pub(super) struct Unswitched {
    since: Option<u64>,
    /// Pages that had come, and when that last changed.
    moved: (u64, u64),
    said: bool,
}

impl Unswitched {
    /// `pages` have come in precopy, more than the guest has; none if the source
    /// cannot be one that waits for leave. Gives, once, for how many seconds it
    /// has gone on.
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
    fn tells_once_of_a_source_that_goes_on() {
        let mut unswitched = Unswitched::default();
        let told = (0..200).filter_map(|i| unswitched.handle(i * TENTH, Some(i)));
        assert_eq!(told.collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn says_nothing_of_a_source_that_was_paused_or_cannot_wait() {
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

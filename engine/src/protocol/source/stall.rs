//! Detects a stalled destination; a policy without a clock.
//!
//! A link counts as broken when it is the destination's turn and nothing has moved for
//! a configured time. Times are in nanoseconds. Nothing here fails or panics.

/// Measures how long nothing has moved although it is the destination's turn.
#[derive(Debug)]
pub(crate) struct Stall {
    /// `None`: never stalled.
    timeout: Option<u64>,
    since: Option<u64>,
    /// Bytes that the links had taken at `since`.
    written: u64,
}

/// What happened on the links.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StallEvent {
    /// The destination sent something other than a request, or there is a new link.
    /// A request shows in what is written, unless its page has been sent already.
    Progress,
    /// A turn of the loop ended. The links have taken `written` bytes in all;
    /// `waiting` says whether only the destination can go on.
    Turn { written: u64, waiting: bool },
}

impl Stall {
    pub(crate) fn new(timeout: Option<u64>) -> Self {
        Self {
            timeout,
            since: None,
            written: 0,
        }
    }

    /// Returns whether the destination has stalled.
    pub(crate) fn handle(&mut self, now: u64, event: StallEvent) -> bool {
        match event {
            StallEvent::Turn { written, waiting } if waiting && written == self.written => {
                self.since.get_or_insert(now);
            }
            StallEvent::Turn { written, .. } => {
                self.written = written;
                self.since = None;
            }
            StallEvent::Progress => self.since = None,
        }
        self.poll_deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When the destination counts as stalled.
    pub(crate) fn poll_deadline(&self) -> Option<u64> {
        Some(self.since?.saturating_add(self.timeout?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn turn(written: u64, waiting: bool) -> StallEvent {
        StallEvent::Turn { written, waiting }
    }

    #[test]
    fn waits_forever_without_a_timeout() {
        let mut stall = Stall::new(None);
        assert!((0..9).all(|day| !stall.handle(day * 86_400 * SECOND, turn(0, true))));
        assert_eq!(stall.poll_deadline(), None);
    }

    #[test]
    fn counts_from_the_last_progress() {
        let mut stall = Stall::new(Some(5 * SECOND));
        for (second, event) in [
            (0, turn(7, true)),
            (10, turn(8, true)),
            (20, turn(8, false)),
            (30, turn(8, true)),
            (34, StallEvent::Progress),
            (36, turn(8, true)),
            (40, turn(8, true)),
        ] {
            assert!(!stall.handle(second * SECOND, event), "{second} s");
        }
        assert_eq!(stall.poll_deadline(), Some(41 * SECOND));
        assert!(!stall.handle(41 * SECOND - 1, turn(8, true)));
        assert!(stall.handle(41 * SECOND, turn(8, true)));
    }
}

//! How long a peer has been waited for. Its one error is that it was too long.

use std::time::{Duration, Instant};

use retpath_codec::stream::Item;
use retpath_codec::{Message, Name};

use super::super::RunError;

/// Whether the destination asks for pages. One that is answered is seen in what
/// is written; one for a page that has been sent moves nothing.
pub(super) fn is_request(item: &Item<'_, Message<Name<'_>>>) -> bool {
    matches!(
        item,
        Item::Message {
            message: Message::ReqPages { .. } | Message::ReqPagesId { .. },
            ..
        }
    )
}

/// Since when nothing has moved although it is the peer's turn.
#[derive(Debug)]
pub(super) struct Stall {
    /// How long that may be.
    limit: Option<Duration>,
    since: Option<Instant>,
    /// Bytes that the links had taken then.
    written: u64,
}

impl Stall {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            since: None,
            written: 0,
        }
    }

    /// Something has come, or there is a new link.
    pub(super) fn moved(&mut self) {
        self.since = None;
    }

    /// The links have taken `written` bytes so far; `waiting` says whether only
    /// the peer can go on.
    ///
    /// # Errors
    ///
    /// [`RunError::Stalled`].
    pub(super) fn check(&mut self, written: u64, waiting: bool) -> Result<(), RunError> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        if !waiting || self.written != written {
            self.written = written;
            self.since = None;
            return Ok(());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < limit {
            return Ok(());
        }
        let seconds = limit.as_secs();
        Err(RunError::Stalled { seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_ever_unless_told_otherwise() {
        let mut stall = Stall::new(None);
        assert!((0..9).all(|_| stall.check(7, true).is_ok()));
    }

    #[test]
    fn counts_only_from_the_last_movement_on() {
        let mut stall = Stall::new(Some(Duration::ZERO));
        assert!(stall.check(7, true).is_ok(), "written");
        assert!(stall.check(7, false).is_ok(), "not its turn");
        assert!(stall.check(8, true).is_ok(), "written");
        let error = stall.check(8, true).expect_err("nothing moved");
        assert!(error.is_link(), "{error}");
        let mut stall = Stall::new(Some(Duration::from_secs(3600)));
        assert!((0..9).all(|_| stall.check(7, true).is_ok()));
        stall.moved();
        assert!(stall.since.is_none());
    }
}

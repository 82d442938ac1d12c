//! Accepts connections, and looks at their first bytes. [`Pending`] decides which of them
//! become channels.

use super::{DestinationHandler, PROGRESS};
use crate::destination::pending::{HEAD, MAX_PENDING, Pending, Refusal};
use crate::socket::{Accept, Link, Moved};

/// The listener, and the connections from it that are no channels yet.
pub(super) struct Acceptor<'a> {
    pub(super) listener: &'a mut dyn Accept,
    pub(super) pending: Pending<Link>,
    /// Time of the next attempt, if the last one failed. Until then the listener is not
    /// polled: it stays readable while descriptors are short.
    pub(super) retry: Option<u64>,
}

impl Acceptor<'_> {
    /// Accepts some connections, and looks at all. There is a limit, so that a flood of
    /// them does not hold the loop.
    pub(super) fn admit(&mut self, now: u64, handler: &mut dyn DestinationHandler) {
        for _ in 0..MAX_PENDING {
            // An inherited connection is the main channel.
            if self.retry.is_some_and(|at| now < at) || self.listener.fd().is_none() {
                break;
            }
            let accepted = self.listener.accept();
            let failed = accepted.is_err();
            self.retry = failed.then(|| now.saturating_add(PROGRESS));
            match accepted {
                Ok(Some(link)) => {
                    // What has arrived decides which connection has to go.
                    if self.pending.is_full() {
                        self.look(|why| handler.refused(why));
                    }
                    let user = link.peer_user();
                    if let Some(why) = self.pending.admit(link, user) {
                        handler.refused(&why);
                    }
                }
                Ok(None) => break,
                Err(error) => handler.accept_failed(&error),
            }
        }
        self.look(|why| handler.refused(why));
    }

    /// Looks at what has arrived on the pending connections.
    pub(super) fn look(&mut self, refused: impl FnMut(&Refusal)) {
        self.pending.update(peek, refused);
    }

    /// Drops the pending connections, and waits for no other.
    pub(super) fn give_up(&mut self) {
        self.pending.clear();
        self.retry = None;
    }
}

fn peek(link: &Link, head: &mut [u8; HEAD]) -> Result<Option<(usize, bool)>, Refusal> {
    // Asked first: what is peeked afterwards is then all there is.
    let has_ended = link.has_ended();
    match link.peek(head) {
        Ok(Moved::Bytes(len)) => Ok(Some((len, has_ended))),
        Ok(Moved::Later) => Ok(Some((0, false))),
        Ok(Moved::End) => Ok(None),
        Err(error) => Err(Refusal::Unreadable {
            cause: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use retpath_codec::forward;

    use super::*;
    use crate::blocks::{Block, BlockId};
    use crate::destination::Content;
    use crate::destination::pending::Wanted;
    use crate::driver::HandlerError;
    use crate::memory::Memory;
    use crate::socket::ConnectionQueue;

    struct Handler;

    impl DestinationHandler for Handler {
        fn memory(&mut self, _: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
            Ok(None)
        }

        fn page(&mut self, _: BlockId, _: u64, _: Content<'_>) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    #[test]
    fn a_burst_does_not_evict_a_connection_whose_bytes_have_arrived() {
        let queue = ConnectionQueue::new().expect("a descriptor");
        let mut listener = queue.clone();
        let stream = forward::Options::default();
        let mut acceptor = Acceptor {
            listener: &mut listener,
            pending: Pending::new(Wanted::First, None, stream, false),
            retry: None,
        };
        // They stay open until the end.
        let mut far = Vec::new();
        let mut connect = |bytes: &[u8]| {
            let (near, other) = Link::pair().expect("descriptors");
            other.write(bytes).expect("there is room");
            queue.push(near).expect("the queue is open");
            far.push(other);
        };
        // Strangers that have sent one byte, all but one of those that may wait.
        for _ in 1..MAX_PENDING {
            connect(b"Q");
        }
        acceptor.admit(0, &mut Handler);
        // The source, and a stranger that is accepted in the same turn.
        connect(b"QEVM\0\0\0\x03");
        connect(b"");
        acceptor.admit(1, &mut Handler);
        let arrived = |link: &Link| peek(link, &mut [0; HEAD]).ok().flatten();
        let mut sizes = acceptor.pending.unread().filter_map(arrived);
        assert!(sizes.any(|(len, _)| len == 8), "the source was evicted");
    }
}

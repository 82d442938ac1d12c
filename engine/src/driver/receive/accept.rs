//! Accepts connections, and looks at their first bytes. [`Pending`] decides which of them
//! become channels.

use super::super::RunError;
use crate::destination::pending::{HEAD, MAX_PENDING, Pending, Refusal};
use crate::socket::{Accept, Link, Moved};

/// The listener, and the connections from it that are no channels yet.
pub(super) struct Acceptor<'a> {
    pub(super) listener: &'a mut dyn Accept,
    pub(super) pending: Pending<Link>,
}

impl Acceptor<'_> {
    /// Accepts some connections, and looks at all. There is a limit, so that a flood of
    /// them does not hold the loop.
    pub(super) fn admit(&mut self, mut refused: impl FnMut(&Refusal)) -> Result<(), RunError> {
        for _ in 0..MAX_PENDING {
            // An inherited connection is the main channel.
            if self.listener.fd().is_none() {
                return Ok(());
            }
            let Some(link) = self.listener.accept()? else {
                break;
            };
            let user = link.peer_user();
            if let Some(why) = self.pending.admit(link, user) {
                refused(&why);
            }
        }
        self.look(refused);
        Ok(())
    }

    /// Looks at what has arrived on the pending connections.
    pub(super) fn look(&mut self, refused: impl FnMut(&Refusal)) {
        self.pending.update(peek, refused);
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

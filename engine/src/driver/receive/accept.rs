//! Accepts connections, and looks at their first bytes. [`Pending`] decides which of them
//! become channels.

use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;

use super::super::RunError;
use crate::destination::pending::{HEADER, Interest, MAX_PENDING, Peek, Pending, Wanted};
use crate::socket::{Accept, Link, Moved};

/// The listener, and the connections from it that are no channels yet.
pub(super) struct Acceptor<'a> {
    listener: &'a mut dyn Accept,
    pending: Pending<Link>,
}

impl<'a> Acceptor<'a> {
    pub(super) fn new(listener: &'a mut dyn Accept, wanted: Wanted) -> Self {
        let pending = Pending::new(wanted);
        Self { listener, pending }
    }

    /// The listener's descriptor, while connections are accepted.
    pub(super) fn listener_fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.fd().filter(|_| self.pending.has_room())
    }

    /// What to poll for pending connections.
    pub(super) fn pending_links(&self) -> impl Iterator<Item = (&Link, PollFlags)> {
        self.pending.interests().filter_map(|(link, interest)| {
            let flags = match interest {
                Interest::Readable => PollFlags::IN | PollFlags::RDHUP,
                Interest::Close => PollFlags::RDHUP,
                Interest::Nothing => return None,
            };
            Some((link, flags))
        })
    }

    pub(super) fn want(&mut self, wanted: Wanted) {
        self.pending.want(wanted);
    }

    /// Whether a preempt channel is wanted.
    pub(super) fn wants_preempt(&self) -> bool {
        self.pending.wanted() == Wanted::Preempt
    }

    /// Whether there are no pending connections.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Drops the pending connections.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    /// The wanted main channel, if it has connected. `ready`: the listener is readable.
    pub(super) fn main(&mut self, ready: bool) -> Result<Option<Link>, RunError> {
        if self.listener.fd().is_none() {
            // An inherited connection is the only one there will ever be.
            return Ok(self.listener.accept()?);
        }
        // Bounded, so that a flood of connections does not hold the loop.
        for _ in 0..if ready { MAX_PENDING } else { 0 } {
            match self.listener.accept()? {
                Some(link) => drop(self.pending.admit(link)),
                None => break,
            }
        }
        Ok(self.take())
    }

    /// Takes the wanted connection, if it is among the pending ones.
    pub(super) fn take(&mut self) -> Option<Link> {
        self.pending.update(peek);
        self.pending.take()
    }

    /// Accepts connections as long as there is room for them.
    pub(super) fn admit(&mut self) -> Result<(), RunError> {
        while self.listener_fd().is_some()
            && let Some(link) = self.listener.accept()?
        {
            self.pending.admit(link);
        }
        Ok(())
    }

    /// Fails if a pending connection is a multifd channel. Before QEMU 8.1 the main
    /// channel need not show that pages travel on multifd channels, and a precopy
    /// migration would seem complete with its pages missing.
    pub(super) fn refuse_multifd(&mut self) -> Result<(), RunError> {
        self.pending.update(peek);
        match self.pending.has_multifd() {
            true => Err(RunError::Multifd),
            false => Ok(()),
        }
    }

    /// The same, with the connections that are not accepted yet.
    pub(super) fn refuse_all_multifd(&mut self) -> Result<(), RunError> {
        loop {
            self.refuse_multifd()?;
            match self.listener.accept()? {
                Some(link) => drop(self.pending.admit(link)),
                None => return Ok(()),
            }
        }
    }
}

fn peek(link: &Link) -> Peek {
    let mut head = [0; HEADER];
    match link.peek(&mut head) {
        Ok(Moved::Bytes(len)) => Peek::Bytes {
            head,
            len,
            is_last: link.has_ended(),
        },
        Ok(Moved::Later) => Peek::Nothing,
        Ok(Moved::End) | Err(_) => Peek::Closed,
    }
}

//! Accepting connections.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::SocketFlags;

use super::socket_file::SocketFile;
use super::{Address, ChannelError, Link};

/// Where a destination's connections come from: a [`Listener`], a [`ConnectionQueue`], or anything
/// of the embedder.
pub trait Accept {
    /// The descriptor that polls readable when [`accept`](Accept::accept) has a connection. `None`
    /// if there is one connection in all, which is there from the beginning.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// The next connection, if there is one. Does not block.
    ///
    /// # Errors
    ///
    /// No connection can be accepted now. It is tried again after a moment, unless there is
    /// one connection in all: then the migration fails.
    fn accept(&mut self) -> Result<Option<Link>, ChannelError>;
}

/// Connections that the embedder accepted itself, such as TLS sessions after their handshake, or
/// descriptors from a supervisor. Clones share the queue, so one end can push while a loop accepts
/// from the other.
#[derive(Clone, Debug)]
pub struct ConnectionQueue {
    /// Readable while connections wait.
    event: Arc<OwnedFd>,
    links: Arc<Mutex<VecDeque<Link>>>,
}

impl ConnectionQueue {
    /// An empty queue.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        Ok(Self {
            event: Arc::new(eventfd(0, flags)?),
            links: Arc::default(),
        })
    }

    /// Appends a connection.
    ///
    /// # Errors
    ///
    /// The loop cannot be told; the connection is closed.
    pub fn push(&self, link: Link) -> io::Result<()> {
        let mut links = self.lock();
        retry_on_intr(|| rustix::io::write(&self.event, &1u64.to_ne_bytes()))?;
        links.push_back(link);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accept for ConnectionQueue {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event.as_fd())
    }

    fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        let mut links = self.lock();
        // One count for each connection that was pushed before.
        if retry_on_intr(|| rustix::io::read(&self.event, &mut [0; 8])).is_err() {
            return Ok(None);
        }
        Ok(links.pop_front())
    }
}

/// Accepts connections at an [`Address`], without blocking.
pub struct Listener {
    pub(super) socket: ListeningSocket,
    pub(super) address: Address,
    pub(super) on_accept: Box<dyn FnMut(Link) -> Link + Send>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

pub(super) enum ListeningSocket {
    /// The file of a Unix socket is removed with the listener.
    Listening(OwnedFd, #[allow(dead_code)] Option<SocketFile>),
    /// A connection that was inherited.
    Inherited(Option<OwnedFd>),
}

impl Listener {
    /// The address, with the port that the kernel chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The descriptor to poll for a connection; `None` for `fd:`.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            ListeningSocket::Listening(socket, _) => Some(socket.as_fd()),
            ListeningSocket::Inherited(_) => None,
        }
    }

    /// Passes each link that is accepted from now on through `wrap`, such as [`Link::wrap`].
    pub fn on_accept(&mut self, wrap: impl FnMut(Link) -> Link + Send + 'static) {
        self.on_accept = Box::new(wrap);
    }

    /// The next connection, if there is one.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Io`].
    pub fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        let accepted = match &mut self.socket {
            ListeningSocket::Listening(socket, _) => {
                rustix::net::accept_with(socket, SocketFlags::CLOEXEC)
            }
            ListeningSocket::Inherited(fd) => fd.take().ok_or(Errno::AGAIN),
        };
        let link = match accepted {
            // After ECONNABORTED the peer has closed the connection again; the next may be fine.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(None),
            Err(errno) => Err(errno.into()),
            Ok(fd) => Link::new(fd),
        };
        let link = link.map_err(self.address.io("cannot accept a connection on"))?;
        Ok(Some((self.on_accept)(link)))
    }
}

impl Accept for Listener {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Listener::fd(self)
    }

    fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        Listener::accept(self)
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::super::Moved;
    use super::*;

    fn is_ready(queue: &ConnectionQueue) -> bool {
        let fd = queue.fd().expect("an eventfd");
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).expect("polls") == 1
    }

    #[test]
    fn queues_connections_in_order_and_announces_each() {
        let mut queue = ConnectionQueue::new().expect("a descriptor");
        assert!(!is_ready(&queue));
        assert!(queue.accept().expect("empty").is_none());
        let mut fars = Vec::new();
        for byte in 0..3 {
            let (near, far) = Link::pair().expect("a pair");
            near.write(&[byte]).expect("room");
            queue.clone().push(far).expect("room");
            fars.push(near);
        }
        for byte in 0..3 {
            assert!(is_ready(&queue));
            let link = queue.accept().expect("works").expect("one more");
            let mut got = [9];
            assert_eq!(link.read(&mut got).expect("a byte"), Moved::Bytes(1));
            assert_eq!(got, [byte]);
        }
        assert!(!is_ready(&queue));
    }
}

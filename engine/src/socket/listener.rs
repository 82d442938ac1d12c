//! Accepting connections.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use rustix::event::{EventfdFlags, eventfd};

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
    /// No further connection can be accepted. The migration fails if it needs one.
    fn accept(&mut self) -> Result<Option<Link>, ChannelError>;
}

/// Connections that the embedder accepted itself, such as TLS sessions after their handshake, or
/// descriptors from a supervisor. Clones share the queue, so one end can push while a loop accepts
/// from the other.
#[derive(Clone, Debug)]
pub struct ConnectionQueue {
    inner: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// Readable while connections wait.
    event: OwnedFd,
    links: Mutex<VecDeque<Link>>,
}

impl ConnectionQueue {
    /// An empty queue.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let event = eventfd(0, flags)?;
        let links = Mutex::default();
        Ok(Self {
            inner: Arc::new(Queue { event, links }),
        })
    }

    /// Appends a connection.
    pub fn push(&self, link: Link) {
        let mut links = self
            .inner
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        links.push_back(link);
        // Cannot fail: the count stays far below the limit of an eventfd.
        let _ = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
    }
}

impl Accept for ConnectionQueue {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inner.event.as_fd())
    }

    fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        let mut links = self
            .inner
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One count for each connection; the lock keeps them equal.
        let _ = rustix::io::read(&self.inner.event, &mut [0; 8]);
        Ok(links.pop_front())
    }
}

/// Accepts connections at an [`Address`], without blocking.
pub struct Listener {
    pub(super) socket: ListeningSocket,
    pub(super) address: Address,
    pub(super) on_accept: Option<OnAccept>,
}

/// What is done with each new link.
pub(super) type OnAccept = Box<dyn FnMut(Link) -> Link + Send>;

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

pub(super) enum ListeningSocket {
    /// The socket's file is removed with the listener.
    Unix(UnixListener, #[allow(dead_code)] SocketFile),
    Tcp(TcpListener),
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
            ListeningSocket::Unix(socket, _) => Some(socket.as_fd()),
            ListeningSocket::Tcp(socket) => Some(socket.as_fd()),
            ListeningSocket::Inherited(_) => None,
        }
    }

    /// Passes each link that is accepted from now on through `wrap`, such as
    /// [`FaultInjector::wrap`](super::FaultInjector::wrap).
    pub fn on_accept(&mut self, wrap: impl FnMut(Link) -> Link + Send + 'static) {
        self.on_accept = Some(Box::new(wrap));
    }

    /// The next connection, if there is one.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Io`].
    pub fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        let accepted: io::Result<OwnedFd> = match &mut self.socket {
            ListeningSocket::Unix(socket, _) => socket.accept().map(|(stream, _)| stream.into()),
            ListeningSocket::Tcp(socket) => socket.accept().map(|(stream, _)| stream.into()),
            ListeningSocket::Inherited(fd) => {
                fd.take().ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
        };
        let failed = self.address.io("cannot accept a connection on");
        match accepted {
            Ok(fd) => {
                let link = Link::new(fd).map_err(failed)?;
                Ok(Some(match &mut self.on_accept {
                    Some(wrap) => wrap(link),
                    None => link,
                }))
            }
            // The peer has closed the connection again; the next one may be fine.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(failed(e)),
        }
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
            queue.clone().push(far);
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

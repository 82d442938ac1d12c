//! Connections: byte streams that never block, over any transport.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, Shutdown, sockopt};
use socket2::SockRef;

/// What carries the bytes of a [`Link`]: a socket, a TLS session, a wrapper around another
/// transport.
///
/// The descriptor ([`AsFd`]) tells when to call: it polls readable when [`read_vectored`] has
/// something new to return, and writable when [`write_vectored`] can take bytes. No method blocks;
/// a call that would block fails with [`ErrorKind::WouldBlock`]. A handshake is complete before the
/// transport becomes a link.
///
/// [`read_vectored`]: Transport::read_vectored
/// [`write_vectored`]: Transport::write_vectored
pub trait Transport: AsFd + Send {
    /// Reads into the first of `bufs`, then the next; returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`], or the connection is broken.
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes from the first of `bufs`, then the next; returns how many bytes were taken.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`], or the connection is broken.
    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Passes on what [`write_vectored`](Transport::write_vectored) took but still holds. Called
    /// after the last write, and after one that would block; and again when the descriptor is
    /// writable, until it succeeds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`], or the connection is broken.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether bytes can be read that the descriptor does not announce, because the transport has
    /// read them already.
    fn has_buffered(&self) -> bool {
        false
    }

    /// Whether the peer has closed its side: nothing follows what can be read.
    fn has_ended(&self) -> bool {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(ends)
    }

    /// Ends both directions; the peer sees the end of the stream. Errors are ignored: a broken
    /// connection has ended already.
    fn shut_down(&self);

    /// The user of the process at the other end, if the transport can tell.
    fn peer_user(&self) -> Option<u32> {
        None
    }

    /// Bounds what waits in the kernel to be sent; see [`Link::limit_send_queue`].
    ///
    /// # Errors
    ///
    /// The option cannot be set.
    fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// One connection: a byte stream in both directions, never blocking.
pub struct Link {
    transport: Box<dyn Transport>,
    ahead: RefCell<Ahead>,
}

/// Bytes that [`Link::peek`] has read and [`Link::read`] has not returned yet.
#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    /// Whether the stream ends, or breaks, behind them.
    ended: bool,
}

/// The result of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This many bytes; at least 1.
    Bytes(usize),
    /// Nothing now: poll first.
    Later,
    /// The peer has closed its side (reads only).
    End,
}

impl Link {
    /// Takes over a connected stream socket: one that was accepted, or half of a socket pair.
    ///
    /// # Errors
    ///
    /// It is not a socket, or its options cannot be set.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::over(Box::new(Socket::new(fd)?)))
    }

    /// A link over a transport of the embedder.
    pub fn over(transport: Box<dyn Transport>) -> Self {
        Self {
            transport,
            ahead: RefCell::default(),
        }
    }

    /// Puts a wrapper around the transport. Call it before the first byte is read.
    #[must_use]
    pub fn wrap(mut self, wrapper: impl FnOnce(Box<dyn Transport>) -> Box<dyn Transport>) -> Self {
        self.transport = wrapper(self.transport);
        self
    }

    /// Two ends of one connection within this machine.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Self::new(a.into())?, Self::new(b.into())?))
    }

    /// Bounds what waits in the kernel to be sent: background pages that wait there delay urgent
    /// ones. May be called at any time.
    ///
    /// On TCP the bound is on bytes that are not sent yet (`TCP_NOTSENT_LOWAT`), so that a long
    /// path is still filled; elsewhere it is on bytes that the peer has not read, as far as the
    /// system's own bounds allow.
    ///
    /// # Errors
    ///
    /// The option cannot be set.
    pub fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        self.transport.limit_send_queue(bytes)
    }

    /// The user of the process that connected, or that made the socket pair; `None` if only
    /// a session above the connection can tell, as on TCP.
    pub fn peer_user(&self) -> Option<u32> {
        self.transport.peer_user()
    }

    /// Reads what is available.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<Moved> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    /// Reads what is available into several buffers.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Moved> {
        let ahead = &mut self.ahead.borrow_mut().bytes;
        if ahead.is_empty() {
            return moved(|| self.transport.read_vectored(bufs), Moved::End);
        }
        let mut copied = 0;
        for buf in bufs {
            let len = buf.len().min(ahead.len() - copied);
            buf[..len].copy_from_slice(&ahead[copied..][..len]);
            copied += len;
        }
        ahead.drain(..copied);
        Ok(Moved::Bytes(copied))
    }

    /// Copies the first bytes that are available, and leaves them to be read. [`Moved::Bytes`]
    /// with fewer bytes than `buf` has room for means that no more are available now.
    ///
    /// After an error it reads once more: a broken connection then ends, while an error of this
    /// machine, such as ENOMEM, may have passed.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<Moved> {
        let mut ahead = self.ahead.borrow_mut();
        let mut has_failed = false;
        while ahead.bytes.len() < buf.len() && !ahead.ended {
            let start = ahead.bytes.len();
            let more = &mut buf[start..];
            let read = moved(
                || self.transport.read_vectored(&mut [IoSliceMut::new(more)]),
                Moved::End,
            );
            match read {
                Ok(Moved::Bytes(len)) => ahead.bytes.extend_from_slice(&more[..len]),
                Ok(Moved::Later) if start == 0 => return Ok(Moved::Later),
                Ok(Moved::Later) => break,
                Ok(Moved::End) => ahead.ended = true,
                Err(_) if !has_failed => has_failed = true,
                Err(error) => {
                    ahead.ended = true;
                    if start == 0 {
                        return Err(error);
                    }
                }
            }
        }
        let len = ahead.bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&ahead.bytes[..len]);
        Ok(match len {
            0 => Moved::End,
            len => Moved::Bytes(len),
        })
    }

    /// Whether bytes can be read although the descriptor may not poll readable.
    pub fn has_buffered(&self) -> bool {
        !self.ahead.borrow().bytes.is_empty() || self.transport.has_buffered()
    }

    /// Whether the peer has closed its side: nothing follows what is available.
    pub fn has_ended(&self) -> bool {
        self.ahead.borrow().ended || self.transport.has_ended()
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Moved> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes what there is room for, from several buffers.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<Moved> {
        let moved = moved(|| self.transport.write_vectored(bufs), Moved::Later)?;
        if moved == Moved::Later {
            // A transport that is full of bytes has room again only once it passes them on.
            self.flush()?;
        }
        Ok(moved)
    }

    /// Passes on what the transport holds back; returns whether nothing is left.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn flush(&self) -> io::Result<bool> {
        match retry(|| self.transport.flush()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Ends both directions; the peer sees the end of the stream.
    pub fn shut_down(&self) {
        self.transport.shut_down();
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("fd", &self.as_fd())
            .finish_non_exhaustive()
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Calls until it is not interrupted; `none` is what 0 bytes mean.
fn moved(call: impl FnMut() -> io::Result<usize>, none: Moved) -> io::Result<Moved> {
    match retry(call) {
        Ok(0) => Ok(none),
        Ok(size) => Ok(Moved::Bytes(size)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Moved::Later),
        Err(error) => Err(error),
    }
}

/// Silence on a TCP connection after which the kernel probes the peer.
///
/// The protocol has no timeouts, so the kernel has to find a peer whose machine or network is gone:
/// within 130 seconds, [`UNANSWERED_TIMEOUT_MS`] and one [`KEEPALIVE_INTERVAL`], whether data are on
/// their way or not. The connection then fails with ETIMEDOUT, which is recovered from like any
/// other break.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Unanswered probes that end the connection. Linux measures [`UNANSWERED_TIMEOUT_MS`] instead; the
/// two agree.
const KEEPALIVE_PROBES: u32 = 9;

/// Time in milliseconds for which data or probes may stay unanswered. On Linux a peer that answers,
/// but keeps its receive window closed for as long, also ends the connection. Longer than a network
/// takes to reroute: QEMU must be told to recover when a connection breaks.
const UNANSWERED_TIMEOUT_MS: u32 = 120_000;

/// A connected stream socket.
struct Socket {
    fd: OwnedFd,
    is_tcp: bool,
    /// Read at once: a peer whose user could not be read is not one that does not tell.
    user: Option<u32>,
}

impl Socket {
    /// Tries twice: the source of an accepted connection may be unable to begin again.
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let (is_tcp, user) = Self::prepare(&fd).or_else(|_| Self::prepare(&fd))?;
        Ok(Self { fd, is_tcp, user })
    }

    /// Sets the options; returns whether this is TCP, and the peer's user.
    fn prepare(fd: &OwnedFd) -> io::Result<(bool, Option<u32>)> {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        let family = sockopt::socket_domain(fd)?;
        let is_tcp = family == AddressFamily::INET || family == AddressFamily::INET6;
        if is_tcp {
            // A request of 16 bytes must not wait for more.
            sockopt::set_tcp_nodelay(fd, true)?;
            sockopt::set_socket_keepalive(fd, true)?;
            sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
            sockopt::set_tcp_keepintvl(fd, KEEPALIVE_INTERVAL)?;
            sockopt::set_tcp_keepcnt(fd, KEEPALIVE_PROBES)?;
            sockopt::set_tcp_user_timeout(fd, UNANSWERED_TIMEOUT_MS)?;
        }
        let user = match family == AddressFamily::UNIX {
            true => Some(getsockopt(fd, PeerCredentials)?.uid()),
            false => None,
        };
        Ok((is_tcp, user))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Transport for Socket {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(rustix::io::readv(&self.fd, bufs)?)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut none = rustix::net::SendAncillaryBuffer::default();
        let flags = rustix::net::SendFlags::NOSIGNAL;
        Ok(rustix::net::sendmsg(&self.fd, bufs, &mut none, flags)?)
    }

    fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }

    fn peer_user(&self) -> Option<u32> {
        self.user
    }

    fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        if self.is_tcp {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            return SockRef::from(&self.fd).set_tcp_notsent_lowat(bytes);
        }
        // Only a privileged process may exceed the system's bound.
        sockopt::set_socket_send_buffer_size_force(&self.fd, bytes)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&self.fd, bytes))
            .map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests;

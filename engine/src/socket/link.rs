//! One connection.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, sockopt};
use socket2::SockRef;

use super::Fuse;
use crate::protocol::wide;

/// One connection: a byte stream in both directions, never blocking.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
    is_tcp: bool,
    fuse: Option<Fuse>,
}

/// What a read or a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This many bytes; at least 1.
    Bytes(usize),
    /// Nothing now: poll first.
    Later,
    /// Nothing, ever: the peer has closed its side (reads only).
    End,
}

impl Link {
    /// Takes a connected stream socket over.
    ///
    /// # Errors
    ///
    /// Its options cannot be set.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        let family = sockopt::socket_domain(&fd)?;
        let is_tcp = family == AddressFamily::INET || family == AddressFamily::INET6;
        if is_tcp {
            // A request of 16 bytes must not wait for company.
            sockopt::set_tcp_nodelay(&fd, true)?;
            // There are no timeouts in the protocol: without this, a peer
            // whose machine is gone would be waited for for ever.
            sockopt::set_socket_keepalive(&fd, true)?;
        }
        Ok(Self {
            fd,
            is_tcp,
            fuse: None,
        })
    }

    /// Lets the link break when the fuse blows.
    pub fn guard(&mut self, fuse: Fuse) {
        self.fuse = Some(fuse);
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

    /// Bounds what waits in the kernel to be sent: background pages that wait
    /// there stand in front of urgent ones. May be called again at any time.
    ///
    /// On TCP the bound is on what is not sent yet (`TCP_NOTSENT_LOWAT`), so
    /// that a long way is still filled; elsewhere it is on what the peer has
    /// not read, as far as the system's own bounds allow.
    ///
    /// # Errors
    ///
    /// The option cannot be set.
    pub fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        if self.is_tcp {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            return SockRef::from(&self.fd).set_tcp_notsent_lowat(bytes);
        }
        // Only a privileged process may go beyond the system's bound.
        sockopt::set_socket_send_buffer_size_force(&self.fd, bytes)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&self.fd, bytes))
            .map_err(io::Error::from)
    }

    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<Moved> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    /// Reads what is there into several places.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Moved> {
        let Some(fuse) = &self.fuse else {
            return moved(self.receive(bufs), Moved::End);
        };
        let most = usize::try_from(fuse.reads()?).unwrap_or(usize::MAX);
        let all = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let size = if all <= most {
            self.receive(bufs)
        } else {
            // A short read is as good as any.
            let first = bufs.iter_mut().find(|buf| !buf.is_empty());
            let first = first.map_or(&mut [][..], |buf| &mut **buf);
            let most = most.min(first.len());
            self.receive(&mut [IoSliceMut::new(&mut first[..most])])
        };
        let size = size.inspect(|size| {
            if fuse.has_read(wide(*size)) {
                self.shut_down();
            }
        });
        moved(size, Moved::End)
    }

    /// Looks at the first bytes that are there, and leaves them there.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<Moved> {
        let peeked =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buf, RecvFlags::PEEK));
        moved(peeked.map(|(size, _)| size), Moved::End)
    }

    /// Whether the peer has closed its side: nothing comes behind what is there.
    pub fn has_ended(&self) -> bool {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(ends)
    }

    fn receive(&self, bufs: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::readv(&self.fd, bufs))
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Moved> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes what there is room for, from several places.
    ///
    /// # Errors
    ///
    /// The link is broken.
    pub fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<Moved> {
        let Some(fuse) = &self.fuse else {
            return moved(self.send(bufs), Moved::Later);
        };
        let most = usize::try_from(fuse.writes()?).unwrap_or(usize::MAX);
        let all = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let sent = if all <= most {
            self.send(bufs)
        } else {
            // A short write is as good as any.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            let first = first.map_or(&[][..], |buf| &buf[..most.min(buf.len())]);
            self.send(&[IoSlice::new(first)])
        };
        let sent = sent.inspect(|size| {
            if fuse.has_written(wide(*size)) {
                self.shut_down();
            }
        });
        moved(sent, Moved::Later)
    }

    fn send(&self, bufs: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| {
            let mut none = rustix::net::SendAncillaryBuffer::default();
            rustix::net::sendmsg(&self.fd, bufs, &mut none, rustix::net::SendFlags::NOSIGNAL)
        })
    }

    /// Ends both directions; the peer sees the end of the stream.
    pub fn shut_down(&self) {
        // A link that is broken already needs no end.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }
}

fn moved(result: Result<usize, rustix::io::Errno>, none: Moved) -> io::Result<Moved> {
    match result {
        Ok(0) => Ok(none),
        Ok(size) => Ok(Moved::Bytes(size)),
        Err(rustix::io::Errno::AGAIN) => Ok(Moved::Later),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

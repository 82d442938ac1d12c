//! Connecting without blocking in connect(2), so that another thread, a signal or a deadline can
//! end the wait.
//!
//! A Unix socket whose backlog is full, and a TCP address that drops packets, block connect(2) for
//! minutes or indefinitely. Nothing here panics; errors are the system's, [`ErrorKind::TimedOut`]
//! at the deadline, and [`ErrorKind::Interrupted`] when the interrupt descriptor is readable.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::unix_path::unix_address;

/// Time between two attempts at a Unix socket whose backlog is full: the kernel does not announce
/// room.
const RETRY_FULL: Duration = Duration::from_millis(20);

/// What ends a wait for a connection early.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits<'a> {
    /// A descriptor that becomes readable.
    pub(super) interrupt: Option<BorrowedFd<'a>>,
    /// The time at which the wait ends.
    pub(super) deadline: Option<Instant>,
}

/// Connects to a Unix socket.
pub(super) fn unix(path: &Path, limits: Limits<'_>) -> io::Result<OwnedFd> {
    let (address, _folder) = unix_address(path)?;
    let socket = socket(AddressFamily::UNIX)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The backlog is full.
            Err(Errno::AGAIN) => drop(limits.wait(None, Some(RETRY_FULL))?),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to the first TCP address that answers.
pub(super) fn tcp(addresses: &[SocketAddr], limits: Limits<'_>) -> io::Result<OwnedFd> {
    let mut last = io::Error::new(ErrorKind::InvalidInput, "the name has no address");
    for address in addresses {
        match tcp_to(address, limits) {
            // There is no time left for the others.
            Err(error) if limits.is_over() || error.kind() == ErrorKind::Interrupted => {
                return Err(error);
            }
            Err(error) => last = error,
            done => return done,
        }
    }
    Err(last)
}

fn tcp_to(address: &SocketAddr, limits: Limits<'_>) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    while !limits.wait(Some(&socket), None)? {}
    sockopt::socket_error(&socket)??;
    Ok(socket)
}

fn socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

impl Limits<'_> {
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|end| Instant::now() >= end)
    }

    /// Waits at most `most` until `socket` is connected or has failed; returns whether it has.
    fn wait(&self, socket: Option<&OwnedFd>, most: Option<Duration>) -> io::Result<bool> {
        if self.is_over() {
            return Err(ErrorKind::TimedOut.into());
        }
        let left = self
            .deadline
            .map(|end| end.saturating_duration_since(Instant::now()));
        // A time that no Timespec can hold is no limit.
        let time = left.into_iter().chain(most).min();
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let socket = socket.map(|fd| PollFd::new(fd, PollFlags::OUT));
        let interrupt = self
            .interrupt
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let is_interruptible = interrupt.is_some();
        let mut fds: Vec<PollFd<'_>> = socket.into_iter().chain(interrupt).collect();
        match poll(&mut fds, time.as_ref()) {
            Ok(_) => {}
            // The results of an interrupted poll are undefined.
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let mut happened = fds.iter().map(|fd| !fd.revents().is_empty());
        if is_interruptible && happened.next_back() == Some(true) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(happened.next() == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::super::{Address, ChannelError, Link};
    use super::*;

    /// A listener whose backlog is full, so that the next connect blocks.
    fn full(family: AddressFamily, bind: impl Fn(&OwnedFd)) -> (OwnedFd, Address, Vec<Link>) {
        let listener = super::socket(family).expect("a socket");
        bind(&listener);
        rustix::net::listen(&listener, 0).expect("listens");
        let name = rustix::net::getsockname(&listener).expect("a name");
        let at = match SocketAddr::try_from(name.clone()) {
            Ok(at) => format!("tcp:{at}").parse(),
            Err(_) => {
                let name = rustix::net::SocketAddrUnix::try_from(name).expect("Unix or TCP");
                let path = name.path().expect("a path").to_string_lossy().into_owned();
                format!("unix:{path}").parse()
            }
        };
        let at: Address = at.expect("a good address");
        let never = UnixStream::pair().expect("a pair");
        let mut links = Vec::new();
        loop {
            let deadline = Some(Instant::now() + Duration::from_millis(200));
            match at.connect_until(false, never.0.as_fd(), deadline) {
                Ok(link) => links.push(link),
                Err(ChannelError::Io { error, .. }) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
                    return (listener, at, links);
                }
                Err(error) => panic!("{error}"),
            }
            assert!(links.len() < 100, "never full");
        }
    }

    #[test]
    fn stops_connecting_when_it_is_interrupted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let unix = rustix::net::SocketAddrUnix::new(&path).expect("short");
        let unix = full(AddressFamily::UNIX, |listener| {
            rustix::net::bind(listener, &unix).expect("bound");
        });
        let tcp = full(AddressFamily::INET, |listener| {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            rustix::net::bind(listener, &any).expect("bound");
        });
        for (_listener, at, _links) in [unix, tcp] {
            let (mut near, far) = UnixStream::pair().expect("a pair");
            io::Write::write_all(&mut near, b"x").expect("room");
            let ended = at.connect_until(false, far.as_fd(), None);
            let error = ended.expect_err("there is no room");
            assert!(
                matches!(error, ChannelError::Interrupted { .. }),
                "{at}: {error}"
            );
        }
    }
}

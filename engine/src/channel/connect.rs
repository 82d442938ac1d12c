//! Connecting without blocking in connect(2): a wait that another thread, a
//! signal or a deadline can end.
//!
//! A Unix socket whose backlog is full, and a TCP address that drops packets,
//! keep a blocking connect(2) waiting for minutes or for ever. Nothing here
//! panics; errors are the system's, [`ErrorKind::TimedOut`] at the deadline,
//! and [`Ended::Interrupted`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::unix_path::UnixPath;

/// Time between two attempts at a Unix socket whose backlog is full: the kernel
/// does not tell when there is room.
const FULL: Duration = Duration::from_millis(20);

/// What ends a wait for a connection early.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits<'a> {
    /// A descriptor that becomes readable.
    pub(super) interrupt: Option<BorrowedFd<'a>>,
    /// A moment.
    pub(super) deadline: Option<Instant>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Ended {
    /// The interrupt descriptor became readable.
    Interrupted,
    /// A system call failed, or the deadline passed.
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Connects to a Unix socket.
pub(super) fn unix(path: &Path, limits: Limits<'_>) -> Result<OwnedFd, Ended> {
    let place = UnixPath::new(path)?;
    let socket = socket(AddressFamily::UNIX)?;
    loop {
        match rustix::net::connect(&socket, place.address()) {
            Ok(()) => return Ok(socket),
            // The backlog is full.
            Err(Errno::AGAIN) => limits.sleep(FULL)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to the first TCP address that answers.
pub(super) fn tcp(addresses: &[SocketAddr], limits: Limits<'_>) -> Result<OwnedFd, Ended> {
    let nowhere = io::Error::new(ErrorKind::InvalidInput, "the name has no address");
    let mut last = Ended::Failed(nowhere);
    for address in addresses {
        match tcp_to(address, limits) {
            Err(Ended::Failed(error)) if error.kind() != ErrorKind::TimedOut => {
                last = Ended::Failed(error);
            }
            // One that did not answer in time has left none for the others.
            Err(Ended::Failed(error)) if !limits.is_over() => last = Ended::Failed(error),
            done => return done,
        }
    }
    Err(last)
}

fn tcp_to(address: &SocketAddr, limits: Limits<'_>) -> Result<OwnedFd, Ended> {
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

    /// Sleeps for `time`, unless a limit comes first.
    fn sleep(&self, time: Duration) -> Result<(), Ended> {
        self.wait(None, Some(time)).map(|_| ())
    }

    /// Waits until `socket` is connected or has failed, at most `most`; whether
    /// it is.
    fn wait(&self, socket: Option<&OwnedFd>, most: Option<Duration>) -> Result<bool, Ended> {
        if self.is_over() {
            return Err(Ended::Failed(ErrorKind::TimedOut.into()));
        }
        let left = self
            .deadline
            .map(|end| end.saturating_duration_since(Instant::now()));
        let time = left.into_iter().chain(most).min().map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let interrupt = self
            .interrupt
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let socket = socket.map(|fd| PollFd::new(fd, PollFlags::OUT));
        let (first, second) = (interrupt.is_some(), socket.is_some());
        let mut fds: Vec<PollFd<'_>> = interrupt.into_iter().chain(socket).collect();
        match poll(&mut fds, time.as_ref()) {
            Ok(_) => {}
            // The answers of a poll that was interrupted mean nothing.
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let happened = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        if first && happened(fds.first()) {
            return Err(Ended::Interrupted);
        }
        Ok(second && happened(fds.last()))
    }
}

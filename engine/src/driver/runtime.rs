//! What a loop needs from the system, as a trait: the time, and which descriptors are
//! ready.
//!
//! Loops use the system itself. A test gives its own [`Runtime`] to
//! [`Control::with_runtime`](super::Control::with_runtime), and its own
//! [`Transport`](crate::socket::Transport)s and [`Accept`](crate::socket::Accept) to the
//! loop: it then runs a whole migration in simulated time, with every readiness, partial
//! read and broken connection in an order that it can repeat.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The clock and the poll(2) of a loop.
pub trait Runtime: Send + Sync {
    /// The time. It never decreases.
    fn now(&self) -> Instant;

    /// Waits until one of the descriptors is ready or `most` has passed, and sets what they
    /// are ready for. May return earlier.
    ///
    /// # Errors
    ///
    /// The loop ends with [`RunError::Poll`](super::RunError::Poll).
    fn poll(&self, waited: &mut [Waited<'_>], most: Duration) -> io::Result<()>;

    /// Lets other threads run; returns whether the loop may then look for input again
    /// without [`Runtime::poll`]. By default it may not.
    fn spin(&self) -> bool {
        false
    }
}

/// A descriptor in [`Runtime::poll`].
pub struct Waited<'fd> {
    fd: BorrowedFd<'fd>,
    pub(super) wanted: PollFlags,
    pub(super) ready: PollFlags,
}

impl<'fd> Waited<'fd> {
    pub(super) fn new(fd: BorrowedFd<'fd>, wanted: PollFlags) -> Self {
        Self {
            fd,
            wanted,
            ready: PollFlags::empty(),
        }
    }

    /// Whether to return when it can be read.
    pub fn wants_read(&self) -> bool {
        self.wanted.contains(PollFlags::IN)
    }

    /// Whether to return when it can be written.
    pub fn wants_write(&self) -> bool {
        self.wanted.contains(PollFlags::OUT)
    }

    /// Whether to return when the peer has closed its side.
    pub fn wants_close(&self) -> bool {
        self.wanted.contains(PollFlags::RDHUP)
    }

    /// Sets what it is ready for, as far as that is wanted. A broken connection is ready
    /// for everything, wanted or not.
    pub fn set_ready(&mut self, read: bool, write: bool, closed: bool, broken: bool) {
        let mut ready = PollFlags::empty();
        ready.set(PollFlags::IN, read);
        ready.set(PollFlags::OUT, write);
        ready.set(PollFlags::RDHUP, closed);
        self.ready = ready & self.wanted;
        self.ready.set(PollFlags::HUP, broken);
    }
}

impl AsFd for Waited<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

impl fmt::Debug for Waited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waited")
            .field("fd", &self.fd)
            .field("wanted", &self.wanted)
            .field("ready", &self.ready)
            .finish()
    }
}

/// The system itself.
pub(super) struct System;

impl Runtime for System {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn spin(&self) -> bool {
        thread::yield_now();
        true
    }

    fn poll(&self, waited: &mut [Waited<'_>], most: Duration) -> io::Result<()> {
        let most = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: most.subsec_nanos().into(),
        };
        let fds = waited.iter();
        let fds = fds.map(|one| PollFd::from_borrowed_fd(one.fd, one.wanted));
        let mut fds: Vec<_> = fds.collect();
        match poll(&mut fds, Some(&most)) {
            Ok(_) => {}
            // Nothing is known to be ready.
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for (one, fd) in waited.iter_mut().zip(&fds) {
            one.ready = fd.revents();
        }
        Ok(())
    }
}

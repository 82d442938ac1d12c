//! The loops: readiness in, events to a core, its decisions out.
//!
//! A loop runs on the thread that calls it. It never blocks but in poll(2),
//! and it ends with a [`RunError`], or when its core says so; see [`Control`]
//! for ending it from elsewhere.

mod buffer;
mod control;
mod error;
mod outbound;
mod receive;
mod serve;
mod window;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use control::Control;
pub use error::RunError;
pub use receive::{Content, Guest, ReceiveOptions, receive, take_over};
pub use serve::{Connector, Machine, Offer, ServeOptions, Suspicion, serve};

/// Nanoseconds since the loop began, as the cores count time.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Descriptors to wait for in one poll(2).
struct Waiting<'fd> {
    fds: Vec<PollFd<'fd>>,
}

impl<'fd> Waiting<'fd> {
    fn new() -> Self {
        Self {
            fds: Vec::with_capacity(5),
        }
    }

    /// Adds a descriptor, if there is one; the answer is what
    /// [`Waiting::readable`] takes.
    fn add(&mut self, fd: Option<BorrowedFd<'fd>>, flags: PollFlags) -> Option<usize> {
        let fd = fd?;
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
        Some(self.fds.len() - 1)
    }

    /// Sleeps until a descriptor is ready, or the time is over.
    fn wait(&mut self, most: Duration) -> io::Result<()> {
        let most = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: most.subsec_nanos().into(),
        };
        match poll(&mut self.fds, Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn len(&self) -> usize {
        self.fds.len()
    }

    /// Whether anything has happened to one of those added last.
    fn any_since(&self, first: usize) -> bool {
        self.fds[first..].iter().any(|fd| !fd.revents().is_empty())
    }

    fn flags(&self, at: Option<usize>) -> PollFlags {
        at.map_or(PollFlags::empty(), |at| self.fds[at].revents())
    }

    /// Whether there is something to read, be it an end or an error.
    fn readable(&self, at: Option<usize>) -> bool {
        self.flags(at)
            .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
    }
}

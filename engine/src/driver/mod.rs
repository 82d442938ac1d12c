//! The poll loops that drive the cores: readiness becomes events, actions become system
//! calls.
//!
//! A loop runs on the thread that calls it and blocks only in poll(2). It ends when its
//! core is done or with a [`RunError`]; [`Control`] stops it from another thread.

#[cfg(feature = "uffd")]
mod buffer;
mod control;
mod error;
mod outbound;
#[cfg(feature = "uffd")]
mod receive;
mod serve;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::socket::Link;

pub use control::Control;
pub use error::{HandlerError, RunError};
#[cfg(feature = "uffd")]
pub use receive::{Content, DestinationHandler, ReceiveOptions, receive, resume};
pub use serve::{Connector, ServeOptions, SourceHandler, serve};

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

    /// The time from now until then.
    fn until(self, then: u64) -> Duration {
        Duration::from_nanos(then.saturating_sub(self.now()))
    }
}

/// The descriptors of one poll(2).
struct Waiting<'fd> {
    fds: Vec<PollFd<'fd>>,
    /// Indices of links that can be read although their descriptors may not say so.
    buffered: Vec<usize>,
}

impl<'fd> Waiting<'fd> {
    fn new() -> Self {
        Self {
            fds: Vec::with_capacity(5),
            buffered: Vec::new(),
        }
    }

    /// Adds a descriptor, if there is one; returns its index for
    /// [`Waiting::readable`].
    fn add(&mut self, fd: Option<BorrowedFd<'fd>>, flags: PollFlags) -> Option<usize> {
        let fd = fd?;
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
        Some(self.fds.len() - 1)
    }

    /// Adds a link, if there is one; it counts as readable while it has bytes buffered.
    fn add_link(&mut self, link: Option<&'fd Link>, flags: PollFlags) -> Option<usize> {
        let link = link?;
        let at = self.add(Some(link.as_fd()), flags)?;
        if flags.contains(PollFlags::IN) && link.has_buffered() {
            self.buffered.push(at);
        }
        Some(at)
    }

    /// Sleeps until a descriptor is ready or the time has passed.
    fn wait(&mut self, most: Duration) -> Result<(), RunError> {
        let most = match self.buffered.is_empty() {
            true => most,
            false => Duration::ZERO,
        };
        let most = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: most.subsec_nanos().into(),
        };
        match poll(&mut self.fds, Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(RunError::Poll(error.into())),
        }
    }

    #[cfg(feature = "uffd")]
    fn len(&self) -> usize {
        self.fds.len()
    }

    /// Whether any descriptor from index `first` on is ready, or its link has bytes buffered.
    #[cfg(feature = "uffd")]
    fn any_since(&self, first: usize) -> bool {
        self.buffered.iter().any(|at| *at >= first)
            || self.fds[first..].iter().any(|fd| !fd.revents().is_empty())
    }

    fn flags(&self, at: Option<usize>) -> PollFlags {
        let Some(at) = at else {
            return PollFlags::empty();
        };
        let buffered = match self.buffered.contains(&at) {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        self.fds[at].revents() | buffered
    }

    /// Whether there is something to read, including the end or an error.
    fn readable(&self, at: Option<usize>) -> bool {
        self.flags(at)
            .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
    }
}

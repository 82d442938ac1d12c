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
mod runtime;
mod serve;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::socket::Link;

pub use control::Control;
pub use error::{HandlerError, RunError};
#[cfg(feature = "uffd")]
pub use receive::{Content, DestinationHandler, ReceiveOptions, receive, resume};
pub use runtime::{Runtime, Waited};
pub use serve::{Connector, ServeOptions, SourceHandler, serve};

/// Nanoseconds since the loop began, as the cores count time.
#[derive(Clone, Copy)]
struct Clock<'a> {
    control: &'a Control,
    start: Instant,
}

impl<'a> Clock<'a> {
    fn new(control: &'a Control) -> Self {
        let start = control.runtime().now();
        Self { control, start }
    }

    fn now(self) -> u64 {
        let elapsed = self.control.runtime().now().duration_since(self.start);
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time from now until then.
    fn until(self, then: u64) -> Duration {
        Duration::from_nanos(then.saturating_sub(self.now()))
    }
}

/// The descriptors of one poll(2).
struct Waiting<'fd> {
    fds: Vec<Waited<'fd>>,
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
        self.fds.push(Waited::new(fd, flags));
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
    fn wait(&mut self, control: &Control, most: Duration) -> Result<(), RunError> {
        let most = match self.buffered.is_empty() {
            true => most,
            false => Duration::ZERO,
        };
        let polled = control.runtime().poll(&mut self.fds, most);
        for at in &self.buffered {
            self.fds[*at].ready |= PollFlags::IN;
        }
        polled.map_err(RunError::Poll)
    }

    #[cfg(feature = "uffd")]
    fn len(&self) -> usize {
        self.fds.len()
    }

    /// Whether any descriptor from index `first` on is ready.
    #[cfg(feature = "uffd")]
    fn any_since(&self, first: usize) -> bool {
        self.fds[first..].iter().any(|fd| !fd.ready.is_empty())
    }

    /// Whether there is something to read, including the end or an error.
    fn readable(&self, at: Option<usize>) -> bool {
        let flags = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        at.is_some_and(|at| self.fds[at].ready.intersects(flags))
    }
}

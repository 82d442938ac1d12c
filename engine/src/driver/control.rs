//! A handle for other threads to stop a running loop or break its link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, io};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::retry_on_intr;

use super::RunError;
use super::runtime::{Runtime, System};

const STOP: u32 = 1;
const PAUSE: u32 = 2;

/// Controls a running loop from other threads. Clones control the same loop.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    event: OwnedFd,
    wishes: AtomicU32,
    runtime: Box<dyn Runtime>,
}

impl Control {
    /// Makes a handle for one loop.
    ///
    /// # Errors
    ///
    /// No file descriptor is available.
    pub fn new() -> io::Result<Self> {
        Self::with_runtime(Box::new(System))
    }

    /// Makes a handle for a loop with its own clock and poll(2), such as those of a
    /// simulation.
    ///
    /// # Errors
    ///
    /// No file descriptor is available.
    pub fn with_runtime(runtime: Box<dyn Runtime>) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            inner: Arc::new(Inner {
                event,
                wishes: AtomicU32::new(0),
                runtime,
            }),
        })
    }

    /// Stops the loop: it closes its links and returns.
    pub fn stop(&self) {
        self.wish(STOP);
    }

    /// Breaks the link, like QEMU's `migrate-pause`; the migration can be recovered.
    pub fn pause(&self) {
        self.wish(PAUSE);
    }

    /// Lets the loop ask its embedder for work, such as
    /// [`DestinationHandler::fault`](super::DestinationHandler::fault).
    pub fn wake(&self) {
        self.wish(0);
    }

    fn wish(&self, wish: u32) {
        self.inner.wishes.fetch_or(wish, Ordering::Release);
        // A full counter has woken the loop already.
        let _ = retry_on_intr(|| rustix::io::write(&self.inner.event, &1u64.to_ne_bytes()));
    }

    pub(super) fn runtime(&self) -> &dyn Runtime {
        &*self.inner.runtime
    }

    /// Whether there is a wish that [`Control::take_pause`] has not taken.
    pub(super) fn has_wish(&self) -> bool {
        self.inner.wishes.load(Ordering::Relaxed) != 0
    }

    /// Whether the link is to be broken, since the last call; an error if the loop is to stop.
    pub(super) fn take_pause(&self) -> Result<bool, RunError> {
        let _ = rustix::io::read(&self.inner.event, &mut [0; 8]);
        let wishes = self.inner.wishes.swap(0, Ordering::Acquire);
        match wishes & STOP {
            0 => Ok(wishes & PAUSE != 0),
            _ => Err(RunError::Stopped),
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("event", &self.inner.event)
            .finish_non_exhaustive()
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}

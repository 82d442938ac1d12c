//! A handle for other threads to stop a running loop or break its link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

const STOP: u32 = 1;
const PAUSE: u32 = 2;

/// Controls a running loop from other threads. Clones control the same loop.
#[derive(Clone, Debug)]
pub struct Control {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    wishes: AtomicU32,
}

impl Control {
    /// Makes a handle for one loop.
    ///
    /// # Errors
    ///
    /// No file descriptor is available.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            inner: Arc::new(Inner {
                event,
                wishes: AtomicU32::new(0),
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

    fn wish(&self, wish: u32) {
        self.inner.wishes.fetch_or(wish, Ordering::Release);
        // A full counter has woken the loop already.
        let _ = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
    }

    /// The requests since the last call.
    pub(super) fn take(&self) -> Wishes {
        let _ = rustix::io::read(&self.inner.event, &mut [0; 8]);
        let wishes = self.inner.wishes.swap(0, Ordering::Acquire);
        Wishes {
            stop: wishes & STOP != 0,
            pause: wishes & PAUSE != 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) stop: bool,
    pub(super) pause: bool,
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}

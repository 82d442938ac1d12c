//! Reading faults, and failing closed when the reader dies.
//!
//! A thread that touches a missing page sleeps until somebody places the page. If the thread that
//! serves the faults ends early, by a panic or an error, the sleeper would sleep for ever; if the
//! descriptor is closed as well, it would wake up and read zeros where the source has data. Both
//! are worse than a crash. So faults can only be read through a [`Handler`], and a handler that is
//! dropped without [`Handler::finish`] while memory is registered says so in one line on standard
//! error and aborts the process. It holds the descriptor open until then.

#![deny(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::{process, thread};

use userfaultfd::{Event, EventBuffer, ReadWrite};

use super::{Error, Shared, os_error};
use crate::protocol::wide;

/// Faults read by one read(2).
const BATCH: usize = 64;

/// A thread touched a missing page and sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Host virtual address, rounded down to a page of the machine (not to a huge page).
    pub address: u64,
    /// Id of the thread, if the kernel tells.
    pub thread: Option<u32>,
    /// Whether the thread writes.
    pub write: bool,
}

/// The right, and the duty, to serve faults. Several handlers of one userfaultfd share the work.
///
/// Poll its descriptor for input. Poll with a timeout while a placement is put off
/// ([`Cause::Pending`](super::Cause::Pending)): no new event may come.
pub struct Handler {
    shared: Arc<Shared>,
    events: EventBuffer,
    /// Never more than [`BATCH`].
    faults: Vec<Fault>,
    finished: bool,
}

impl Handler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            events: EventBuffer::new(BATCH),
            faults: Vec::with_capacity(BATCH),
            finished: false,
        }
    }

    /// Reads the faults that wait, up to 64, with one system call; none if none waits.
    ///
    /// The same page may come more than once, and a page may have been placed since. Other events
    /// are read and passed over: none is asked for.
    ///
    /// # Errors
    /// The descriptor cannot be read, or holds what is no event.
    pub fn faults(&mut self) -> Result<&[Fault], Error> {
        self.faults.clear();
        let knows_threads = self.shared.knows_threads();
        let events = loop {
            match self
                .shared
                .uffd
                .read_events(&mut self.events)
                .map_err(os_error)
            {
                Ok(events) => break events,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        };
        for event in events {
            let event = event.map_err(|error| Error::Read(os_error(error)))?;
            if let Event::Pagefault {
                addr,
                rw,
                thread_id,
                ..
            } = event
            {
                self.faults.push(Fault {
                    address: wide(addr.addr()),
                    thread: u32::try_from(thread_id.as_raw())
                        .ok()
                        .filter(|_| knows_threads),
                    write: rw == ReadWrite::Write,
                });
            }
        }
        Ok(&self.faults)
    }

    /// Says that no fault needs serving any more: every page is there, or nobody will touch the
    /// rest. Without this, dropping the handler aborts the process.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl AsFd for Handler {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.uffd.as_fd()
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let Some(blocks) = self.shared.describe_registered() else {
            return; // nobody can be waiting
        };
        let thread = thread::current();
        let how = if thread::panicking() {
            "panicked"
        } else {
            "ended early"
        };
        let name = thread.name().unwrap_or("unnamed");
        let line = format!(
            "retpath: the page-fault handler (thread {name:?}) {how}; memory of {blocks} is \
             incomplete, and threads that touch it would hang for ever or read zeros: aborting\n"
        );
        // In one piece; and not with eprintln!, which panics if standard error is closed.
        let _ = io::stderr().write_all(line.as_bytes());
        process::abort();
    }
}

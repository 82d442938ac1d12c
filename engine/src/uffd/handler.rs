//! Reading page faults, and failing closed when the reader ends early.
//!
//! A thread that touches a missing page sleeps until the page is placed. If the thread that serves
//! the faults ends early, by a panic or an error, the sleeper hangs forever; if the descriptor is
//! closed as well, it wakes up and reads zeros where the source has data. So faults can only be
//! read through a [`Handler`]. One that is dropped without [`Handler::finish`] while memory is
//! registered applies its [`FailurePolicy`]: by default it prints one line to standard error and
//! aborts the process.

#![deny(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::{fmt, mem, process, thread};

use userfaultfd::{Event, EventBuffer, ReadWrite};

use super::{Error, Features, Shared, os_error};
use crate::protocol::wide;

/// Most faults that one read(2) returns.
const BATCH: usize = 64;

/// A page fault: a thread touched a missing page and sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Host virtual address, rounded down to a page of the machine (not to a huge page).
    pub address: u64,
    /// Id of the thread; `None` if the kernel does not report it.
    pub thread: Option<u32>,
    /// Whether the thread writes.
    pub write: bool,
}

/// What a [`Handler`] does that ends before it is [finished](Handler::finish). Aborts the process
/// by default.
#[derive(Clone, Default)]
pub struct FailurePolicy {
    call: Option<Arc<Call>>,
}

type Call = dyn Fn(&HandlerFailure) + Send + Sync;

impl FailurePolicy {
    /// Calls `policy` instead of aborting, to stop the virtual machine in the embedder's own way.
    ///
    /// If the call returns, the memory stays registered and the userfaultfd stays open for the rest
    /// of the process: threads that wait for a missing page keep waiting. They never read zeros.
    pub fn call(policy: impl Fn(&HandlerFailure) + Send + Sync + 'static) -> Self {
        Self {
            call: Some(Arc::new(policy)),
        }
    }
}

impl fmt::Debug for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.call {
            None => "FailurePolicy::Abort",
            Some(_) => "FailurePolicy::Call",
        })
    }
}

/// How a [`Handler`] ended. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerFailure {
    /// Name of the thread that dropped the handler.
    pub thread: Option<String>,
    /// Whether that thread panicked.
    pub panicked: bool,
    /// The error, if the handler [failed](Handler::fail).
    pub cause: Option<String>,
    /// Names of the registered blocks, escaped.
    pub blocks: Vec<String>,
}

impl fmt::Display for HandlerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = self.thread.as_deref().unwrap_or("unnamed");
        let how = if self.panicked {
            "panicked"
        } else {
            "ended early"
        };
        write!(f, "the page-fault handler (thread {thread:?}) {how}")?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        f.write_str(match self.blocks.len() {
            1 => "; memory of RAM block",
            _ => "; memory of RAM blocks",
        })?;
        for (i, block) in self.blocks.iter().enumerate() {
            let before = if i == 0 { " " } else { ", " };
            write!(f, "{before}\"{block}\"")?;
        }
        f.write_str(" is incomplete, and threads that touch it would hang forever or read zeros")
    }
}

/// Reads page faults, and must not end before they are all served. Several handlers of one
/// userfaultfd share the work.
///
/// Poll its descriptor for input. Poll with a timeout while a placement is deferred
/// ([`Cause::Pending`](super::Cause::Pending)): no new event may arrive.
pub struct Handler {
    shared: Arc<Shared>,
    events: EventBuffer,
    /// At most [`BATCH`].
    faults: Vec<Fault>,
    policy: FailurePolicy,
    cause: Option<String>,
    finished: bool,
}

impl Handler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            events: EventBuffer::new(BATCH),
            faults: Vec::with_capacity(BATCH),
            policy: FailurePolicy::default(),
            cause: None,
            finished: false,
        }
    }

    /// Sets what happens if this handler ends early.
    #[must_use]
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Reads the pending faults, at most 64, with one system call; empty if there are none.
    ///
    /// The same page may occur more than once, and a page may have been placed since. Other events
    /// are ignored: none is requested.
    ///
    /// # Errors
    /// The descriptor cannot be read, or returns an unknown event.
    pub fn faults(&mut self) -> Result<&[Fault], Error> {
        self.faults.clear();
        let knows_threads = self.shared.features.contains(Features::THREAD_ID);
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

    /// Ends the handler early because of an error: applies the failure policy, with its text.
    pub fn fail(mut self, error: &dyn fmt::Display) {
        self.cause = Some(error.to_string());
    }

    /// Ends the handler: every page is present, or no thread will touch the missing ones.
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
        let blocks = self.shared.registered_blocks();
        if blocks.is_empty() {
            return; // no thread can be waiting
        }
        let thread = thread::current();
        let failure = HandlerFailure {
            thread: thread.name().map(str::to_owned),
            panicked: thread::panicking(),
            cause: self.cause.take(),
            blocks,
        };
        if let Some(call) = &self.policy.call {
            // Keeps the userfaultfd open: closing it would make missing pages read as zeros. First,
            // because the call may panic.
            mem::forget(Arc::clone(&self.shared));
            call(&failure);
            return;
        }
        let line = format!("retpath: {failure}: aborting\n");
        // In one piece; and past the lock of `Stderr`, which a waiting thread may hold.
        let _ = rustix::io::write(io::stderr(), line.as_bytes());
        process::abort();
    }
}

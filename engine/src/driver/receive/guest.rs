//! What the loop asks of its embedder, the machine that is being received. The
//! loop takes every refusal for the end of the migration; nothing here panics.

use std::sync::Arc;

use retpath_codec::forward::Event;

use super::super::RunError;
use crate::blocks::{Block, BlockId};
use crate::destination::{Destination, Ending, Tail};
use crate::memory::Memory;

/// What is in the pages that [`Guest::page`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// This many bytes of zeros.
    Zero(u64),
}

impl Content<'_> {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Zero(len) => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The machine that is being received.
pub trait Guest {
    /// Provides memory for a RAM block of a machine with target pages of
    /// `target` bytes: at least `block.len` bytes that read as zero. Called once
    /// for each block, in order. `None` if nobody touches
    /// this block while it is received: its pages then only go to
    /// [`Guest::page`].
    ///
    /// # Errors
    ///
    /// The memory cannot be allocated: the migration fails.
    fn memory(&mut self, block: &Block, target: u64) -> Result<Option<Arc<Memory>>, String>;

    /// Stores one or more pages, before they count as received. Before the
    /// switch to postcopy a page may come again, and a target page may come
    /// alone; after it, whole host pages come once. Memory from
    /// [`Guest::memory`] is filled besides.
    ///
    /// # Errors
    ///
    /// The pages cannot be stored: the migration fails.
    fn page(&mut self, block: BlockId, offset: u64, content: Content<'_>) -> Result<(), String> {
        let _ = (block, offset, content);
        Ok(())
    }

    /// Device state, in pieces.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn device_state(&mut self, bytes: &[u8]) -> Result<(), String> {
        let _ = bytes;
        Ok(())
    }

    /// All device state is there. Once this returns, the source is told that
    /// it must not run the guest again.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn device_state_complete(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// What the end of the device state looks like so far. Asked in a precopy
    /// stream without footers, where the source has a return path and pauses, or
    /// closes the link: unless this is [`Tail::Whole`], nothing proves that the
    /// stream ends there.
    ///
    /// # Errors
    ///
    /// It cannot be told: the migration fails.
    fn device_state_tail(&mut self) -> Result<Tail, String> {
        Ok(Tail::Open)
    }

    /// The description of the device state (JSON), in pieces.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn description(&mut self, bytes: &[u8]) -> Result<(), String> {
        let _ = bytes;
        Ok(())
    }

    /// Everything else that comes on the main channel but pages, in order and
    /// before anything is done about it; what has a method of its own, too.
    ///
    /// # Errors
    ///
    /// The guest cannot be had like this: the migration fails.
    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        let _ = event;
        Ok(())
    }

    /// The machine type that the stream names.
    fn machine(&mut self, name: &[u8]) {
        let _ = name;
    }

    /// The preempt channel has begun: urgent pages come over it.
    fn preempt(&mut self) {}

    /// The guest may run: its memory is served from now on.
    fn run(&mut self) {}

    /// With [`confirm_end`](crate::destination::Config::confirm_end): every page is in
    /// the memory, which is not trapped any more. Once this returns, the
    /// source is told that the migration is over.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn complete(&mut self, core: &Destination, ending: Ending) -> Result<(), String> {
        let _ = (core, ending);
        Ok(())
    }

    /// Whether the source may run the guest again when the migration fails or
    /// is stopped, because it has not run here: the source is then told.
    fn may_go_back(&self) -> bool {
        false
    }

    /// The source had sent everything, was told that it may run its guest, and has
    /// closed the connection: this side is no longer needed.
    fn given_back(&mut self) {}

    /// The link broke in postcopy, or a new one did not get the migration going
    /// again: a new link is waited for.
    fn broken(&mut self, core: &Destination, error: &RunError) {
        let _ = (core, error);
    }

    /// The migration has been resumed over a new link.
    fn recovered(&mut self, core: &Destination) {
        let _ = core;
    }

    /// Called about ten times a second.
    fn progress(&mut self, core: &Destination) {
        let _ = core;
    }

    /// The migration has failed while memory is incomplete. `true` if nobody
    /// can be waiting for a missing page; otherwise the process is aborted,
    /// since waiters would hang for ever or read zeros.
    fn failed(&mut self, error: &RunError) -> bool {
        let _ = error;
        false
    }
}

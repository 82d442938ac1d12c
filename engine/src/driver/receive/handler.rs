//! The interface to the embedder, whose machine is being received.

use std::sync::Arc;

use retpath_codec::forward::Event;

use super::super::{HandlerError, RunError};
use crate::blocks::{Block, BlockId};
use crate::destination::pending::Refusal;
use crate::destination::{Content, Destination, Ending, Tail};
use crate::memory::Memory;
use crate::socket::ChannelError;
use crate::uffd::FailurePolicy;

/// Stores what is received, and is told how the migration proceeds. An error from any
/// method fails the migration.
pub trait DestinationHandler {
    /// Provides memory for a RAM block of a machine with target pages of
    /// `target` bytes: at least `block.len` bytes that read as zero. Called once
    /// for each block, in order. `None` if nothing accesses
    /// this block's memory while it is received: its pages then only go to
    /// [`DestinationHandler::page`].
    ///
    /// # Errors
    ///
    /// The memory cannot be allocated: the migration fails.
    fn memory(&mut self, block: &Block, target: u64) -> Result<Option<Arc<Memory>>, HandlerError>;

    /// Stores one or more pages, before they count as received. Before the
    /// switch to postcopy a page may come again, and a target page may come
    /// alone; after it, each host page comes once, as a whole. The loop fills memory from
    /// [`DestinationHandler::memory`] itself.
    ///
    /// # Errors
    ///
    /// The pages cannot be stored: the migration fails.
    fn page(
        &mut self,
        block: BlockId,
        offset: u64,
        content: Content<'_>,
    ) -> Result<(), HandlerError> {
        let _ = (block, offset, content);
        Ok(())
    }

    /// Takes device state, in pieces.
    ///
    /// # Errors
    ///
    /// It cannot be stored: the migration fails.
    fn device_state(&mut self, bytes: &[u8]) -> Result<(), HandlerError> {
        let _ = bytes;
        Ok(())
    }

    /// Stores the complete device state. Once this returns, the source is told that
    /// it must not run the guest again.
    ///
    /// # Errors
    ///
    /// It cannot be stored: the migration fails.
    fn device_state_complete(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Whether the device state received so far is complete. Called in a precopy
    /// stream without footers when the source waits for SHUT or closes the connection: unless
    /// this is [`Tail::Whole`], nothing proves that the stream ends there.
    ///
    /// # Errors
    ///
    /// It cannot be determined: the migration fails.
    fn device_state_tail(&mut self) -> Result<Tail, HandlerError> {
        Ok(Tail::Open)
    }

    /// Takes the description of the device state (JSON), in pieces.
    ///
    /// # Errors
    ///
    /// It cannot be stored: the migration fails.
    fn description(&mut self, bytes: &[u8]) -> Result<(), HandlerError> {
        let _ = bytes;
        Ok(())
    }

    /// Takes every event of the main channel except pages, in stream order and
    /// before it is handled, including events that have a method of their own.
    ///
    /// # Errors
    ///
    /// The guest cannot be received: the migration fails.
    fn event(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let _ = event;
        Ok(())
    }

    /// Takes the machine type that the stream names.
    fn machine(&mut self, name: &[u8]) {
        let _ = name;
    }

    /// Called when a connection was dropped that is no channel of the migration: of an
    /// unrelated program, or of a source with other settings. The source that is awaited
    /// can still connect.
    fn refused(&mut self, why: &Refusal) {
        let _ = why;
    }

    /// Called when a connection cannot be accepted, most likely because descriptors or
    /// memory are short. This never ends the migration: accepting is tried again about ten
    /// times a second.
    fn accept_failed(&mut self, error: &ChannelError) {
        let _ = error;
    }

    /// Called when the preempt channel begins: it carries the requested pages.
    fn preempt(&mut self) {}

    /// Called when the guest may run: accesses to missing pages are served from now on.
    fn run(&mut self) {}

    /// The next access to a page of a block for which there is no
    /// [`DestinationHandler::memory`], and which the embedder traps itself: block and
    /// offset. The page is requested; if it is present, nothing happens. Asked in every
    /// turn, until there is none; [`Control::wake`](crate::driver::Control::wake) causes a
    /// turn.
    fn fault(&mut self) -> Option<(BlockId, u64)> {
        None
    }

    /// With [`confirm_end`](crate::destination::Config::confirm_end): called when every
    /// page has been stored and memory is no longer trapped. Once this returns, the
    /// source is told that the migration is over.
    ///
    /// # Errors
    ///
    /// It cannot be stored: the migration fails.
    fn complete(&mut self, core: &Destination, ending: Ending) -> Result<(), HandlerError> {
        let _ = (core, ending);
        Ok(())
    }

    /// Whether the source may run the guest again when the migration fails or
    /// is stopped, because the guest has not run here. The source is then told with SHUT(1).
    fn may_go_back(&self) -> bool {
        false
    }

    /// Called when a source that had sent everything was told with SHUT(1) that it may run
    /// its guest again, and the connection was closed.
    ///
    /// A relay in between closes in the same way if it has lost the source: keep what was
    /// received until the guest is seen to run there.
    fn given_back(&mut self) {}

    /// Called when the connection is lost in postcopy, or its replacement did not resume
    /// the migration: a new connection is awaited.
    fn broken(&mut self, core: &Destination, error: &RunError) {
        let _ = (core, error);
    }

    /// Called when the migration has been resumed over a new connection.
    fn recovered(&mut self, core: &Destination) {
        let _ = core;
    }

    /// Called about ten times a second.
    fn progress(&mut self, core: &Destination) {
        let _ = core;
    }

    /// What happens if the loop ends, or panics, while memory is incomplete: threads that
    /// touch missing pages would hang forever or read zeros. Asked once, before the first
    /// access is trapped. The default aborts the process.
    fn failure_policy(&self) -> FailurePolicy {
        FailurePolicy::default()
    }

    /// Called when the migration has failed. Returns whether no thread can be waiting for a
    /// missing page; otherwise the [failure policy](DestinationHandler::failure_policy)
    /// applies if memory is incomplete.
    fn failed(&mut self, error: &RunError) -> bool {
        let _ = error;
        false
    }
}

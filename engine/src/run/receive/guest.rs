//! What the loop asks of its embedder, the machine that is being received. The
//! loop takes every refusal for the end of the migration; nothing here panics.

use std::sync::Arc;

use retpath_codec::forward::Event;

use super::super::RunError;
use crate::blocks::Block;
use crate::destination::{Destination, Ending, Tail};
use crate::memory::Memory;

/// The machine that is being received.
pub trait Guest {
    /// Memory for a RAM block, `block.len` bytes that read as zero. Called
    /// once for each block, in order.
    ///
    /// # Errors
    ///
    /// There is none to be had: the migration fails.
    fn memory(&mut self, block: &Block) -> Result<Arc<Memory>, String>;

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

    /// What the end of the device state looks like so far. Asked where a
    /// precopy stream without footers pauses and the source, which has a return
    /// path, does not close.
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

    /// A second connection has come, which is not read: urgent pages that come
    /// over it are missed.
    fn second_link(&mut self) {}

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

    /// The link broke in postcopy, or a new one did not get the migration going
    /// again: a new link is waited for.
    fn broken(&mut self, core: &Destination, error: &RunError) {
        let _ = (core, error);
    }

    /// The migration goes on over a new link.
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

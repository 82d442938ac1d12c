//! Lost and restored connections.
//!
//! Mirrors `savevm.c:postcopy_pause_incoming`, `loadvm_handle_recv_bitmap` and
//! `loadvm_postcopy_handle_resume`.
//!
//! State of a lost connection is dropped: unsent answers, incomplete host pages, the block
//! of the last request. Placed pages stay, and faults are remembered. Both connections are
//! lost together: a source uses neither without the other.

use retpath_codec::{Message, Name};

use super::{
    Action, Cause, Destination, Device, Error, ErrorKind, MainStream, Phase, PreemptStream,
};
use crate::Channel;
use crate::bits::Bits;
use crate::protocol::wide;

impl Destination {
    /// Handles the loss of a connection. Pages that were handed out on it and not placed
    /// count as missing. Report both connections, after their last
    /// [`Destination::placed`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LinkLost`]: the guest cannot be running here yet, so the
    /// migration has failed; but see [`Config::give_back`](super::Config::give_back).
    pub fn link_lost(&mut self, channel: Channel) -> Result<(), Error> {
        self.channels[channel.index()].runs.clear();
        if self.phase.is_over() {
            return Ok(());
        }
        if !self.phase.has_run() {
            if !self.is_stuck_at_source() {
                return Err(self.give_up(Some(channel), ErrorKind::LinkLost.into()));
            }
            self.device = Device::Lost;
            self.pages.forget();
        }
        self.pause();
        Ok(())
    }

    /// Whether the source has stopped its guest, and may pause when the connection is lost.
    fn is_stuck_at_source(&self) -> bool {
        let switches = matches!(self.phase, Phase::Discarding | Phase::Listening);
        self.config.give_back
            && self.has_return_path()
            && (switches || self.main == MainStream::Package)
    }

    /// Handles a new main connection. The old ones must be closed, with nothing left to read
    /// on them. Also allowed after [`Phase::Finished`]: the source asks again if it has
    /// missed SHUT.
    ///
    /// # Errors
    ///
    /// The migration is not paused, or a range is still being placed: errors of the caller.
    pub fn link_restored(&mut self) -> Result<(), Error> {
        self.guard(None, Self::recover)
    }

    fn recover(&mut self) -> Result<(), Cause> {
        if let Some(run) = self.runs().next() {
            let kind = ErrorKind::Misuse("a range is still being placed");
            return Err(self.at(run.block, run.offset, kind));
        }
        // A migration that ended in precopy cannot be recovered.
        let is_postcopy = self.listening || self.device == Device::Lost;
        if !is_postcopy || !self.phase.may_become(Phase::Recovering) {
            return Err(ErrorKind::Misuse("the migration is not paused").into());
        }
        self.phase = Phase::Recovering;
        if !self.listening {
            self.listening = true;
            self.actions.push_back(Action::Listen);
        }
        self.requests.forget_link();
        self.main = MainStream::Open;
        if self.preempt == PreemptStream::Ended {
            self.preempt = PreemptStream::Open;
        }
        self.asked = Bits::new(wide(self.blocks.len()));
        Ok(())
    }

    /// Drops the state of the connection.
    pub(super) fn pause(&mut self) {
        self.stats.pauses += u64::from(self.phase != Phase::Paused);
        self.phase = Phase::Paused;
        for state in &mut self.channels {
            self.stats.torn += u64::from(state.assembly.reset());
        }
        self.requests.forget_link();
    }

    /// Handles RECV_BITMAP: sends what has been received of a block.
    pub(super) fn recv_bitmap(&mut self, name: Name<'_>) -> Result<(), Cause> {
        let id = self.named(name)?;
        if !self.asked.set(wide(id)) {
            let what = "the received bitmap was requested twice";
            return Err(self.at(id, 0, ErrorKind::Violation(what)));
        }
        let block = self.blocks.block(id)?;
        if let Some(received) = self.pages.received(id) {
            self.requests.bitmap(block, received);
        }
        Ok(())
    }

    /// Handles POSTCOPY_RESUME: the source knows what is missing, and continues.
    pub(super) fn resume(&mut self) -> Result<(), Cause> {
        if let Some(id) = self.asked.next_gap(0) {
            let id = usize::try_from(id).unwrap_or(usize::MAX);
            let what = "POSTCOPY_RESUME came before the received bitmap was requested";
            return Err(self.at(id, 0, ErrorKind::Violation(what)));
        }
        self.phase = Phase::Running;
        self.stats.resumes += 1;
        for part in self.virtio_mem.unplugged(&self.blocks) {
            self.pages.forget_promises(part);
            self.pages.unplug(part);
        }
        self.requests.say(&Message::ResumeAck);
        if self.device == Device::Saved {
            self.release_pongs();
        }
        self.requests.repeat_all();
        Ok(())
    }
}

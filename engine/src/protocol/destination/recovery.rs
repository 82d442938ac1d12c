//! Lost and restored connections.
//!
//! Mirrors `savevm.c:postcopy_pause_incoming`, `loadvm_handle_recv_bitmap` and
//! `loadvm_postcopy_handle_resume`.
//!
//! A lost connection takes with it what was meant for it: unread answers,
//! half-assembled host pages, the block of the last request. What has been
//! placed stays, and faults are remembered. Both connections are lost
//! together: a source uses neither without the other.

use retpath_codec::{Message, Name};

use super::ram::lane;
use super::{Action, Destination, Device, Error, Flaw, Phase, Turn, What};
use crate::Channel;
use crate::bits::Bits;

impl Destination {
    /// A connection is gone, on purpose or not. What was announced on it by
    /// [`Destination::run_of_pages`] and has not been placed never will be.
    /// Report both connections, after their last [`Destination::placed`].
    ///
    /// # Errors
    ///
    /// [`What::LinkLost`]: the guest cannot be running here yet, so the
    /// migration has failed; but see [`Config::give_back`](super::Config::give_back).
    pub fn link_lost(&mut self, channel: Channel) -> Result<(), Error> {
        self.lanes[lane(channel)].runs.clear();
        let was = self.phase;
        if was.is_over() {
            return Ok(());
        }
        if was == Phase::Running || was.is_recoverable() {
            self.pause(Turn::LinkLost);
        } else if self.is_stuck_at_source() {
            self.device = Device::Lost;
            self.pages.forget();
            self.pause(Turn::LinkLostAtSwitch);
        } else {
            return Err(self.give_up(Some(channel), What::LinkLost.into()));
        }
        Ok(())
    }

    /// Whether the source has stopped its guest, and may be paused now that the
    /// link is lost.
    fn is_stuck_at_source(&self) -> bool {
        let switches = matches!(self.phase, Phase::Discarding | Phase::Listening);
        self.config.give_back && self.return_path && (switches || self.in_package)
    }

    /// A new main connection is there; the old ones are closed, and nothing of
    /// theirs comes any more. Also after [`Phase::Finished`]: the source asks
    /// again if it has not seen SHUT.
    ///
    /// # Errors
    ///
    /// [`What::NotPaused`], [`What::StillPlacing`].
    pub fn link_restored(&mut self) -> Result<(), Error> {
        self.recover().map_err(|flaw| self.give_up(None, flaw))
    }

    fn recover(&mut self) -> Result<(), Flaw> {
        if let Some(run) = self.lanes.iter().find_map(|lane| lane.runs.first()) {
            return Err(self.at(run.span.block, run.span.offset, What::StillPlacing));
        }
        // A migration that ended in precopy has nothing to recover.
        let next = self.phase.after(Turn::LinkRestored);
        let is_postcopy = self.listened || self.device == Device::Lost;
        self.phase = next.filter(|_| is_postcopy).ok_or(What::NotPaused)?;
        if !self.listened {
            self.listened = true;
            self.actions.push_back(Action::Listen);
        }
        self.requests.forget_link();
        self.in_package = false;
        self.main_ended = false;
        self.preempt_ended = false;
        self.asked = Bits::new(self.blocks.len() as u64);
        Ok(())
    }

    /// Forgets the link, and what was half done on it.
    pub(super) fn pause(&mut self, turn: Turn) {
        if self.phase != Phase::Paused {
            self.stats.pauses += 1;
        }
        if let Some(phase) = self.phase.after(turn) {
            self.phase = phase;
        }
        for lane in &mut self.lanes {
            self.stats.torn += u64::from(lane.assembly.reset());
        }
        self.requests.forget_link();
    }

    /// The source asks what has been received of a block.
    pub(super) fn recv_bitmap(&mut self, name: Name<'_>) -> Result<(), Flaw> {
        let id = self.named(name)?;
        if !self.asked.set(id as u64) {
            return Err(self.at(id, 0, What::BitmapTwice));
        }
        let block = self.blocks.block(id).map_err(What::Block)?;
        if let Some(received) = self.pages.received(id) {
            self.requests.bitmap(block, received);
        }
        Ok(())
    }

    /// The source knows what is missing, and goes on.
    pub(super) fn resume(&mut self) -> Result<(), Flaw> {
        if let Some(id) = self.asked.next_gap(0) {
            let id = usize::try_from(id).unwrap_or(usize::MAX);
            return Err(self.at(id, 0, What::BitmapNotAsked));
        }
        self.turn(Turn::Resume, "POSTCOPY_RESUME")?;
        self.stats.resumes += 1;
        for part in self.virtio_mem.unplugged(&self.blocks) {
            self.pages.forget_promises(part.block, part.start, part.len);
            self.pages.unplug(part.block, part.start, part.len);
        }
        self.requests.say(&Message::ResumeAck);
        if self.device == Device::Saved {
            self.release_pongs();
        }
        self.requests.repeat_all();
        Ok(())
    }
}

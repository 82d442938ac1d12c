//! How migrations end, and what errors do to them.
//!
//! QEMU does not look whether every page has arrived
//! (`savevm.c:postcopy_ram_listen_thread`): missing ones read as zeros. Here
//! they are an error, which the source is told; except for unplugged memory, which
//! no source sends.

use super::ram::lane;
use super::{Action, Blame, Destination, Device, Ending, Error, Flaw, Phase, Turn, What};
use crate::Channel;

impl Destination {
    /// Accepts requested pages on a preempt channel, whatever
    /// [`Config::preempt`](super::Config::preempt) says. Pages missing at the end of the
    /// main channel are awaited until [`Destination::end_of_stream`] of the preempt
    /// channel.
    pub fn expect_preempt(&mut self) {
        self.config.preempt = true;
    }

    /// A connection has been closed by the source, after its last byte.
    ///
    /// # Errors
    ///
    /// As [`Destination::link_lost`] if the stream was not complete, and
    /// [`What::Incomplete`] if no page can come any more and some are missing.
    pub fn end_of_stream(&mut self, channel: Channel) -> Result<(), Error> {
        match channel {
            Channel::Main if self.main_ended => return Ok(()),
            Channel::Main => return self.link_lost(channel),
            Channel::Preempt => {}
        }
        let assembly = &self.lanes[lane(channel)].assembly;
        if assembly.open().is_some() {
            return self.link_lost(channel);
        }
        self.preempt_ended = true;
        self.settle()
            .map_err(|flaw| self.give_up(Some(channel), flaw))
    }

    /// The main channel's end mark.
    pub(super) fn eof(&mut self) -> Result<(), Flaw> {
        if !self.phase.is_precopy() && self.phase != Phase::Running {
            let what = "the end of the stream";
            return Err(What::OutOfTurn { what }.into());
        }
        if self.in_package {
            let what = "the end of the stream inside the package";
            return Err(What::OutOfTurn { what }.into());
        }
        if !self.listened && !self.config.accept_precopy_end {
            return Err(What::NoSwitch.into());
        }
        self.main_ended = true;
        if self.device == Device::Lost {
            return Err(What::DevicesLost.into());
        }
        self.unplug();
        self.device_state_complete();
        self.settle()
    }

    /// Ends the migration if everything is here, or cannot come any more.
    pub(super) fn settle(&mut self) -> Result<(), Flaw> {
        let ending = match self.phase {
            _ if !self.main_ended => return Ok(()),
            Phase::Running => Ending::Postcopy,
            phase if phase.is_precopy() => Ending::Precopy,
            _ => return Ok(()),
        };
        // Without POSTCOPY_ADVISE a source may leave out pages that its guest
        // does not use.
        let missing = match self.phase {
            Phase::Fresh => 0,
            _ => self.pages.missing(),
        };
        if missing > 0 {
            // The rest of a page begun on this channel can come on no other.
            let torn = self.lanes[lane(Channel::Main)].assembly.open().is_some();
            let runs = self.lanes.iter().flat_map(|lane| &lane.runs);
            let placing: u64 = runs.map(|run| run.span.len / self.target).sum();
            let urgent = self.config.preempt && self.listened && !self.preempt_ended;
            if !torn && (urgent || placing == missing) {
                return Ok(());
            }
            return Err(match self.pages.first_missing() {
                Some((id, offset)) => self.at(id, offset, What::Incomplete { missing }),
                None => What::Incomplete { missing }.into(),
            });
        }
        if self.device != Device::Saved {
            return Ok(());
        }
        if !self.confirmed {
            if !self.asked_to_confirm {
                self.asked_to_confirm = true;
                self.actions.push_back(Action::Complete(ending));
            }
            return Ok(());
        }
        self.turn(Turn::Finish, "the end of the stream")?;
        self.stats.unplugged = self.pages.unplugged();
        if self.return_path {
            self.requests.shut(0);
        }
        if !self.told {
            self.told = true;
            self.actions.push_back(Action::Finished(ending));
        }
        Ok(())
    }

    /// What was received is where it belongs, after [`Action::Complete`]: the
    /// source may be told that the migration is over. Without a link it is
    /// told after the recovery.
    ///
    /// # Errors
    ///
    /// [`What::NothingToConfirm`] before [`Action::Complete`].
    pub fn confirm(&mut self) -> Result<(), Error> {
        if !self.confirmed && !self.asked_to_confirm {
            return Err(self.give_up(None, What::NothingToConfirm.into()));
        }
        self.confirmed = true;
        self.settle()
            .map_err(|flaw| self.give_up(Some(Channel::Main), flaw))
    }

    /// Gives up, and tells the source with SHUT(1) if there is a return path.
    /// From QEMU 9.0 on the source then runs its guest again, so it must not
    /// have run here. Nothing happens once the migration is over.
    pub fn abort(&mut self) {
        self.fail();
    }

    /// Draws the consequences of an error.
    pub(super) fn give_up(&mut self, channel: Option<Channel>, flaw: Flaw) -> Error {
        let error = Error {
            what: flaw.what,
            place: flaw.place,
            channel,
            phase: self.phase,
        };
        let recoverable = self.phase == Phase::Running || self.phase.is_recoverable();
        match flaw.what {
            what if what.blame() == Blame::Caller => {}
            // The source believes that it has sent everything.
            What::Incomplete { .. } | What::DevicesLost => self.fail(),
            _ if recoverable => self.pause(Turn::LinkLost),
            What::LinkLost if channel == Some(Channel::Main) => {
                self.requests.forget_link();
                self.return_path = false;
                self.fail();
            }
            _ => self.fail(),
        }
        error
    }

    fn fail(&mut self) {
        let Some(phase) = self.phase.after(Turn::Fail) else {
            return;
        };
        if self.return_path && !self.phase.is_over() {
            self.requests.shut(1);
        }
        self.phase = phase;
        for lane in &mut self.lanes {
            lane.assembly.reset();
        }
    }
}

//! The model's endings: end of stream, loss of the link, end of the migration.

use retpath_engine::Channel;
use retpath_engine::destination::{Action, Blame, Ending, Phase};

use super::model::{Effect, Model, Refusal, Reply, channel_index};

impl Model {
    pub(super) fn eof(&mut self) -> Result<Effect, Refusal> {
        let legal = self.phase.is_precopy() || self.phase == Phase::Running;
        if !legal || self.in_package {
            return Err((Blame::Peer, false));
        }
        self.main_ended = true;
        self.device_complete();
        self.settle()?;
        Ok(Effect::Nothing)
    }

    pub(super) fn settle(&mut self) -> Result<(), Refusal> {
        let legal = self.phase.is_precopy() || self.phase == Phase::Running;
        if !self.main_ended || !legal {
            return Ok(());
        }
        if self.phase != Phase::Fresh && self.missing().next().is_some() {
            let torn = self.half[0].is_some();
            return if self.more_comes() && !torn {
                Ok(())
            } else {
                Err((Blame::Peer, true))
            };
        }
        if !self.saved {
            return Ok(());
        }
        let ending = match self.phase {
            Phase::Running => Ending::Postcopy,
            _ => Ending::Precopy,
        };
        if !self.confirmed {
            if !self.asked_to_confirm {
                self.asked_to_confirm = true;
                self.actions.push(Action::Complete(ending));
            }
            return Ok(());
        }
        self.phase = Phase::Finished;
        self.shut(0);
        if !self.told {
            self.told = true;
            self.actions.push(Action::Finished(ending));
        }
        Ok(())
    }

    /// Whether missing pages can still arrive after the main channel ended.
    pub(super) fn more_comes(&self) -> bool {
        let placing = |(block, at)| self.is_placing(block, at);
        let urgent = self.setup.preempt && self.listened && !self.preempt_ended;
        urgent || self.missing().all(placing)
    }

    pub(super) fn link_lost(&mut self, channel: Channel) -> Result<Effect, Refusal> {
        self.placing[channel_index(channel)].clear();
        match self.phase {
            Phase::Finished | Phase::Failed => {}
            Phase::Running | Phase::Paused | Phase::Recovering => self.pause(),
            _ if channel == Channel::Preempt => {
                self.shut(1);
                return Err((Blame::Link, true));
            }
            _ => return Err((Blame::Link, true)),
        }
        Ok(Effect::Nothing)
    }

    /// Aborts the migration on the caller's behalf.
    pub(super) fn abort(&mut self) {
        if !self.phase.is_over() {
            self.shut(1);
            self.phase = Phase::Failed;
            self.half = [None, None];
        }
    }

    pub(super) fn shut(&mut self, value: u32) {
        if self.open {
            self.replies.push(Reply::Shut(value));
        }
    }

    pub(super) fn pause(&mut self) {
        self.phase = Phase::Paused;
        self.half = [None, None];
        self.last = None;
    }
}

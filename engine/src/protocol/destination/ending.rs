//! The end of a migration, and the effects of errors.
//!
//! QEMU does not check that every page has been received
//! (`savevm.c:postcopy_ram_listen_thread`): missing pages read as zeros. Here they are an
//! error, which the source is told; except for unplugged memory, which no source sends.

use super::{
    Action, Blame, Cause, Completion, Destination, Device, Ending, Error, ErrorKind, MainStream,
    Phase, PreemptStream, ReturnPath,
};
use crate::Channel;

impl Destination {
    /// Allows a preempt channel, whatever [`Config::preempt`](super::Config::preempt) says.
    /// Pages missing at the end of the main channel are awaited until [`Destination::end_of_stream`] of the preempt
    /// channel.
    pub fn expect_preempt(&mut self) {
        if self.preempt == PreemptStream::NotAgreed {
            self.preempt = PreemptStream::Open;
        }
    }

    /// Handles a connection that the source has closed, after its last byte.
    ///
    /// # Errors
    ///
    /// As [`Destination::link_lost`] if the stream was not complete, and
    /// [`ErrorKind::Incomplete`] if pages are missing and no channel can deliver them.
    pub fn end_of_stream(&mut self, channel: Channel) -> Result<(), Error> {
        match channel {
            Channel::Main if self.is_main_ended() => Ok(()),
            Channel::Preempt if !self.is_torn(channel) => {
                self.guard(Some(channel), Self::end_preempt)
            }
            _ => self.link_lost(channel),
        }
    }

    /// Whether a host page is incomplete on this channel.
    fn is_torn(&self, channel: Channel) -> bool {
        let state = &self.channels[channel.index()];
        state.assembly.open().is_some()
    }

    /// Handles the end of the preempt channel.
    pub(super) fn end_preempt(&mut self) -> Result<(), Cause> {
        if self.preempt == PreemptStream::Open {
            self.preempt = PreemptStream::Ended;
        }
        self.settle()
    }

    /// Handles the main channel's end mark.
    pub(super) fn eof(&mut self) -> Result<(), Cause> {
        let what = match self.main {
            MainStream::Package => "the end of the stream inside the package",
            _ => "the end of the stream",
        };
        let may_end = self.phase.is_precopy() || self.phase == Phase::Running;
        if !may_end || self.main == MainStream::Package {
            return Err(ErrorKind::OutOfTurn { what }.into());
        }
        if !self.listening && !self.config.accept_precopy_end {
            return Err(ErrorKind::NoSwitch.into());
        }
        self.main = MainStream::Ended;
        if self.device == Device::Lost {
            return Err(ErrorKind::DevicesLost.into());
        }
        self.unplug();
        self.device_state_complete();
        self.settle()
    }

    /// Ends the migration if everything has been received, or cannot be received any more.
    pub(super) fn settle(&mut self) -> Result<(), Cause> {
        let ending = match self.phase {
            _ if !self.is_main_ended() => return Ok(()),
            Phase::Running => Ending::Postcopy,
            phase if phase.is_precopy() => Ending::Precopy,
            _ => return Ok(()),
        };
        // Without POSTCOPY_ADVISE a source may leave out pages that its guest does not use.
        let missing = match self.phase {
            Phase::Fresh => 0,
            _ => self.pages.missing(),
        };
        if missing > 0 {
            // The rest of an incomplete host page cannot come on the other channel.
            let placing: u64 = self
                .runs()
                .map(|span| span.len / self.config.target_page)
                .sum();
            let urgent = self.listening && self.preempt == PreemptStream::Open;
            if !self.is_torn(Channel::Main) && (urgent || placing == missing) {
                return Ok(());
            }
            return Err(match self.pages.first_missing() {
                Some((id, offset)) => self.at(id, offset, ErrorKind::Incomplete { missing }),
                None => ErrorKind::Incomplete { missing }.into(),
            });
        }
        if self.device != Device::Saved {
            return Ok(());
        }
        match self.completion {
            Completion::Unconfirmed => {
                self.completion = Completion::AwaitingConfirmation;
                self.actions.push_back(Action::Complete(ending));
                return Ok(());
            }
            Completion::AwaitingConfirmation => return Ok(()),
            Completion::Confirmed | Completion::Reported => {}
        }
        self.phase = Phase::Finished;
        self.stats.unplugged = self.pages.unplugged();
        if self.has_return_path() {
            self.requests.shut(0);
        }
        if self.completion != Completion::Reported {
            self.completion = Completion::Reported;
            self.actions.push_back(Action::Finished(ending));
        }
        Ok(())
    }

    /// Reports that [`Action::Complete`] has been carried out: the source may be told that
    /// the migration is over. Without a connection it is told after the recovery.
    ///
    /// # Errors
    ///
    /// Called before [`Action::Complete`].
    pub fn confirm(&mut self) -> Result<(), Error> {
        match self.completion {
            Completion::Unconfirmed => {
                let kind = ErrorKind::Misuse("the migration is not complete");
                return Err(self.give_up(None, kind.into()));
            }
            Completion::AwaitingConfirmation => self.completion = Completion::Confirmed,
            Completion::Confirmed | Completion::Reported => {}
        }
        self.guard(Some(Channel::Main), Self::settle)
    }

    /// Fails the migration, and tells the source with SHUT(1) if there is a return path.
    /// From QEMU 9.0 on the source then runs its guest again, so the guest must not
    /// have run here. Has no effect once the migration is over.
    pub fn abort(&mut self) {
        if self.phase.is_over() {
            return;
        }
        if self.has_return_path() {
            self.requests.shut(1);
        }
        self.phase = Phase::Failed;
        for state in &mut self.channels {
            state.assembly.reset();
        }
    }

    /// Applies the effects of an error.
    pub(super) fn give_up(&mut self, channel: Option<Channel>, cause: Cause) -> Error {
        let error = Error {
            kind: cause.kind,
            location: cause.location,
            channel,
            phase: self.phase,
        };
        match cause.kind {
            kind if kind.blame() == Blame::Caller => {}
            // The source has ended its stream: a recovery cannot deliver anything.
            ErrorKind::Incomplete { .. } | ErrorKind::DevicesLost => self.abort(),
            _ if self.phase.has_run() => self.pause(),
            ErrorKind::LinkLost if channel == Some(Channel::Main) => {
                self.requests.forget_link();
                self.return_path = ReturnPath::Closed;
                self.abort();
            }
            _ => self.abort(),
        }
        error
    }
}

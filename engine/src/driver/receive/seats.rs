//! Which connection is which, and how long each may take.
//!
//! Errors are the listener's, and that nobody came in time. A connection that
//! is of no use never is one: it is let go, and the next one may try.

use std::time::Instant;

use retpath_codec::forward::Decoder;

use super::super::RunError;
use super::links::Inbound;
use super::lobby::{LOBBY, Wanted};
use super::{LINGER, Receiving};
use crate::Channel;
use crate::destination::{Ending, Phase};
use crate::socket::Link;

impl Receiving<'_> {
    /// Whether nothing more can come that matters.
    pub(super) fn is_over(&self) -> bool {
        match self.ending {
            None => false,
            // The source still sends a description, then closes.
            Some(Ending::Precopy) => self.main.is_none(),
            // The source closes when it has seen SHUT. If a link broke before,
            // SHUT may have been lost with this one, too: it asks again.
            Some(Ending::Postcopy) => {
                let known = self.told && self.core.stats().pauses == 0;
                known || self.main.is_none() && self.since.elapsed() >= LINGER
            }
        }
    }

    /// Whether the listener is to be looked at.
    pub(super) fn wants_link(&self) -> bool {
        let second = self.wants_preempt() && !self.lobby.is_full();
        !self.is_over() && (self.main.is_none() || second)
    }

    fn wants_preempt(&self) -> bool {
        !self.had_preempt
    }

    /// Whether one who waits may become a channel now.
    pub(super) fn looks_at_lobby(&self) -> bool {
        self.main.is_none() || self.looks_for_preempt()
    }

    fn looks_for_preempt(&self) -> bool {
        // Before LISTEN its pages cannot be placed.
        self.wants_preempt() && self.core.is_listening()
    }

    /// Whether nobody is left who could bring what the main channel has not.
    pub(super) fn lacks_preempt(&self) -> bool {
        self.looks_for_preempt() && self.lobby.is_empty()
    }

    /// Takes connections, and gives them their places: the first main one, one
    /// that replaces it, the preempt channel. `ready`: the listener has some.
    pub(super) fn accept(&mut self, ready: bool) -> Result<(), RunError> {
        if !self.wants_link() {
            return Ok(());
        }
        if self.listener.fd().is_none() {
            // It is the only one that there will ever be: nobody to wait for.
            return match self.listener.accept()? {
                Some(link) if self.main.is_none() => self.seat(link),
                _ => Ok(()),
            };
        }
        if self.main.is_none() {
            let most = if ready { LOBBY } else { 0 };
            for _ in 0..most {
                let Some(link) = self.listener.accept()? else {
                    break;
                };
                self.lobby.admit(link);
            }
            let wanted = match self.last {
                None => Wanted::First,
                Some(_) => Wanted::Replacement,
            };
            if let Some(link) = self.lobby.main(wanted) {
                self.seat(link)?;
            }
        }
        if self.main.is_none() || !self.wants_link() {
            return Ok(());
        }
        if ready {
            self.admit()?;
        }
        self.refuse_multifd()
    }

    /// Adds connections made after the main link to the pending ones.
    fn admit(&mut self) -> Result<(), RunError> {
        while !self.lobby.is_full()
            && let Some(link) = self.listener.accept()?
        {
            self.lobby.admit(link);
        }
        Ok(())
    }

    /// Fails if a pending connection is a multifd channel. Before QEMU 8.1 the main
    /// channel need not show that pages travel on multifd channels, and a precopy
    /// migration would seem complete with its pages missing.
    pub(super) fn refuse_multifd(&self) -> Result<(), RunError> {
        match self.core.phase().is_precopy() && self.lobby.has_multifd() {
            true => Err(RunError::Multifd),
            false => Ok(()),
        }
    }

    /// The same for connections not accepted yet. Called before pages that were not
    /// received are taken for zeros.
    pub(super) fn refuse_all_multifd(&mut self) -> Result<(), RunError> {
        loop {
            self.refuse_multifd()?;
            match self.listener.accept()? {
                Some(link) => self.lobby.admit(link),
                None => return Ok(()),
            }
        }
    }

    /// Handles the end of the main stream: without a second connection, missing pages
    /// will not arrive.
    pub(super) fn before_end(&mut self) -> Result<(), RunError> {
        if self.looks_for_preempt() && self.listener.fd().is_some() {
            self.admit()?;
        }
        if self.lacks_preempt() {
            self.core.end_of_stream(Channel::Preempt)?;
        }
        Ok(())
    }

    /// Makes a connection the main one.
    fn seat(&mut self, link: Link) -> Result<(), RunError> {
        let decoder = match &self.last {
            None => Decoder::new(self.options.stream.clone()),
            Some(last) => {
                self.core.link_restored()?;
                last.resume()
            }
        };
        self.had_preempt = false;
        self.resumes = self.core.stats().resumes;
        self.seated = Instant::now();
        self.moved = self.seated;
        self.main = Some(Inbound::new(link, decoder));
        Ok(())
    }

    /// Starts to read the preempt channel, once it has begun.
    pub(super) fn promote(&mut self) {
        // Its decoder needs the blocks of the main one.
        if self.looks_for_preempt()
            && let Some(main) = &self.main
            && let Some(link) = self.lobby.preempt()
        {
            self.had_preempt = true;
            self.guest.preempt();
            self.preempt = Some(Inbound::new(link, main.decoder.preempt()));
        }
    }

    /// Lets go of what has taken too long.
    ///
    /// # Errors
    ///
    /// No link has come in time, or the source does not end a migration in
    /// precopy.
    pub(super) fn limits(&mut self) -> Result<(), RunError> {
        let recovery = self.options.recovery;
        let seconds = recovery.as_secs();
        if self.main.is_none() {
            return self.patience();
        }
        if self.core.phase() == Phase::Recovering && self.seated.elapsed() >= recovery {
            return self.lost(Channel::Main, RunError::NotRecovered { seconds });
        }
        // Everything is here. All that is left for the source is to read a
        // word, perhaps to send a description, and to close.
        if self.ending.is_some() && self.moved.elapsed() >= recovery {
            return self.lost(Channel::Main, RunError::Stalled { seconds });
        }
        Ok(())
    }

    /// How long a missing link has been waited for is not too long.
    fn patience(&mut self) -> Result<(), RunError> {
        // The first connection may take as long as it likes.
        if self.last.is_none()
            || self.ending.is_some()
            || self.since.elapsed() < self.options.patience
        {
            return Ok(());
        }
        let seconds = self.options.patience.as_secs();
        Err(RunError::Abandoned {
            seconds,
            cause: self.cause.take(),
        })
    }
}

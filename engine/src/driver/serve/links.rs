//! The connections to the destination: made, drained and replaced.
//!
//! When to connect and when to give up is decided by [`Reconnect`](crate::source) and
//! [`Drain`].

use std::os::fd::AsFd;

use retpath_codec::Qemu;
use retpath_codec::stream::Stream;
use rustix::event::PollFlags;

use super::super::outbound::Outbound;
use super::super::{RunError, Waiting};
use super::{Serving, nanos};
use crate::Channel;
use crate::socket::{ChannelError, Link};
use crate::source::{Drain, Error, LinkAction, SourcePhase, Stall};

/// The connections to the destination.
pub(super) struct Links {
    pub(super) main: Outbound,
    pub(super) preempt: Option<Outbound>,
    /// Decodes the return path.
    pub(super) stream: Stream<Qemu>,
    /// Bytes read from the main link.
    pub(super) read: u64,
}

impl Links {
    pub(super) fn written(&self) -> u64 {
        self.main.written + self.preempt.as_ref().map_or(0, |out| out.written)
    }
}

impl Serving<'_> {
    /// Connects a channel. Retries after an interruption unless the loop is to stop.
    pub(super) fn connect(&mut self, channel: Channel) -> Result<Link, RunError> {
        loop {
            match self.connector.connect(channel) {
                Err(ChannelError::Interrupted { .. }) => drop(self.control.take_pause()?),
                done => return Ok(done?),
            }
        }
    }

    /// Connects the main channel in the time that the policy allows. The first connection
    /// is tried again only while the destination does not listen: it may have been
    /// started a moment ago.
    pub(super) fn connect_main(&mut self, first: bool) -> Result<Link, RunError> {
        let mut told = false;
        loop {
            while let Some(attempt) = self.reconnect.poll_deadline()
                && self.now() < attempt
            {
                self.wait(None, attempt)?;
            }
            let error = match self.connect(Channel::Main) {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            match &error {
                _ if self.reconnect.failed(self.now()) == LinkAction::GiveUp => return Err(error),
                RunError::Channel(absent) if first && absent.is_absence() => {
                    if !std::mem::replace(&mut told, true) {
                        self.handler.waiting(absent, self.options.connect_timeout);
                    }
                }
                RunError::Channel(_) if !first => {}
                _ => return Err(error),
            }
        }
    }

    /// Waits until the link can be read, if there is one, until a time, or until another
    /// thread wants something of the loop.
    fn wait(&self, link: Option<&Link>, until: u64) -> Result<(), RunError> {
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        waiting.add_link(link, PollFlags::IN);
        waiting.wait(self.control, self.clock.until(until))?;
        if waiting.readable(control) {
            self.control.take_pause()?;
        }
        Ok(())
    }

    /// Begins with a new main link.
    pub(super) fn open(&mut self, link: Link) -> Result<Links, RunError> {
        self.send_queue.reset();
        self.stall = Stall::new(self.options.stall_timeout.map(nanos));
        self.silence.new_link();
        if self.core.phase() == SourcePhase::Paused {
            self.core.resume(self.now())?;
        }
        Ok(Links {
            main: Outbound::new(Channel::Main, link),
            preempt: None,
            stream: Stream::new(self.core.recv_bitmap_limit()),
            read: 0,
        })
    }

    /// Replaces the links after an error from which a new link can recover; returns any
    /// other error. `None`: the migration has completed.
    pub(super) fn replace(
        &mut self,
        mut links: Links,
        error: RunError,
    ) -> Result<Option<Links>, RunError> {
        let error = self.drain(&mut links, error);
        if self.core.phase() == SourcePhase::Completed {
            return Ok(None);
        }
        let recoverable = match &error {
            RunError::Source(Error::GaveUp { .. }) => false,
            RunError::Source(_) | RunError::Channel(_) => true,
            other => other.is_link(),
        };
        let lost = self.core.link_lost();
        for out in std::iter::once(links.main).chain(links.preempt) {
            out.link.shut_down();
        }
        if !recoverable || lost.is_err() || self.core.phase() != SourcePhase::Paused {
            return Err(error);
        }
        let resumes = self.core.stats().resumes;
        let action = self.reconnect.broken(self.now(), resumes);
        if action == LinkAction::ConnectNewOutage && !self.handler.broken(self.core, &error) {
            return Err(error);
        }
        let link = match action {
            LinkAction::GiveUp => None,
            _ => match self.connect_main(false) {
                Err(RunError::Stopped) => return Err(RunError::Stopped),
                link => link.ok(),
            },
        };
        match link {
            Some(link) => self.open(link).map(Some),
            None => Err(RunError::Abandoned {
                seconds: self.options.reconnect_timeout.as_secs(),
                cause: Some(Box::new(error)),
            }),
        }
    }

    /// Reads the destination's last messages from a link that cannot be written to;
    /// returns what ends the link.
    fn drain(&mut self, links: &mut Links, error: RunError) -> RunError {
        if !matches!(error, RunError::Link { .. }) {
            return error;
        }
        let drain = Drain::new(self.now());
        loop {
            let any = match self.read_return_path(links) {
                Ok(any) => any,
                Err(RunError::Source(cause)) => return cause.into(),
                Err(_) => return error,
            };
            let Some(until) = drain.handle(self.now(), any, self.core.phase()) else {
                return error;
            };
            if !any && let Err(error) = self.wait(Some(&links.main.link), until) {
                return error;
            }
        }
    }
}

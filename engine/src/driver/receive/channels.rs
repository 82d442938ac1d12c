//! The main and the preempt channel: how they begin, what arrives on them, and how they
//! end. Errors are those that a new connection cannot recover.

use std::mem;
use std::time::Duration;

use retpath_codec::forward::{Decoder, Event};
use rustix::event::PollFlags;

use super::super::{RunError, Waiting, buffer};
use super::connection::Connection;
use super::{PROGRESS, Ready, Receiver};
use crate::Channel;
use crate::destination::pending::Wanted;
use crate::destination::{Ending, Phase, Tail, deadlines};
use crate::socket::{Link, Moved};

/// The main channel.
pub(super) enum MainChannel {
    Down {
        /// The state from which a replacement continues; `None` before the first connection.
        decoder: Option<Decoder>,
        /// Why the last connection was lost.
        cause: Option<Box<RunError>>,
    },
    Up(MainConnection),
}

pub(super) struct MainConnection {
    pub(super) connection: Box<Connection>,
    /// Where the next replacement continues if this one does not resume.
    previous: Option<Decoder>,
    /// How often the migration had been resumed before.
    resumes: u64,
    /// Why the connection cannot be written.
    pub(super) write_error: Option<RunError>,
    /// Whether the stream may have ended without an end mark.
    pub(super) may_have_ended: bool,
}

impl MainChannel {
    pub(super) fn down(decoder: Option<Decoder>) -> Self {
        Self::Down {
            decoder,
            cause: None,
        }
    }
}

/// The connection of a channel, if it is open.
fn open<'a>(
    channel: Channel,
    main: &'a mut MainChannel,
    preempt: &'a mut Option<Connection>,
) -> Option<&'a mut Connection> {
    match (channel, main) {
        (Channel::Main, MainChannel::Up(main)) => Some(&mut main.connection),
        (Channel::Main, MainChannel::Down { .. }) => None,
        (Channel::Preempt, _) => preempt.as_mut(),
    }
}

impl Receiver<'_> {
    /// Takes connections, and makes them the main or the preempt channel.
    pub(super) fn accept(&mut self, ready: &Ready) -> Result<(), RunError> {
        if self.session.deadlines.is_over() {
            return Ok(());
        }
        let session = &mut self.session;
        if ready.listener {
            session.admit();
        } else if ready.pending {
            session.look();
        }
        if matches!(self.main, MainChannel::Down { .. }) {
            let link = match session.acceptor.listener.fd() {
                Some(_) => session.take(),
                // An inherited connection is the only one there will ever be.
                None => session.acceptor.listener.accept()?,
            };
            if let Some(link) = link {
                self.connected(link)?;
            }
        }
        if let MainChannel::Up(main) = &self.main
            && self.session.looks_for_preempt()
            && let Some(link) = self.session.take()
        {
            // It needs the blocks of the main channel.
            let decoder = main.connection.decoder.preempt();
            self.preempt = Some(Connection::new(link, decoder));
            self.session.acceptor.pending.want(Wanted::Nothing);
            self.session.handler.preempt();
        }
        Ok(())
    }

    /// Makes a connection the main channel.
    fn connected(&mut self, link: Link) -> Result<(), RunError> {
        let MainChannel::Down { decoder, .. } = &mut self.main else {
            return Ok(());
        };
        let previous = decoder.take();
        let decoder = match &previous {
            None => Decoder::new(self.options.stream.clone()),
            Some(previous) => {
                self.session.core.link_restored()?;
                previous.resume()
            }
        };
        self.main = MainChannel::Up(MainConnection {
            connection: Box::new(Connection::new(link, decoder)),
            previous,
            resumes: self.session.core.stats().resumes,
            write_error: None,
            may_have_ended: false,
        });
        self.preempt = None;
        self.session.sent = 0;
        self.session.acceptor.pending.want(Wanted::Preempt);
        self.notify(deadlines::Event::Connected);
        Ok(())
    }

    /// Reads a channel once, and handles what has arrived.
    pub(super) fn read(&mut self, channel: Channel) -> Result<(), RunError> {
        let Some(connection) = open(channel, &mut self.main, &mut self.preempt) else {
            return Ok(());
        };
        match connection.read(channel, &mut self.session) {
            Ok(Moved::Bytes(_)) => {
                if channel == Channel::Main {
                    self.notify(deadlines::Event::Moved);
                }
                if let MainChannel::Up(main) = &mut self.main {
                    main.may_have_ended = false;
                }
                Ok(())
            }
            Ok(Moved::Later) => Ok(()),
            Ok(Moved::End) => self.ended(channel),
            Err(error) => self.lost(channel, error),
        }
    }

    /// Handles silence. It can be the end of a precopy migration without footers whose
    /// source waits for SHUT before it closes. Behind the main channel's end, it is the end
    /// of a preempt channel that was closed without data.
    pub(super) fn idle(&mut self) -> Result<(), RunError> {
        let session = &mut self.session;
        let MainChannel::Up(main) = &mut self.main else {
            return Ok(());
        };
        if session.deadlines.ending().is_some() {
            return Ok(());
        }
        if main.connection.decoder.has_ended() {
            return self.check_preempt();
        }
        // The first checks cost nothing.
        let waits = session.core.has_return_path() && !main.may_have_ended;
        if !waits || main.connection.decoder.finish(&[]).is_err() {
            return Ok(());
        }
        let tail = session.handler.device_state_tail();
        match tail.map_err(RunError::Handler)? {
            Tail::Whole => session.event(Channel::Main, Event::Eof, session.clock.now()),
            tail => {
                main.may_have_ended = tail == Tail::Unclear;
                Ok(())
            }
        }
    }

    /// Ends the preempt channel if no connection is left that could be it.
    pub(super) fn check_preempt(&mut self) -> Result<(), RunError> {
        let session = &mut self.session;
        if session.lacks_preempt() && session.core.end_of_stream(Channel::Preempt).is_err() {
            return self.lost(Channel::Preempt, RunError::Closed);
        }
        Ok(())
    }

    /// Handles a main connection that cannot be written, of which everything that had
    /// arrived has been read.
    pub(super) fn write_failed(&mut self) -> Result<(), RunError> {
        let MainChannel::Up(main) = &mut self.main else {
            return Ok(());
        };
        let Some(error) = main.write_error.take() else {
            return Ok(());
        };
        match self.session.core.phase() {
            Phase::Running | Phase::Recovering => self.lost(Channel::Main, error),
            Phase::Finished if self.session.deadlines.ending() == Some(Ending::Postcopy) => {
                // The source may reconnect for SHUT.
                self.session.shut.failed(error);
                self.ended(Channel::Main)
            }
            Phase::Finished => Err(error),
            // In precopy the source closes the connection, too, if it is broken. Until then
            // the socket reports that it is writable, so writes have to be paced.
            _ => {
                self.no_write_before = self.session.clock.now() + PROGRESS;
                Ok(())
            }
        }
    }

    /// Handles the end of a channel that the source has closed.
    pub(super) fn ended(&mut self, channel: Channel) -> Result<(), RunError> {
        let Some(connection) = open(channel, &mut self.main, &mut self.preempt) else {
            return Ok(());
        };
        if let Err(error) = connection.finish() {
            return self.lost(channel, error);
        }
        let has_ended = connection.decoder.has_ended() || self.session.deadlines.ending().is_some();
        if channel == Channel::Main
            && !has_ended
            && let Err(error) = self.closed_in_device_state()
        {
            return self.lost(channel, error);
        }
        let core = &mut self.session.core;
        if core.end_of_stream(channel).is_err() || core.phase() == Phase::Paused {
            return self.lost(channel, RunError::Closed);
        }
        match channel {
            Channel::Main => drop(self.disconnected()),
            Channel::Preempt => self.preempt = None,
        }
        self.session.act()?;
        if channel == Channel::Main && self.session.core.phase() == Phase::Running {
            // A source that closes before it has seen SHUT reads no more requests, whatever
            // it still sends on the preempt channel.
            return self.lost(channel, RunError::Closed);
        }
        Ok(())
    }

    /// Handles a main connection that was closed inside the device state of a precopy
    /// stream without footers. This is the end if the description proves it. Otherwise it
    /// may be: the connection of a source that was killed or has cancelled the migration
    /// closes in the same way.
    fn closed_in_device_state(&mut self) -> Result<(), RunError> {
        let session = &mut self.session;
        let tail = session.handler.device_state_tail();
        if tail.map_err(RunError::Handler)? != Tail::Whole {
            // A source that is done waits for SHUT before it closes.
            if session.core.has_return_path() {
                return Err(RunError::Closed);
            }
            if !self.options.accept_unproven_end {
                return Err(RunError::UnprovenEnd);
            }
        }
        session.event(Channel::Main, Event::Eof, session.clock.now())
    }

    /// Takes the main channel down, and returns its connection.
    fn disconnected(&mut self) -> Option<Link> {
        self.notify(deadlines::Event::Lost);
        self.session.acceptor.pending.want(Wanted::Replacement);
        let (link, decoder) = match mem::replace(&mut self.main, MainChannel::down(None)) {
            MainChannel::Down { decoder, .. } => (None, decoder),
            MainChannel::Up(main) => {
                if let Some(error) = main.write_error {
                    self.session.shut.failed(error);
                }
                // The state of a connection that did not resume says nothing about the next.
                let resumed = self.session.core.stats().resumes != main.resumes;
                let previous = main.previous.filter(|_| !resumed);
                let Connection { link, decoder, .. } = *main.connection;
                (Some(link), previous.or(Some(decoder)))
            }
        };
        self.main = MainChannel::down(decoder);
        link
    }

    /// Drops both connections; in postcopy, new ones are awaited. After an error that
    /// reconnecting cannot recover they stay open, so that SHUT(1) can be sent.
    pub(super) fn lost(&mut self, channel: Channel, error: RunError) -> Result<(), RunError> {
        // Reconnecting cannot recover local failures.
        let recoverable = match &error {
            RunError::Destination(error) => error.is_peer_fault(),
            other => other.is_link(),
        };
        let core = &mut self.session.core;
        let lost = !recoverable || core.link_lost(channel).is_err();
        let is_over = self.session.deadlines.ending() == Some(Ending::Postcopy);
        if lost || !is_over && core.phase() != Phase::Paused {
            return Err(error);
        }
        if let Some(main) = self.disconnected() {
            main.shut_down();
        }
        if let Some(preempt) = self.preempt.take() {
            preempt.link.shut_down();
        }
        self.session.core.outbox().clear();
        if is_over {
            // Nothing is missing any more. The source may reconnect for SHUT.
            self.session.shut.failed(error);
            return Ok(());
        }
        self.session.handler.broken(&self.session.core, &error);
        if let MainChannel::Down { cause, .. } = &mut self.main {
            *cause = Some(Box::new(error));
        }
        Ok(())
    }

    /// Ends the migration on the wire: with SHUT(1), if the source may run its guest again.
    ///
    /// A source in recovery gets no SHUT(1): QEMU handles it there like a lost connection,
    /// and pauses again. It pauses as well when the connection closes, and another process
    /// can continue.
    ///
    /// What follows SHUT(1) is read until the source closes: unread bytes would reset the
    /// connection, and SHUT(1) could be lost.
    pub(super) fn send_failure(&mut self) {
        let session = &mut self.session;
        let phase = session.core.phase();
        if phase.is_recoverable() {
            return;
        }
        if session.handler.may_go_back() {
            session.core.abort();
        }
        let MainChannel::Up(main) = &self.main else {
            return;
        };
        let link = &main.connection.link;
        // From the first discarded page on, the guest is stopped at the source. Before that
        // the source continues to run it even if SHUT(1) is lost.
        let stopped = session.core.has_switched() || phase == Phase::Discarding;
        let switched = stopped && !session.core.outbox().is_empty();
        let now = session.clock.now();
        session
            .deadlines
            .handle(now, deadlines::Event::Failed { switched });
        let mut rest = vec![0; 64 << 10];
        loop {
            let (outbox, sent) = (session.core.outbox(), &mut session.sent);
            let flags = match buffer::flush(outbox, sent, link) {
                Ok(true) => PollFlags::IN,
                Ok(false) => PollFlags::IN | PollFlags::OUT,
                Err(_) => return,
            };
            let moved = link.read(&mut rest);
            let now = session.clock.now();
            if session.deadlines.poll(now).is_some() {
                return;
            }
            let left = session.deadlines.poll_deadline().unwrap_or(now) - now;
            match moved {
                Ok(Moved::Bytes(_)) => {}
                Ok(Moved::Later) => {
                    let mut waiting = Waiting::new();
                    waiting.add_link(Some(link), flags);
                    let left = Duration::from_nanos(left);
                    if waiting.wait(self.control, left).is_err() {
                        return;
                    }
                }
                // A source that has sent everything closes once it has read SHUT(1). One that has
                // not may have lost its link: then it pauses, and does not get its guest back.
                Ok(Moved::End)
                    if session.core.is_main_ended() && session.core.outbox().is_empty() =>
                {
                    if switched {
                        session.handler.given_back();
                    }
                    return;
                }
                Ok(Moved::End) | Err(_) => return,
            }
        }
    }
}

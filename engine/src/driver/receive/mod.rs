//! The destination's loop: connections and userfaultfd on one side, the destination core
//! and its policies on the other.
//!
//! One thread serves everything, and blocks only in poll(2). In every turn, what is urgent
//! comes first: faults, then the preempt channel, then one read of the main channel.
//!
//! [`Pending`] decides which connection becomes a
//! channel, and [`Deadlines`] how long each may take. An error ends the migration with
//! everything received still in memory. A lost connection does not end it in postcopy: the
//! loop waits until the source resumes the migration over a new one.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use retpath_codec::forward::{self, Decoder};
use rustix::event::PollFlags;

use super::buffer;
use super::{Clock, Control, RunError, Waiting};
use crate::Channel;
use crate::destination::deadlines::{self, Deadlines, Expected, Timeout, Timeouts};
use crate::destination::pending::{Pending, Wanted};
use crate::destination::{self, Destination, Phase};
use crate::socket::Accept;

mod accept;
mod channels;
mod connection;
mod handler;
mod memory;
mod page_reader;
mod session;

pub use crate::destination::Content;
pub use handler::DestinationHandler;

use accept::Acceptor;
use channels::MainChannel;
use connection::Connection;
use memory::GuestMemory;
use session::{Session, Shut};

/// How to receive.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReceiveOptions {
    /// Settings of the core.
    pub core: destination::Config,
    /// Settings of the decoder.
    pub stream: forward::Options,
    /// How long to wait for a replacement of a lost connection.
    pub reconnect_timeout: Duration,
    /// How long a replacement may take to resume the migration, after which it is dropped,
    /// and the next one may try with the whole `reconnect_timeout`; and how long a source
    /// may be silent once everything has been received.
    pub recovery_timeout: Duration,
    /// Whether to accept a connection that closes inside the device state as the end of a
    /// stream that does not mark its end; see [`RunError::UnprovenEnd`]. Only without
    /// a return path: with one, a source that is done waits for SHUT.
    pub accept_unproven_end: bool,
    /// The user from whom all connections have to come; connections that do not tell, such
    /// as those over TCP, are refused. Without it, those of the first main channel's user
    /// are accepted.
    pub peer_user: Option<u32>,
}

setters!(ReceiveOptions {
    core: destination::Config,
    stream: forward::Options,
    reconnect_timeout: Duration,
    recovery_timeout: Duration,
    accept_unproven_end: bool,
    peer_user: Option<u32>,
});

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            core: destination::Config::default(),
            stream: forward::Options::default(),
            reconnect_timeout: Duration::from_secs(60),
            recovery_timeout: Duration::from_secs(30),
            accept_unproven_end: false,
            peer_user: None,
        }
    }
}

/// Receives one migration.
///
/// # Errors
///
/// The peer broke the protocol, the machine lacks something, the connection was lost and
/// not replaced, or `control` stopped the loop.
pub fn receive(
    listener: &mut dyn Accept,
    handler: &mut dyn DestinationHandler,
    options: ReceiveOptions,
    control: &Control,
) -> Result<Destination, RunError> {
    let core = Destination::new(options.core.clone());
    Receiver::new(core, None, listener, handler, options, control).run()
}

/// Resumes a migration that another process left in postcopy: the source, told to resume
/// (`migrate -r`), connects to `listener`. `known` is what that process learned from the
/// stream. [`DestinationHandler::memory`] is not called, and no memory is trapped.
///
/// # Errors
///
/// As [`receive`].
pub fn resume(
    core: Destination,
    known: forward::ResumeState,
    listener: &mut dyn Accept,
    handler: &mut dyn DestinationHandler,
    options: ReceiveOptions,
    control: &Control,
) -> Result<Destination, RunError> {
    let decoder = Decoder::resume_from(options.stream.clone(), known);
    Receiver::new(core, Some(decoder), listener, handler, options, control).run()
}

/// How often [`DestinationHandler::progress`] is called, in nanoseconds.
const PROGRESS: u64 = 100_000_000;

struct Receiver<'a> {
    session: Session<'a>,
    control: &'a Control,
    options: ReceiveOptions,
    main: MainChannel,
    /// The preempt channel of the current main channel, while it is open.
    preempt: Option<Connection>,
    /// How often [`DestinationHandler::recovered`] has been called.
    recoveries: u64,
    /// Time of the next write to the main connection after one that failed in precopy.
    no_write_before: u64,
}

struct Ready {
    control: bool,
    faults: bool,
    preempt: bool,
    main: bool,
    listener: bool,
    pending: bool,
}

impl Ready {
    fn is_idle(&self) -> bool {
        let connections = self.preempt || self.main || self.listener || self.pending;
        !(self.control || self.faults || connections)
    }
}

impl<'a> Receiver<'a> {
    fn new(
        mut core: Destination,
        decoder: Option<Decoder>,
        listener: &'a mut dyn Accept,
        handler: &'a mut dyn DestinationHandler,
        options: ReceiveOptions,
        control: &'a Control,
    ) -> Self {
        // Whether the source has the channel is only known once it connects.
        core.expect_preempt();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut deadlines = Deadlines::new(Timeouts {
            reconnect: nanoseconds(options.reconnect_timeout),
            recovery: nanoseconds(options.recovery_timeout),
        });
        let resumed = decoder.is_some();
        let mut wanted = Wanted::First;
        if resumed {
            deadlines.handle(0, deadlines::Event::Lost);
            wanted = Wanted::Replacement;
        }
        let pending = Pending::new(wanted, options.peer_user, options.stream.clone(), resumed);
        Self {
            session: Session {
                core,
                handler,
                acceptor: Acceptor {
                    listener,
                    pending,
                    retry: None,
                },
                memory: GuestMemory::default(),
                sent: 0,
                deadlines,
                shut: Shut::NotDue,
                clock: Clock::new(control),
                has_data: false,
            },
            control,
            options,
            main: MainChannel::down(decoder),
            preempt: None,
            recoveries: 0,
            no_write_before: 0,
        }
    }

    fn run(mut self) -> Result<Destination, RunError> {
        match self.serve() {
            Ok(()) => {
                // Every page is here. What cannot be unregistered is when the descriptor closes.
                let _ = self.session.memory.release();
                self.session.memory.finish();
                Ok(self.session.core)
            }
            Err(error) => {
                self.send_failure();
                match self.session.handler.failed(&error) {
                    true => self.session.memory.finish(),
                    false => self.session.memory.fail(&error),
                }
                Err(error)
            }
        }
    }

    fn serve(&mut self) -> Result<(), RunError> {
        let mut next_progress = 0;
        while !self.session.deadlines.is_over() {
            let ready = self.wait(next_progress)?;
            if ready.is_idle() {
                self.idle()?;
            }
            let pause = ready.control && self.control.take_pause()?;
            if pause && matches!(self.main, MainChannel::Up(_)) {
                self.lost(Channel::Main, RunError::Closed)?;
                continue;
            }
            if self.session.faults(ready.faults)? {
                self.flush();
            }
            if ready.preempt {
                self.read(Channel::Preempt)?;
            }
            if ready.main {
                self.read(Channel::Main)?;
            }
            self.accept(&ready)?;
            self.session.act()?;
            self.report_recovery();
            self.flush();
            let now = self.session.clock.now();
            self.check_deadlines(now, !ready.main)?;
            if now >= next_progress {
                next_progress = now + PROGRESS;
                self.session.handler.progress(&self.session.core);
            }
        }
        match &mut self.session.shut {
            Shut::Due { error } => error.take().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Sleeps until something is ready, or until the next deadline.
    fn wait(&mut self, next_progress: u64) -> Result<Ready, RunError> {
        let has_output = !self.session.core.outbox().is_empty();
        let session = &self.session;
        let now = session.clock.now();
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let faults = session.memory.handler().map(AsFd::as_fd);
        let faults = waiting.add(faults, PollFlags::IN);
        let preempt = self.preempt.as_ref().map(|preempt| &preempt.link);
        let preempt = waiting.add_link(preempt, PollFlags::IN);
        let mut flags = PollFlags::IN;
        let may_write = now >= self.no_write_before;
        flags.set(PollFlags::OUT, may_write && has_output);
        let main = match &self.main {
            MainChannel::Up(main) => Some(&main.connection.link),
            MainChannel::Down { .. } => None,
        };
        let main = waiting.add_link(main, flags);
        let may_accept = session.acceptor.retry.is_none_or(|at| now >= at);
        let listener = session.acceptor.listener.fd().filter(|_| may_accept);
        let listener = waiting.add(listener, PollFlags::IN);
        let pending = waiting.len();
        for link in session.acceptor.pending.unread() {
            // What it has buffered has been looked at.
            waiting.add(Some(link.as_fd()), PollFlags::IN);
        }
        let wake = self.session.deadlines.poll_deadline().unwrap_or(u64::MAX);
        let time = wake.min(next_progress).saturating_sub(now);
        waiting.wait(self.control, Duration::from_nanos(time))?;
        Ok(Ready {
            control: waiting.readable(control),
            faults: waiting.readable(faults),
            preempt: waiting.readable(preempt),
            main: waiting.readable(main),
            listener: waiting.readable(listener),
            pending: waiting.any_since(pending),
        })
    }

    /// Calls [`DestinationHandler::recovered`] once per recovery.
    fn report_recovery(&mut self) {
        let resumes = self.session.core.stats().resumes;
        if resumes != self.recoveries {
            self.recoveries = resumes;
            self.session.handler.recovered(&self.session.core);
        }
    }

    /// Writes what the main connection takes.
    fn flush(&mut self) {
        let session = &mut self.session;
        if session.core.outbox().is_empty() && session.deadlines.ending().is_none() {
            return;
        }
        let now = session.clock.now();
        let MainChannel::Up(main) = &mut self.main else {
            let outbox = session.core.outbox();
            if !outbox.is_empty() {
                // Requests are repeated after the recovery.
                outbox.clear();
                let error = io::ErrorKind::NotConnected.into();
                let error = RunError::link("writing", Channel::Main)(error);
                session.shut.failed(error);
            }
            return;
        };
        let may_write = main.write_error.is_none() && now >= self.no_write_before;
        let (outbox, sent) = (session.core.outbox(), &mut session.sent);
        if may_write && !outbox.is_empty() {
            buffer::compact(outbox, sent);
            let before = *sent;
            let flushed = buffer::flush(outbox, sent, &main.connection.link);
            if before != *sent {
                session.deadlines.handle(now, deadlines::Event::Moved);
            }
            match flushed {
                Ok(true) => session.core.written(now),
                Ok(false) => {}
                Err(error) => {
                    main.write_error = Some(RunError::link("writing", Channel::Main)(error));
                    session.deadlines.handle(now, deadlines::Event::WriteFailed);
                }
            }
        }
        let finished = session.core.phase() == Phase::Finished && session.core.outbox().is_empty();
        if finished && session.deadlines.ending().is_some() {
            session.shut = Shut::Sent;
            let reconnected = session.core.stats().pauses > 0;
            session
                .deadlines
                .handle(now, deadlines::Event::ShutSent { reconnected });
        }
    }

    fn notify(&mut self, event: deadlines::Event) {
        self.session
            .deadlines
            .handle(self.session.clock.now(), event);
    }

    /// What the source has to do next on the main connection.
    fn expected(&self) -> Expected {
        let MainChannel::Up(main) = &self.main else {
            return Expected::Stream;
        };
        let session = &self.session;
        if session.core.phase() == Phase::Recovering {
            let rival = session.acceptor.pending.has_rival(&session.core);
            Expected::Resume { rival }
        } else if self.session.deadlines.ending().is_some() {
            Expected::Close
        } else if main.connection.decoder.has_ended() && self.session.looks_for_preempt() {
            Expected::Preempt
        } else if main.may_have_ended {
            Expected::EndOfStream
        } else if self.session.seems_multifd() {
            Expected::FirstPage
        } else {
            Expected::Stream
        }
    }

    /// Carries out the timeout that is due. `drained`: nothing was left to read.
    fn check_deadlines(&mut self, now: u64, drained: bool) -> Result<(), RunError> {
        let expected = deadlines::Event::Expect(self.expected());
        let deadlines = &mut self.session.deadlines;
        deadlines.handle(now, expected);
        if drained {
            deadlines.handle(now, deadlines::Event::Drained);
        }
        let Some(timeout) = deadlines.poll(now) else {
            return Ok(());
        };
        match timeout {
            Timeout::WriteFailed => self.write_failed(),
            Timeout::Reconnect => {
                let cause = match &mut self.main {
                    MainChannel::Down { cause, .. } => cause.take(),
                    MainChannel::Up(_) => None,
                };
                let seconds = self.options.reconnect_timeout.as_secs();
                Err(RunError::Abandoned { seconds, cause })
            }
            Timeout::Resume { after } => {
                let seconds = Duration::from_nanos(after).as_secs();
                self.lost(Channel::Main, RunError::NotRecovered { seconds })
            }
            Timeout::Close => {
                let seconds = self.options.recovery_timeout.as_secs();
                self.lost(Channel::Main, RunError::Stalled { seconds })
            }
            Timeout::Preempt => {
                self.session.acceptor.give_up();
                self.check_preempt()
            }
            Timeout::FirstPage => Err(RunError::Multifd),
            Timeout::EndOfStream => {
                let seconds = Duration::from_nanos(deadlines::SILENCE).as_secs();
                Err(RunError::NoEnd { seconds })
            }
            Timeout::Linger | Timeout::Farewell => Ok(()),
        }
    }
}

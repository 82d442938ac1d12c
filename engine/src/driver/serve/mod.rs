//! The source's loop: links on one side, the source core and the memory that it serves
//! on the other.
//!
//! One thread serves everything. Urgent work comes first in every turn: the return path,
//! then the preempt channel, then at most one run of pages on the main channel. The loop
//! blocks only in poll(2) and in [`Connector::connect`]; while requests follow each other
//! closely, it looks for the next one without sleeping.
//!
//! A link that breaks after the switch is replaced, for as long as the options say;
//! before the switch the guest is still here, and the loop ends with an error. When to
//! reconnect, and when a destination counts as stalled or silent, is decided by policies
//! beside the core, which know no clock.

use std::os::fd::AsFd;
use std::time::Duration;

use retpath_codec::Message;
use retpath_codec::stream::Item;
use rustix::event::PollFlags;

use super::outbound::{Outbound, Pumped};
use super::{Clock, Control, RunError, Waiting};
use crate::Channel;
use crate::protocol::wide;
use crate::socket::Moved;
use crate::source::{
    BusyPoll, Next, Reconnect, SendQueue, Silence, SilenceAction, Source, SourcePhase, Stall,
};

mod api;
mod links;

pub use api::{Connector, ServeOptions, SourceHandler};
use links::Links;

/// How often the embedder is told of the progress, and the longest sleep.
const TICK: u64 = 100_000_000;

/// Bytes of the return path that are read at once: many requests.
const READ: usize = 4096;

/// Maximum number of runs of zeros that are written together with another run, while no
/// page is requested.
const ZERO_RUNS: u32 = 15;

/// Bytes of short runs of the background sweep that are sent in one turn, after the switch.
const SHORT_RUNS: u64 = 64 << 10;

/// Serves one migration to its end, or the rest of one if the core
/// [took it over](Source::taking_over).
///
/// # Errors
///
/// The destination failed or broke the protocol, the handler refuses, the link
/// stayed broken, or `control` stopped the loop. [`Source::guest_left`] says
/// where the guest is.
pub fn serve(
    core: &mut Source,
    handler: &mut dyn SourceHandler,
    connector: &mut dyn Connector,
    options: &ServeOptions,
    control: &Control,
) -> Result<(), RunError> {
    let page = core.blocks().iter().map(|block| block.page).max();
    let clock = Clock::new(control);
    let mut serving = Serving {
        core,
        handler,
        connector,
        control,
        clock,
        options,
        reconnect: Reconnect::first(clock.now(), nanos(options.connect_timeout)),
        stall: Stall::new(options.stall_timeout.map(nanos)),
        silence: Silence::new(options.offer),
        send_queue: SendQueue::new(&options.send_queue, page.unwrap_or(0)),
        busy_poll: BusyPoll::new(nanos(options.busy_poll)),
        next_progress: 0,
    };
    let main = serving.connect_main(true)?;
    serving.reconnect = Reconnect::new(nanos(options.reconnect_timeout));
    let mut links = serving.open(main)?;
    while let Err(error) = serving.run(&mut links) {
        match serving.replace(links, error)? {
            Some(new) => links = new,
            None => break,
        }
    }
    serving.handler.progress(serving.core);
    Ok(())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

struct Serving<'a> {
    core: &'a mut Source,
    handler: &'a mut dyn SourceHandler,
    connector: &'a mut dyn Connector,
    control: &'a Control,
    clock: Clock<'a>,
    options: &'a ServeOptions,
    reconnect: Reconnect,
    stall: Stall,
    silence: Silence,
    send_queue: SendQueue,
    busy_poll: BusyPoll,
    next_progress: u64,
}

impl Serving<'_> {
    /// Serves over these links until the migration is complete.
    fn run(&mut self, links: &mut Links) -> Result<(), RunError> {
        while self.core.phase() != SourcePhase::Completed {
            let now = self.now();
            if now >= self.next_progress {
                self.next_progress = now + TICK;
                self.handler.progress(self.core);
            }
            self.turn(links)?;
        }
        Ok(())
    }

    /// Sends what can be sent, and waits for more to do.
    fn turn(&mut self, links: &mut Links) -> Result<(), RunError> {
        if self.core.phase() == SourcePhase::Precopy {
            self.handler.precopy(self.core).map_err(RunError::Handler)?;
        }
        self.size_queue(links)?;
        let preempt = self.pump(links, Channel::Preempt)?;
        let main = self.pump(links, Channel::Main)?;
        if self.core.phase() == SourcePhase::Completing {
            // The end mark of an early preempt channel, which no event announces.
            self.pump(links, Channel::Preempt)?;
        }
        if self.core.phase() == SourcePhase::Completed
            || self.check_silence(links, main, preempt)?
        {
            return Ok(());
        }

        // When the next turn is due at the latest.
        let now = self.now();
        let pumped = [main, preempt].map(|pumped| match pumped {
            Pumped::More => Some(now),
            Pumped::Blocked => None,
            Pumped::Idle { until } => until,
        });
        let policies = [self.stall.poll_deadline(), self.silence.poll_deadline()];
        let all = pumped.into_iter().chain(policies).flatten();
        let until = all.fold(now + TICK, u64::min);
        let is_blocked = [main, preempt].map(Pumped::wants) != [PollFlags::empty(); 2];
        if !is_blocked && self.look_for_requests(links, now, until)? {
            return Ok(());
        }
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let back = waiting.add_link(Some(&links.main.link), PollFlags::IN | main.wants());
        let closing = match self.core.is_preempt_unproven() {
            true => PollFlags::RDHUP,
            false => PollFlags::empty(),
        };
        // Without a flag it would still wake the loop, again and again, once it is closed.
        let flags = preempt.wants() | closing;
        let link = links.preempt.as_ref().map(|out| &out.link);
        waiting.add_link(link.filter(|_| !flags.is_empty()), flags);
        waiting.wait(self.control, self.clock.until(until))?;
        let (control, back) = (waiting.readable(control), waiting.readable(back));

        if back {
            self.read_return_path(links)?;
        }
        self.check_preempt(links)?;
        if control && self.control.take_pause()? {
            return Err(RunError::Closed);
        }
        Ok(())
    }

    /// Sends on one channel until it is idle or blocked, or has sent a long run of the
    /// background sweep, or as many short ones.
    fn pump(&mut self, links: &mut Links, channel: Channel) -> Result<Pumped, RunError> {
        // Runs of zeros that have not been written: their records are short.
        let mut zero_runs = 0;
        let mut swept = 0;
        loop {
            let out = match channel {
                Channel::Main => &mut links.main,
                Channel::Preempt => match &mut links.preempt {
                    Some(out) => out,
                    None => return Ok(Pumped::Idle { until: None }),
                },
            };
            if zero_runs == 0 && !out.flush(self.handler.pages())? {
                return Ok(Pumped::Blocked);
            }
            let next = self.core.next(channel, self.clock.now(), &mut out.head);
            let done = match next {
                Next::Write => {
                    zero_runs = 0;
                    continue;
                }
                Next::Connect => {
                    self.connect_preempt(links)?;
                    continue;
                }
                Next::Urgent(run) | Next::Sweep(run) => {
                    let block = self.core.blocks().block(run.block)?;
                    let zeros = out.lay(run, block, self.handler.pages())?;
                    self.core.written(&run, zeros);
                    if matches!(next, Next::Urgent(_)) {
                        zero_runs = 0;
                        continue;
                    }
                    self.send_queue.swept(run.len);
                    let is_zero = zeros == run.len / run.page;
                    if is_zero && zero_runs < ZERO_RUNS && self.send_queue.is_quiet() {
                        zero_runs += 1;
                        continue;
                    }
                    swept += run.len;
                    if swept < SHORT_RUNS && self.core.guest_left() {
                        zero_runs = 0;
                        continue;
                    }
                    Pumped::More
                }
                Next::Wait { until } => Pumped::Idle { until },
                Next::Stop => Pumped::Idle { until: None },
            };
            let sent = out.flush(self.handler.pages())?;
            return Ok(if sent { done } else { Pumped::Blocked });
        }
    }

    /// Looks at the return path until something has come, until another time or wish, or
    /// until it is better to sleep. Returns whether something has come.
    fn look_for_requests(
        &mut self,
        links: &mut Links,
        mut now: u64,
        until: u64,
    ) -> Result<bool, RunError> {
        while now < until
            && self.busy_poll.is_active(now)
            && !self.control.has_wish()
            && self.control.runtime().spin()
        {
            if self.read_return_path(links)? {
                return Ok(true);
            }
            let before = std::mem::replace(&mut now, self.now());
            self.busy_poll.yielded(before, now);
        }
        Ok(false)
    }

    /// Reads the return path once; returns whether there was anything.
    fn read_return_path(&mut self, links: &mut Links) -> Result<bool, RunError> {
        let mut bytes = [0; READ];
        let moved = links.main.link.read(&mut bytes);
        let mut input = match moved.map_err(RunError::link("reading", Channel::Main))? {
            Moved::Bytes(size) => &bytes[..size],
            Moved::Later => return Ok(false),
            Moved::End => return Err(RunError::Closed),
        };
        links.read += wide(input.len());
        // Before the answer is handled, which would count an open channel as kept.
        self.check_preempt(links)?;
        let now = self.now();
        let requests = self.core.stats().requests;
        // A bitmap is progress before it is complete.
        let mut progress = self.core.recv_bitmap_limit() > 0;
        loop {
            match links.stream.next(&mut input) {
                Ok(Some(item)) => {
                    // Requests and PONGs can be repeated forever.
                    let repeats = matches!(
                        item,
                        Item::Message {
                            message: Message::ReqPages { .. }
                                | Message::ReqPagesId { .. }
                                | Message::Pong { .. },
                            ..
                        }
                    );
                    let before = (self.core.awaits(), self.core.is_loaded());
                    self.core.message(item, now)?;
                    let after = (self.core.awaits(), self.core.is_loaded());
                    progress |= !repeats || before != after;
                }
                Ok(None) => break,
                Err(error) => return Err(self.core.malformed(error).into()),
            }
            links.stream.limit_bitmap(self.core.recv_bitmap_limit());
        }
        if progress {
            self.stall.progress();
        }
        if self.core.stats().requests != requests {
            self.busy_poll.requested(now);
        }
        Ok(true)
    }

    /// Handles a destination that is silent or has stalled; returns whether there is
    /// more to do now.
    fn check_silence(
        &mut self,
        links: &mut Links,
        main: Pumped,
        preempt: Pumped,
    ) -> Result<bool, RunError> {
        let now = self.now();
        let early = matches!(self.core.phase(), SourcePhase::Fresh | SourcePhase::Precopy);
        let idle = matches!(main, Pumped::Idle { until: None });
        let blocked = matches!(main, Pumped::Blocked);
        let written = links.written();
        let unread = blocked || matches!(preempt, Pumped::Blocked);
        if self.stall.turn(now, written, idle && !early, unread) {
            let seconds = self.options.stall_timeout.map_or(0, |time| time.as_secs());
            return Err(RunError::Stalled { seconds });
        }
        let awaited = self.core.awaits().filter(|_| idle || blocked);
        let (moved, has_preempt) = (written + links.read, links.preempt.is_some());
        match self.silence.turn(now, awaited, moved, has_preempt) {
            None => return Ok(false),
            Some(SilenceAction::Report(suspicion)) => self.handler.suspects(suspicion),
            Some(SilenceAction::OpenPreempt(kind)) => {
                self.core.open_preempt(kind)?;
                match self.connect_preempt(links) {
                    Err(RunError::Channel(_)) => self.core.preempt_refused()?,
                    done => done?,
                }
            }
        }
        Ok(true)
    }

    fn connect_preempt(&mut self, links: &mut Links) -> Result<(), RunError> {
        let link = self.connect(Channel::Preempt)?;
        self.core.preempt_connected(self.now())?;
        links.preempt = Some(Outbound::new(Channel::Preempt, link));
        Ok(())
    }

    /// Detects that the destination has closed the preempt channel because its
    /// capability is off. If it has closed the main channel, too, the link is lost, and
    /// nothing is known of the capability.
    fn check_preempt(&mut self, links: &mut Links) -> Result<(), RunError> {
        let ended = |out: &Outbound| out.link.has_ended();
        if self.core.is_preempt_unproven()
            && links.preempt.as_ref().is_some_and(ended)
            && !ended(&links.main)
        {
            links.preempt = None;
            self.core.preempt_refused()?;
            self.handler.preempt_refused();
        }
        Ok(())
    }

    /// Limits how much may wait to be sent.
    fn size_queue(&mut self, links: &Links) -> Result<(), RunError> {
        let requests = self.core.stats().requests;
        let Some(size) = self.send_queue.limit(requests) else {
            return Ok(());
        };
        let set = links.main.link.limit_send_queue(size);
        set.map_err(RunError::link("limiting the send queue of", Channel::Main))
    }

    fn now(&self) -> u64 {
        self.clock.now()
    }
}

//! Connections: what arrives on them, and what happens when they end. Errors
//! are those that no new connection mends.

use std::io;
use std::time::Instant;

use retpath_codec::Rule;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoder, Event, Step};

use super::super::RunError;
use super::super::buffer::Inbox;
use super::sweep::{Run, Scatter};
use super::{LINGER, Receiving, SILENCE};
use crate::Channel;
use crate::blocks::BlockId;
use crate::destination::{Ending, Phase, Tail};
use crate::socket::{Link, Moved};

/// Bytes of a read that looks like a sweep's.
const SWEEP: usize = 32 * 1024;

/// One connection from the source.
pub(super) struct Inbound {
    pub(super) link: Link,
    pub(super) decoder: Decoder,
    pub(super) inbox: Inbox,
    /// Bytes that the decoder still needs.
    need: usize,
    mode: Mode,
    /// For rows; made when the first one comes.
    scatter: Option<Scatter>,
}

/// How the next read is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// As much as there is room for.
    Any,
    /// The rest of a record, so that a row can follow.
    Align,
    /// A row of a sweep's pages.
    Row,
}

impl Inbound {
    pub(super) fn new(link: Link, decoder: Decoder) -> Self {
        Self {
            link,
            decoder,
            inbox: Inbox::new(),
            need: 0,
            scatter: None,
            mode: Mode::Any,
        }
    }
}

impl Receiving<'_> {
    /// Sends what the return path has room for.
    pub(super) fn flush(&mut self) {
        let Some(main) = &self.main else {
            // Written for a link that is gone; recovery asks again.
            if self.core.phase() == Phase::Finished && !self.outbox.is_empty() {
                let error = io::ErrorKind::NotConnected.into();
                self.mute.get_or_insert((Instant::now(), error));
            }
            self.outbox.clear();
            return;
        };
        if !self.outbox.is_empty() && self.mute.is_none() {
            match self.outbox.flush(&main.link) {
                Ok(true) => self.core.written(self.clock.now()),
                Ok(false) => {}
                Err(error) => self.mute = Some((Instant::now(), error)),
            }
        }
        let finished = self.ending.is_some() && self.core.phase() == Phase::Finished;
        self.told |= finished && self.outbox.is_empty();
    }

    /// What cannot be written to is of no use, but what has arrived on it comes
    /// first: it may be all that a source has sent before it died. `quiet`:
    /// nothing is there to be read now.
    pub(super) fn unmute(&mut self, quiet: bool) -> Result<(), RunError> {
        let heard = |(since, _): &mut (Instant, _)| quiet || since.elapsed() >= LINGER;
        let Some((_, error)) = self.mute.take_if(heard) else {
            return Ok(());
        };
        let what = "writing";
        let error = RunError::Link { what, error };
        match self.core.phase() {
            Phase::Running | Phase::Recovering => self.lost(Channel::Main, error),
            // SHUT could not be written: the source may ask again.
            Phase::Finished if self.ending == Some(Ending::Postcopy) => {
                self.untold = Some(error);
                self.ended(Channel::Main)
            }
            Phase::Finished => Err(error),
            // In precopy, the source ends the link, too.
            _ => Ok(()),
        }
    }

    /// Reads a link once and handles what has arrived.
    pub(super) fn inbound(&mut self, channel: Channel) -> Result<(), RunError> {
        let slot = match channel {
            Channel::Main => &mut self.main,
            Channel::Preempt => &mut self.preempt,
        };
        let Some(mut inbound) = slot.take() else {
            return Ok(());
        };
        let done = self.read(channel, &mut inbound);
        // Put back first: losing a link looks at it.
        match channel {
            Channel::Main => self.main = Some(inbound),
            Channel::Preempt => self.preempt = Some(inbound),
        }
        match done {
            Ok(true) => Ok(()),
            Ok(false) => self.ended(channel),
            Err(error) => self.lost(channel, error),
        }
    }

    /// `false` at the end of the stream.
    fn read(&mut self, channel: Channel, inbound: &mut Inbound) -> Result<bool, RunError> {
        let moved = match &mut inbound.scatter {
            Some(scatter) if inbound.mode == Mode::Row => scatter.fill(&inbound.link),
            _ => {
                let exact = inbound.mode == Mode::Align;
                inbound.inbox.fill(&inbound.link, inbound.need, exact)
            }
        };
        let moved = moved.map_err(|error| RunError::Link {
            what: "reading",
            error,
        })?;
        let now = self.clock.now();
        match moved {
            Moved::Bytes(size) => {
                if channel == Channel::Main {
                    self.moved = Instant::now();
                }
                if inbound.mode == Mode::Row && self.row(channel, inbound, now)? {
                    return Ok(true);
                }
                self.decode(channel, inbound, now, size).map(|()| true)
            }
            Moved::Later => Ok(true),
            Moved::End => {
                if let Some(scatter) = &mut inbound.scatter {
                    scatter.spill(&mut inbound.inbox);
                }
                Ok(false)
            }
        }
    }

    /// Decodes what is in the inbox; `size` bytes of it are new.
    fn decode(
        &mut self,
        channel: Channel,
        inbound: &mut Inbound,
        now: u64,
        size: usize,
    ) -> Result<(), RunError> {
        let mut last = None;
        inbound.need = loop {
            match inbound.decoder.next(inbound.inbox.unread())? {
                Step::Need(need) => break need,
                Step::Event { event, size } => {
                    last = match event {
                        Event::Record(Record::Page { block, .. }) => Some(block.index()),
                        _ => None,
                    };
                    if channel == Channel::Main && matches!(event, Event::Eof) {
                        self.before_end()?;
                    }
                    self.event(channel, event, now)?;
                    inbound.inbox.consume(size);
                }
            }
        };
        // A large read that ends with a page looks like a sweep; so does the
        // rest of a page that came with one.
        let sweep = size >= SWEEP || inbound.mode == Mode::Align;
        inbound.mode = match inbound.inbox.unread().is_empty() {
            _ if !sweep || !self.core.is_listening() || !self.has_small_pages(last) => Mode::Any,
            true => Mode::Row,
            false => Mode::Align,
        };
        if inbound.mode == Mode::Row && inbound.scatter.is_none() {
            let page = usize::try_from(inbound.decoder.target_page()).unwrap_or(0);
            inbound.scatter = Some(Scatter::new(page));
        }
        Ok(())
    }

    /// Whether the block's host pages are target pages, each placed as it is.
    fn has_small_pages(&self, block: Option<BlockId>) -> bool {
        let blocks = self.core.blocks();
        block.is_some_and(|id| {
            blocks
                .block(id)
                .is_ok_and(|block| block.page == blocks.target())
        })
    }

    /// Places what has arrived of a row of pages; `false` if something else
    /// has come, which is in the inbox now.
    fn row(&mut self, channel: Channel, inbound: &mut Inbound, now: u64) -> Result<bool, RunError> {
        let Some(scatter) = &mut inbound.scatter else {
            return Ok(false);
        };
        let decoder = &mut inbound.decoder;
        let target = decoder.target_page();
        let mut run = Run::default();
        let mut on = true;
        while let Some((word, first)) = scatter.word() {
            let Some((block, offset)) = decoder.peek_continued_page(word) else {
                on = false;
                break;
            };
            if !scatter.advance() {
                break;
            }
            decoder.continued_page(word);
            let block = block.index();
            if run.count == 0 || block != run.block || offset != run.end(target) {
                self.place_run(channel, &run, scatter, now)?;
                run = Run {
                    block,
                    offset,
                    first,
                    count: 0,
                };
            }
            run.count += 1;
        }
        self.place_run(channel, &run, scatter, now)?;
        if !on {
            scatter.spill(&mut inbound.inbox);
        }
        Ok(on)
    }

    /// The peer has closed a link.
    fn ended(&mut self, channel: Channel) -> Result<(), RunError> {
        let slot = match channel {
            Channel::Main => &self.main,
            Channel::Preempt => &self.preempt,
        };
        let Some(inbound) = slot else { return Ok(()) };
        if let Err(error) = inbound.decoder.finish(inbound.inbox.unread()) {
            let error = match error.rule {
                Rule::CutShort { .. } => RunError::Closed,
                _ => error.into(),
            };
            return self.lost(channel, error);
        }
        let ended = inbound.decoder.has_ended() || self.ending.is_some();
        if channel == Channel::Main
            && !ended
            && let Err(error) = self.closed_in_device_state()
        {
            return self.lost(channel, error);
        }
        if self.core.end_of_stream(channel).is_err() || self.core.phase() == Phase::Paused {
            return self.lost(channel, RunError::Closed);
        }
        match channel {
            Channel::Main => {
                self.last = self.main.take().map(|main| main.decoder);
                self.since = Instant::now();
            }
            Channel::Preempt => self.preempt = None,
        }
        self.act()?;
        if channel == Channel::Main && self.core.phase() == Phase::Running {
            // A source that closes before it has seen SHUT hears no more
            // requests, whatever it still sends on the preempt channel.
            return self.lost(channel, RunError::Closed);
        }
        Ok(())
    }

    /// The peer has closed the main link inside the device state of a precopy
    /// stream without footers. This is the end if the description says so. If
    /// not, it may be: but the link of a source that was killed or has cancelled
    /// the migration closes in the same way.
    fn closed_in_device_state(&mut self) -> Result<(), RunError> {
        let tail = self.guest.device_state_tail().map_err(RunError::Guest)?;
        if tail != Tail::Whole {
            // A source that is done waits for SHUT before it closes.
            if self.core.has_return_path() {
                return Err(RunError::Closed);
            }
            if !self.options.accept_unproven_end {
                return Err(RunError::UnprovenEnd);
            }
        }
        self.event(Channel::Main, Event::Eof, self.clock.now())
    }

    /// Nothing comes. That is the end of a precopy migration without footers
    /// whose source waits for SHUT before it closes, if its stream looks like it.
    /// Behind the main channel's end, it is the end of a preempt channel that
    /// has gone without a word.
    pub(super) fn idle(&mut self) -> Result<(), RunError> {
        let Some(main) = &self.main else {
            return Ok(());
        };
        let ended = main.decoder.has_ended() && self.ending.is_none();
        if ended && self.preempt.is_none() && self.moved.elapsed() >= SILENCE {
            // None of the pending connections is the source's preempt channel.
            self.lobby.clear();
        }
        if ended && self.lacks_preempt() {
            return match self.core.end_of_stream(Channel::Preempt) {
                Ok(()) => Ok(()),
                Err(_) => self.lost(Channel::Preempt, RunError::Closed),
            };
        }
        // The first questions cost nothing.
        let waits = self.core.has_return_path() && self.ending.is_none();
        if !waits || main.decoder.has_ended() || main.decoder.finish(&[]).is_err() {
            return Ok(());
        }
        match self.guest.device_state_tail().map_err(RunError::Guest)? {
            Tail::Whole => self.event(Channel::Main, Event::Eof, self.clock.now()),
            Tail::Unclear if self.idle.get_or_insert_with(Instant::now).elapsed() >= SILENCE => {
                let seconds = SILENCE.as_secs();
                Err(RunError::NoEnd { seconds })
            }
            Tail::Unclear | Tail::Open => Ok(()),
        }
    }

    /// Drops both links; postcopy waits for new ones. After an error that
    /// reconnecting cannot recover they stay open, so that SHUT(1) can be sent.
    pub(super) fn lost(&mut self, channel: Channel, error: RunError) -> Result<(), RunError> {
        // What is broken at this end, a new link does not mend.
        let mendable = match &error {
            RunError::Destination(error) => error.is_peer_fault(),
            other => other.is_link(),
        };
        let is_over = self.ending == Some(Ending::Postcopy);
        let lost = !mendable || self.core.link_lost(channel).is_err();
        if lost || !is_over && self.core.phase() != Phase::Paused {
            return Err(error);
        }
        if let Some(main) = self.main.take() {
            main.link.shut_down();
            // What never got as far as that has nothing to say about the next.
            if self.last.is_none() || self.core.stats().resumes != self.resumes {
                self.last = Some(main.decoder);
            }
        }
        if let Some(preempt) = self.preempt.take() {
            preempt.link.shut_down();
        }
        self.mute = None;
        self.outbox.clear();
        if is_over {
            // Nothing is lost any more. The source may come back for SHUT.
            self.untold.get_or_insert(error);
            self.since = Instant::now();
            return Ok(());
        }
        self.since = Instant::now();
        self.guest.broken(&self.core, &error);
        self.cause = Some(Box::new(error));
        Ok(())
    }
}

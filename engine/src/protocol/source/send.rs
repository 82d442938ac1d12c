//! Decides what is sent next, phase by phase.

use retpath_codec::BlockName;
use retpath_codec::command::Command;
use retpath_codec::forward::write;
use retpath_codec::wire::value::PING_AFTER_PACKAGE;

use crate::Channel;

use super::pages::PageRun;
use super::preempt::Connection;
use super::state::{Guest, Rest, SourcePhase};
use super::{Next, Source, framing};
use crate::blocks::{BlockId, Span};
use crate::release::Preempt;

/// How long a section of `ram` stays open at most, in nanoseconds; as in QEMU, so that
/// sections have the usual size.
const SECTION_TIME: u64 = 50_000_000;

const IDLE: Next = Next::Wait { until: None };

impl Source {
    pub(super) fn next_on(&mut self, channel: Channel, now: u64, out: &mut Vec<u8>) -> Next {
        match channel {
            Channel::Main => {
                if let Some(next) = self.prepare_preempt(now, out) {
                    return next;
                }
            }
            Channel::Preempt => self.link.preempt_busy = false,
        }
        match (self.phase, channel) {
            (SourcePhase::Paused | SourcePhase::Completed | SourcePhase::Failed, _) => Next::Stop,
            (SourcePhase::Fresh, Channel::Main) => {
                framing::head(&self.config, &self.blocks, out);
                self.config.early_state = Vec::new();
                self.phase = SourcePhase::Precopy;
                Next::Write
            }
            (SourcePhase::Precopy, Channel::Main) => {
                self.close_old_section(now, out);
                self.sweep(now, out)
            }
            (SourcePhase::Switching, Channel::Main) => self.switching(out),
            (SourcePhase::Postcopy, _) => self.postcopy(channel, now, out),
            // Nothing depends on whether the destination reads it.
            (SourcePhase::Completing, Channel::Preempt)
                if self.config.preempt == Some(Preempt::Early) && self.is_connected() =>
            {
                self.link.connection = Connection::Ended;
                write::eos(out);
                Next::Write
            }
            (SourcePhase::Recovering, Channel::Main) => self.recover(out),
            _ => IDLE,
        }
    }

    fn switching(&mut self, out: &mut Vec<u8>) -> Next {
        if !self.has_what_the_switch_needs() {
            return IDLE;
        }
        let mut at = match self.link.discards {
            Some(at) => at,
            None => self.begin_switch(out),
        };
        let all = framing::discards(&self.dirty, &mut at, &self.blocks, out);
        self.link.discards = Some(at);
        if all {
            let device_state = std::mem::take(&mut self.link.device_state);
            framing::package(&self.config, &device_state, out);
            self.guest = Guest::Sent;
            self.phase = SourcePhase::Postcopy;
        }
        Next::Write
    }

    fn begin_switch(&mut self, out: &mut Vec<u8>) -> (BlockId, u64) {
        self.close_section(out);
        if self.config.switchover_start {
            framing::command(Command::SwitchoverStart, out);
        }
        self.dirty.fold(&self.blocks);
        if self.dirty.is_empty() {
            // A QEMU destination needs a discard to be ready for LISTEN.
            let (block, offset, len) = (0, 0, 1);
            self.dirty.add(Span { block, offset, len });
        }
        self.stats.discarded += self.dirty.bytes() / self.blocks.target();
        self.link.main.last = None;
        self.link.cursor = (0, 0);
        (0, 0)
    }

    fn postcopy(&mut self, channel: Channel, now: u64, out: &mut Vec<u8>) -> Next {
        let main = channel == Channel::Main;
        let takes_requests = main != self.has_preempt();
        if main {
            self.close_old_section(now, out);
        }
        if let Some(mut rest) = self.link.channel(channel).rest {
            rest.urgent |= takes_requests && !self.queue.wanted.is_empty();
            if !rest.urgent
                && let Err(until) = self.pace.ready(now)
            {
                return Next::Wait { until: Some(until) };
            }
            return self.send(channel, rest, now, out);
        }
        if takes_requests && let Some(span) = self.wanted(now) {
            return self.send(channel, Rest { span, urgent: true }, now, out);
        }
        if !main {
            return IDLE;
        }
        let ahead = self.predicted(now, out);
        if let Some(run) = ahead.or_else(|| self.ordered(now, out)) {
            return Next::Sweep(run);
        }
        if !self.dirty.is_empty() {
            return self.sweep(now, out);
        }
        self.close_section(out);
        let loaded = self.is_loaded() || !self.config.ping_loaded;
        if !loaded || self.link.preempt_busy {
            return IDLE;
        }
        framing::end(&self.config, out);
        self.phase = SourcePhase::Completing;
        Next::Write
    }

    fn recover(&mut self, out: &mut Vec<u8>) -> Next {
        if self.link.recovery.asked.is_empty() {
            self.link.recovery.ask(&self.blocks);
            for block in self.blocks.iter() {
                let block = block.name.name();
                framing::command(Command::RecvBitmap { block }, out);
            }
            return Next::Write;
        }
        let preempt = self.config.preempt.is_none() || self.is_connected();
        if !preempt || !self.link.recovery.is_complete() {
            return IDLE;
        }
        self.phase = SourcePhase::Resuming;
        framing::command(Command::PostcopyResume, out);
        if self.config.probe {
            framing::ping(PING_AFTER_PACKAGE, out);
        }
        Next::Write
    }

    /// The next run of the background sweep, unless the bandwidth limit delays it.
    fn sweep(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if self.dirty.is_empty() {
            self.close_section(out);
            return IDLE;
        }
        let held = match self.phase {
            SourcePhase::Precopy => Ok(()),
            _ => self.held(now),
        };
        if let Err(until) = held.and_then(|()| self.pace.ready(now)) {
            // An open section is closed in time, not at once: pages that are requested
            // meanwhile then need no section, nor write, of their own.
            let closing = self
                .link
                .section
                .map(|opened| opened.saturating_add(SECTION_TIME));
            let until = closing.map_or(until, |closing| until.min(closing));
            return Next::Wait { until: Some(until) };
        }
        let from = self.link.hint.take().unwrap_or(self.link.cursor);
        let Some(span) = self.dirty.take(from, self.config.run) else {
            return IDLE;
        };
        self.link.cursor = (span.block, span.end());
        self.queue.wanted.remove(span);
        *match self.phase {
            SourcePhase::Precopy => &mut self.stats.precopy,
            _ => &mut self.stats.sweep,
        } += span.len / self.dirty.unit(span.block);
        let urgent = false;
        self.send(Channel::Main, Rest { span, urgent }, now, out)
    }

    /// The next run of pages that are likely to be requested soon.
    ///
    /// They are not delayed by the bandwidth limit, because requests for them would not be,
    /// but charged to it: it gets back what later requests confirm. On the preempt channel
    /// they would delay requested pages. Like the sweep they are held back while they
    /// would hide what the guest needs.
    fn predicted(&mut self, now: u64, out: &mut Vec<u8>) -> Option<PageRun> {
        if !self.link.streams.is_open() || self.held(now).is_err() {
            return None;
        }
        let span = self.link.streams.take(&self.dirty, self.config.run)?;
        self.dirty.remove(span);
        self.queue.wanted.remove(span);
        let pages = span.len / self.dirty.unit(span.block);
        self.stats.sweep += pages;
        self.stats.predicted += pages;
        self.pace.take(span.len, now);
        let urgent = false;
        Some(self.cut(Channel::Main, Rest { span, urgent }, now, out))
    }

    /// The next requested host page.
    fn wanted(&mut self, now: u64) -> Option<Span> {
        let (span, since) = self.queue.pop()?;
        self.dirty.remove(span);
        self.stats.demand += 1;
        if let Some(since) = since {
            self.stats.latency.source.record(now.saturating_sub(since));
        }
        // As in QEMU: the sweep continues after the last request or, with a preempt
        // channel, after the first one that it has not followed yet.
        let end = (span.block, span.end());
        match self.config.preempt {
            Some(_) => *self.link.hint.get_or_insert(end),
            None => *self.link.hint.insert(end),
        };
        Some(span)
    }

    /// Hands out as much of `rest` as a run may hold, charged to the bandwidth unless it
    /// is urgent.
    fn send(&mut self, channel: Channel, rest: Rest, now: u64, out: &mut Vec<u8>) -> Next {
        let mut run = self.cut(channel, rest, now, out);
        if rest.urgent {
            return Next::Urgent(run);
        }
        self.pace.take(run.len, now);
        run.paced = true;
        Next::Sweep(run)
    }

    /// Cuts off as much of `rest` as a run may hold: on the main channel in a section of
    /// `ram`.
    pub(super) fn cut(
        &mut self,
        channel: Channel,
        Rest { mut span, urgent }: Rest,
        now: u64,
        out: &mut Vec<u8>,
    ) -> PageRun {
        let page = self.blocks.target();
        let len = span.len.min(self.config.run / page * page);
        let state = self.link.channel(channel);
        let run = PageRun {
            channel,
            block: span.block,
            offset: span.offset,
            len,
            page,
            named: state.last.replace(span.block) != Some(span.block),
            paced: false,
        };
        span.offset += len;
        span.len -= len;
        state.rest = (span.len > 0).then_some(Rest { span, urgent });
        match channel {
            Channel::Preempt => self.link.preempt_busy = true,
            Channel::Main if self.link.section.is_none() => {
                self.link.section = Some(now);
                write::part(self.config.section, out);
            }
            Channel::Main => {}
        }
        run
    }

    /// Closes a section of `ram` that has been open for [`SECTION_TIME`]. Not inside a
    /// host page: QEMU before 7.0 needs a host page within one section.
    fn close_old_section(&mut self, now: u64, out: &mut Vec<u8>) {
        let old = |opened| now.saturating_sub(opened) >= SECTION_TIME;
        if self.link.main.rest.is_none() && self.link.section.is_some_and(old) {
            self.close_section(out);
        }
    }

    pub(super) fn close_section(&mut self, out: &mut Vec<u8>) {
        if self.link.section.take().is_some() {
            framing::end_section(&self.config, out);
        }
    }
}

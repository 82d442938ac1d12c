//! Decides what is sent next, phase by phase.

use retpath_codec::forward::write;

use crate::Channel;

use super::channel_state::Rest;
use super::page_set::Part;
use super::pages::PageRun;
use super::phase::{Guest, SourcePhase};
use super::preempt::Connection;
use super::{Next, Source, discard, framing};
use crate::blocks::BlockId;
use crate::release::Preempt;

/// How long a section of `ram` stays open at most, in nanoseconds; as in QEMU, so that
/// sections have the usual size.
const SECTION_TIME: u64 = 50_000_000;

const IDLE: Next = Next::Wait { until: None };

impl Source {
    pub(super) fn next_main(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if let Some(next) = self.prepare_preempt(now, out) {
            return next;
        }
        match self.phase {
            SourcePhase::Fresh => {
                framing::head(&self.config, &self.blocks, out);
                self.phase = SourcePhase::Precopy;
                Next::Write
            }
            SourcePhase::Precopy => {
                self.close_old_section(now, out);
                self.sweep(now, out)
            }
            SourcePhase::Switching => self.switching(out),
            SourcePhase::Postcopy => self.postcopy(now, out),
            SourcePhase::Recovering => self.recover(out),
            SourcePhase::Completing | SourcePhase::Resuming => IDLE,
            SourcePhase::Paused | SourcePhase::Completed | SourcePhase::Failed => Next::Stop,
        }
    }

    pub(super) fn next_preempt(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        self.link.preempt_busy = false;
        match self.phase {
            SourcePhase::Paused | SourcePhase::Completed | SourcePhase::Failed => Next::Stop,
            // Nothing depends on whether the destination reads it.
            SourcePhase::Completing
                if self.config.preempt == Some(Preempt::Early)
                    && (self.has_preempt() || self.is_preempt_unproven()) =>
            {
                self.link.connection = Connection::Ended;
                write::eos(out);
                Next::Write
            }
            SourcePhase::Postcopy if self.has_preempt() => {
                if let Some(rest) = self.link.preempt.rest {
                    return Next::Urgent(self.piece(Channel::Preempt, rest));
                }
                match self.wanted(now) {
                    Some(part) => Next::Urgent(self.hand_out(Channel::Preempt, part, true)),
                    None => IDLE,
                }
            }
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
        let all = discard::write(&self.dirty, &mut at, &self.blocks, out);
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
            framing::switchover_start(out);
        }
        self.dirty.fold(&self.blocks);
        if self.dirty.is_empty() {
            // A QEMU destination needs a discard to be ready for LISTEN.
            self.dirty.add(Part {
                block: 0,
                offset: 0,
                len: 1,
            });
        }
        self.stats.discarded += self.dirty.bytes() / self.blocks.target();
        self.link.main.last = None;
        self.link.cursor = (0, 0);
        (0, 0)
    }

    fn postcopy(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        self.close_old_section(now, out);
        let shared = !self.has_preempt();
        if let Some(rest) = self.link.main.rest {
            let urgent = rest.urgent || (shared && !self.queue.is_empty());
            if !urgent && let Err(until) = self.pace.ready(now) {
                return Next::Wait { until: Some(until) };
            }
            let run = self.piece(Channel::Main, rest);
            return self.on_main(run, urgent, now, out);
        }
        if shared && let Some(part) = self.wanted(now) {
            let run = self.hand_out(Channel::Main, part, true);
            return self.on_main(run, true, now, out);
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
        if !self.link.recovery.has_asked() {
            self.link.recovery.ask(&self.blocks);
            framing::ask_bitmaps(&self.blocks, out);
            return Next::Write;
        }
        let connected = self.has_preempt() || self.is_preempt_unproven();
        if !self.link.recovery.is_complete() || (self.config.preempt.is_some() && !connected) {
            return IDLE;
        }
        self.phase = SourcePhase::Resuming;
        framing::resume(&self.config, out);
        Next::Write
    }

    /// The next run of the background sweep, unless the bandwidth limit delays it.
    fn sweep(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if self.dirty.is_empty() {
            self.close_section(out);
            return IDLE;
        }
        if let Err(until) = self.pace.ready(now) {
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
        let Some(part) = self.dirty.take(from, self.config.run) else {
            return IDLE;
        };
        self.link.cursor = (part.block, part.end());
        self.queue.forget(part);
        let run = self.hand_out(Channel::Main, part, false);
        self.on_main(run, false, now, out)
    }

    /// The next requested host page.
    fn wanted(&mut self, now: u64) -> Option<Part> {
        let (part, since) = self.queue.pop()?;
        self.dirty.remove(part);
        if let Some(since) = since {
            self.stats.latency.source.record(now.saturating_sub(since));
        }
        // As in QEMU: the sweep continues after the last request or, with a preempt
        // channel, after the first one that it has not followed yet.
        let end = (part.block, part.end());
        match self.config.preempt {
            Some(_) => *self.link.hint.get_or_insert(end),
            None => *self.link.hint.insert(end),
        };
        Some(part)
    }

    /// Counts pages and hands them out, or the first piece of a large host page.
    fn hand_out(&mut self, channel: Channel, part: Part, urgent: bool) -> PageRun {
        let count = match self.phase {
            SourcePhase::Precopy => &mut self.stats.precopy,
            _ if urgent => &mut self.stats.demand,
            _ => &mut self.stats.sweep,
        };
        *count += part.len / self.dirty.unit(part.block);
        self.piece(channel, Rest { part, urgent })
    }

    /// Hands out as much as a run may hold.
    fn piece(&mut self, channel: Channel, Rest { part, urgent }: Rest) -> PageRun {
        let page = self.blocks.target();
        let len = part.len.min(self.config.run / page * page);
        let left = Part {
            offset: part.offset + len,
            len: part.len - len,
            ..part
        };
        let state = self.link.channel(channel);
        state.rest = (left.len > 0).then_some(Rest { part: left, urgent });
        let named = state.last.replace(part.block) != Some(part.block);
        self.link.preempt_busy |= channel == Channel::Preempt;
        PageRun {
            channel,
            block: part.block,
            offset: part.offset,
            len,
            page,
            named,
            paced: false,
        }
    }

    /// Puts a run into a section of `ram` and charges it to the bandwidth.
    fn on_main(&mut self, mut run: PageRun, urgent: bool, now: u64, out: &mut Vec<u8>) -> Next {
        if self.link.section.is_none() {
            self.link.section = Some(now);
            framing::open_section(&self.config, out);
        }
        if urgent {
            return Next::Urgent(run);
        }
        self.pace.take(run.len);
        run.paced = true;
        Next::Sweep(run)
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

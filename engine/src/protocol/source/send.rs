//! Decides what is sent next, phase by phase.

use crate::Channel;

use super::channel_state::{Activity, Heard, OpenPage};
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

/// How long a new main link must last before an early preempt channel is connected.
///
/// A QEMU that has not noticed the end of the old link closes new ones at once. If it
/// closed the main link, it would take the preempt channel for it. It answers nothing
/// before the preempt channel is connected, so only time can tell.
const EARLY_PREEMPT_DELAY: u64 = 250_000_000;

const IDLE: Next = Next::Wait { until: None };

impl Source {
    pub(super) fn next_main(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        match self.phase {
            SourcePhase::Fresh => self.begin(out),
            SourcePhase::Precopy => self.precopy(now, out),
            SourcePhase::Switching => self.switching(now, out),
            SourcePhase::Postcopy => self.postcopy(now, out),
            SourcePhase::Recovering => self.recover(now, out),
            SourcePhase::Completing | SourcePhase::Resuming => IDLE,
            SourcePhase::Paused | SourcePhase::Completed | SourcePhase::Failed => Next::Stop,
        }
    }

    pub(super) fn next_preempt(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if self.link.preempt.activity == Activity::Busy {
            self.link.preempt.activity = Activity::Idle;
        }
        match self.phase {
            SourcePhase::Paused | SourcePhase::Completed | SourcePhase::Failed => Next::Stop,
            _ if self.ends_preempt() => {
                self.link.preempt.activity = Activity::Ended;
                self.link.connection = Connection::Up;
                framing::end_preempt(out);
                Next::Write
            }
            SourcePhase::Postcopy if self.has_preempt() => {
                if let Some(run) = self.rest_of_page(Channel::Preempt) {
                    return Next::Urgent(run);
                }
                match self.wanted(now) {
                    Some(part) => Next::Urgent(self.hand_out(Channel::Preempt, part, true)),
                    None => IDLE,
                }
            }
            _ => IDLE,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Next {
        if self.config.preempt == Some(Preempt::Early) && self.connect() {
            return Next::Connect;
        }
        framing::head(&self.config, &self.blocks, out);
        self.phase = SourcePhase::Precopy;
        Next::Write
    }

    fn precopy(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if self.link.heard >= Heard::Start && self.connect() {
            return Next::Connect;
        }
        if let Some(next) = self.prove_preempt(now, out) {
            return next;
        }
        self.close_old_section(now, out);
        if self.dirty.is_empty() {
            self.close_section(out);
            return IDLE;
        }
        self.sweep(now, out)
    }

    fn switching(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if self.link.heard >= Heard::Start && self.connect() {
            return Next::Connect;
        }
        if let Some(next) = self.prove_preempt(now, out) {
            return next;
        }
        if !self.has_what_the_switch_needs() {
            return IDLE;
        }
        let Some(mut switch) = self.link.switch.take() else {
            return IDLE;
        };
        let mut at = switch.discards.unwrap_or_else(|| self.begin_switch(out));
        if discard::write(&self.dirty, &mut at, &self.blocks, out) {
            framing::package(&self.config, &switch.device_state, out);
            self.guest = Guest::Sent;
            self.phase = SourcePhase::Postcopy;
        } else {
            switch.discards = Some(at);
            self.link.switch = Some(switch);
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
        if let Some(open) = self.link.main.open {
            let urgent = open.urgent || (!self.has_preempt() && !self.queue.is_empty());
            if !urgent && let Err(until) = self.pace.ready(now) {
                return Next::Wait { until: Some(until) };
            }
            if let Some(run) = self.rest_of_page(Channel::Main) {
                return self.on_main(run, urgent, now, out);
            }
        }
        if !self.has_preempt()
            && let Some(part) = self.wanted(now)
        {
            let run = self.hand_out(Channel::Main, part, true);
            return self.on_main(run, true, now, out);
        }
        if !self.dirty.is_empty() {
            return self.sweep(now, out);
        }
        self.close_section(out);
        let loaded = self.is_loaded() || !self.config.ping_loaded;
        if !loaded || self.link.preempt.activity == Activity::Busy {
            return IDLE;
        }
        framing::end(&self.config, out);
        self.phase = SourcePhase::Completing;
        Next::Write
    }

    fn recover(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
        if self.config.preempt == Some(Preempt::Early) && self.link.connection == Connection::Down {
            let due = self.link.since.saturating_add(EARLY_PREEMPT_DELAY);
            if now < due {
                return Next::Wait { until: Some(due) };
            }
            self.connect();
            return Next::Connect;
        }
        if !self.link.recovery.has_asked() {
            self.link.recovery.ask(&self.blocks);
            framing::ask_bitmaps(&self.blocks, out);
            return Next::Write;
        }
        if !self.link.recovery.is_complete() {
            return IDLE;
        }
        if self.connect() {
            return Next::Connect;
        }
        if self.config.preempt.is_some() && !self.is_connected() {
            return IDLE;
        }
        self.phase = SourcePhase::Resuming;
        framing::resume(&self.config, out);
        Next::Write
    }

    /// Whether the preempt channel is to be connected now.
    fn connect(&mut self) -> bool {
        let now = self.config.preempt.is_some() && self.link.connection == Connection::Down;
        if now {
            self.link.connection = Connection::Connecting { offered: false };
        }
        now
    }

    /// The next run of the background sweep, unless the bandwidth limit delays it.
    fn sweep(&mut self, now: u64, out: &mut Vec<u8>) -> Next {
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

    /// Hands out pages, or the first piece of a host page that is larger than a run.
    fn hand_out(&mut self, channel: Channel, part: Part, urgent: bool) -> PageRun {
        let count = match self.phase {
            SourcePhase::Precopy => &mut self.stats.precopy,
            _ if urgent => &mut self.stats.demand,
            _ => &mut self.stats.sweep,
        };
        *count += part.len / self.dirty.unit(part.block);
        if part.len <= self.config.run {
            return self.run(channel, part);
        }
        let first = Part {
            len: self.piece(),
            ..part
        };
        self.link.channel(channel).open = Some(OpenPage {
            part,
            at: first.end(),
            urgent,
        });
        self.run(channel, first)
    }

    /// The next piece of a host page that is partly handed out.
    fn rest_of_page(&mut self, channel: Channel) -> Option<PageRun> {
        let piece = self.piece();
        let open = self.link.channel(channel).open.as_mut()?;
        let len = piece.min(open.part.end() - open.at);
        let part = Part {
            block: open.part.block,
            offset: open.at,
            len,
        };
        open.at += len;
        if open.at == open.part.end() {
            self.link.channel(channel).open = None;
        }
        Some(self.run(channel, part))
    }

    fn run(&mut self, channel: Channel, part: Part) -> PageRun {
        let page = self.blocks.target();
        let state = self.link.channel(channel);
        state.activity = Activity::Busy;
        let named = state.last.replace(part.block) != Some(part.block);
        let Part { block, offset, len } = part;
        PageRun {
            channel,
            block,
            offset,
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
        if self.link.main.open.is_none() && self.link.section.is_some_and(old) {
            self.close_section(out);
        }
    }

    pub(super) fn close_section(&mut self, out: &mut Vec<u8>) {
        if self.link.section.take().is_some() {
            framing::end_section(&self.config, out);
        }
    }

    /// Maximum size of a run in bytes: whole target pages.
    fn piece(&self) -> u64 {
        self.config.run / self.blocks.target() * self.blocks.target()
    }
}

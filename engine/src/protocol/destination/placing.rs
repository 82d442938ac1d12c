//! Pages that are handed out for placement, until they count as received.
//!
//! Mirrors `postcopy-ram.c:postcopy_place_page` and what
//! `postcopy-ram.c:qemu_ufd_copy_ioctl` does after it.

use super::assembly::Assembly;
use super::{Cause, Destination, Error, ErrorKind, EventClass, MAX_RUNS};
use crate::Channel;
use crate::blocks::Span;

/// The pages of one channel that are not received yet.
#[derive(Debug, Default)]
pub(super) struct ChannelState {
    pub(super) assembly: Assembly,
    pub(super) runs: Vec<Run>,
}

/// Whole host pages that are handed out and not placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) span: Span,
    /// When its last byte arrived.
    complete: u64,
    /// Whether it consists of zeros.
    zero: bool,
}

impl Destination {
    /// Takes a range of whole host pages that arrived on this channel at `now`, and
    /// that the caller places without showing them as events. Up to
    /// [`MAX_RUNS`] ranges may await [`Destination::placed`].
    ///
    /// # Errors
    ///
    /// As for the same pages as events.
    pub fn run_of_pages(&mut self, channel: Channel, span: Span, now: u64) -> Result<(), Error> {
        self.guard(Some(channel), |core| {
            core.expect(channel, EventClass::Urgent, "PAGE")
                .map_err(|kind| core.at(span.block, span.offset, kind))?;
            let page = core
                .blocks
                .block(span.block)
                .map_err(ErrorKind::Block)?
                .page;
            core.check(span, page)?;
            core.expect_new(channel, span, span)?;
            core.hand_out(channel, span, now, false);
            Ok(())
        })
    }

    /// Reports that a part from the start of a range that was handed out on this channel is
    /// in place, and that the threads waiting for it have been woken. `present` of
    /// its bytes were there before (`EEXIST`) and were left unchanged.
    ///
    /// # Errors
    ///
    /// It was not handed out: an error of the caller.
    pub fn placed(
        &mut self,
        channel: Channel,
        span: Span,
        present: u64,
        now: u64,
    ) -> Result<(), Error> {
        self.guard(Some(channel), |core| {
            core.receive(channel, span, present, now)?;
            core.settle()
        })
    }

    fn receive(
        &mut self,
        channel: Channel,
        span: Span,
        present: u64,
        now: u64,
    ) -> Result<(), Cause> {
        let Span { block, offset, len } = span;
        let page = self.blocks.block(block).map_or(0, |block| block.page);
        let runs = &mut self.channels[channel.index()].runs;
        let fits = |run: &Run| {
            let start = (run.span.block, run.span.offset) == (block, offset);
            start && len > 0 && len <= run.span.len && len.is_multiple_of(page)
        };
        let Some(at) = runs.iter().position(fits) else {
            let kind = ErrorKind::Misuse("the range was not handed out for placement");
            return Err(self.at(block, offset, kind));
        };
        let run = &mut runs[at];
        let Run { complete, zero, .. } = *run;
        run.span.offset += len;
        run.span.len -= len;
        if run.span.len == 0 {
            runs.swap_remove(at);
        }

        let count = len / page;
        for at in self.pages.requested_in(span) {
            let latency = &mut self.stats.latency;
            self.requests.served((block, at), complete, now, latency);
        }
        let demand = self.pages.receive(span);
        self.stats.demand += demand;
        self.stats.sweep += count - demand;
        if zero {
            self.stats.zero += count;
        }
        self.stats.present += (present / page).min(count);
        Ok(())
    }

    /// Checks that host pages, of which a part came on this channel, are allowed and new.
    pub(super) fn expect_new(
        &mut self,
        channel: Channel,
        span: Span,
        part: Span,
    ) -> Result<(), Cause> {
        let state = &self.channels[channel.index()];
        let other = &self.channels[1 - channel.index()];
        // A whole page does not continue the open one.
        let open = state.assembly.open();
        let kind = if !self.phase.is_live() {
            ErrorKind::OutOfTurn { what: "a page" }
        } else if self.pages.any_received(span) || self.is_placing(span) {
            self.stats.duplicates += 1;
            ErrorKind::Violation("the page was sent twice")
        } else if state.runs.len() >= MAX_RUNS {
            ErrorKind::Misuse("too many ranges are already being placed")
        } else if let Some(open) = open.filter(|open| *open != span || part == span) {
            let open = open.offset;
            ErrorKind::Interleaved { open }
        } else if other
            .assembly
            .open()
            .is_some_and(|open| open.overlaps(span))
        {
            ErrorKind::Violation("the host page is split across both channels")
        } else {
            return Ok(());
        };
        Err(self.at(span.block, span.offset, kind))
    }

    /// The ranges that are handed out and not placed.
    pub(super) fn runs(&self) -> impl Iterator<Item = Span> {
        let runs = self.channels.iter().flat_map(|state| &state.runs);
        runs.map(|run| run.span)
    }

    /// Whether a part of a range is handed out and not placed.
    pub(super) fn is_placing(&self, span: Span) -> bool {
        self.runs().any(|run| run.overlaps(span))
    }

    /// Hands out a range for placement that passed [`Self::expect_new`].
    pub(super) fn hand_out(&mut self, channel: Channel, span: Span, complete: u64, zero: bool) {
        let runs = &mut self.channels[channel.index()].runs;
        runs.push(Run {
            span,
            complete,
            zero,
        });
    }
}

//! Pages that are handed out for placement, until they count as received.
//!
//! Mirrors `postcopy-ram.c:postcopy_place_page` and what
//! `postcopy-ram.c:qemu_ufd_copy_ioctl` does after it.

use super::assembly::{Run, Span};
use super::ram::index;
use super::{Cause, Destination, Error, ErrorKind, EventClass};
use crate::Channel;
use crate::blocks::BlockId;

impl Destination {
    /// Takes `len` bytes of whole host pages that arrived on this channel at `now`, and
    /// that the caller places without showing them as events. Up to
    /// [`MAX_RUNS`](super::MAX_RUNS) ranges may await [`Destination::placed`].
    ///
    /// # Errors
    ///
    /// As for the same pages as events.
    pub fn run_of_pages(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        len: u64,
        now: u64,
    ) -> Result<(), Error> {
        let span = Span { block, offset, len };
        self.announce(channel, span, now)
            .map_err(|cause| self.give_up(Some(channel), cause))
    }

    fn announce(&mut self, channel: Channel, span: Span, now: u64) -> Result<(), Cause> {
        let Span { block, offset, len } = span;
        let cause = |what| self.at(block, offset, what);
        self.expect(channel, EventClass::Urgent, "PAGE")
            .map_err(cause)?;
        let page = match self.blocks.block(block) {
            Ok(block) => block.page,
            Err(error) => return Err(cause(ErrorKind::Block(error))),
        };
        self.blocks
            .check(block, offset, len, page)
            .map_err(|error| cause(ErrorKind::Block(error)))?;
        if let Some(open) = self.channels[index(channel)].assembly.open() {
            let open = open.offset;
            return Err(cause(ErrorKind::Interleaved { open }));
        }
        self.expect_new(channel, span)?;
        self.hand_out(channel, span, now, false);
        Ok(())
    }

    /// Reports that `len` bytes from the start of a range that was handed out on this
    /// channel are in place, and that the threads waiting for them have been woken.
    /// `present` of the bytes were there before (`EEXIST`) and were left unchanged.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHandedOut`].
    pub fn placed(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        len: u64,
        present: u64,
        now: u64,
    ) -> Result<(), Error> {
        let span = Span { block, offset, len };
        self.receive(channel, span, present, now)
            .and_then(|()| self.settle())
            .map_err(|cause| self.give_up(Some(channel), cause))
    }

    fn receive(
        &mut self,
        channel: Channel,
        span: Span,
        present: u64,
        now: u64,
    ) -> Result<(), Cause> {
        let Span { block, offset, len } = span;
        let Ok(page) = self.blocks.block(block).map(|block| block.page) else {
            return Err(ErrorKind::NotHandedOut.into());
        };
        let runs = &mut self.channels[index(channel)].runs;
        let fits = |run: &Run| {
            let start = (run.span.block, run.span.offset) == (block, offset);
            start && len > 0 && len <= run.span.len && len.is_multiple_of(page)
        };
        let Some(at) = runs.iter().position(fits) else {
            return Err(self.at(block, offset, ErrorKind::NotHandedOut));
        };
        let run = &mut runs[at];
        let (complete, zero) = (run.complete, run.zero);
        run.span.offset += len;
        run.span.len -= len;
        if run.span.len == 0 {
            runs.swap_remove(at);
        }

        let count = len / page;
        let end = offset + len;
        let mut next = self.pages.requested_in(block, offset, len);
        while let Some(at) = next {
            let latency = &mut self.stats.latency;
            self.requests.served((block, at), complete, now, latency);
            let behind = at + page;
            next = self.pages.requested_in(block, behind, end - behind);
        }
        let demand = self.pages.receive(block, offset, len);
        self.stats.demand += demand;
        self.stats.sweep += count - demand;
        if zero {
            self.stats.zero += count;
        }
        self.stats.present += (present / page).min(count);
        Ok(())
    }

    /// Whether a part of a range is handed out and not placed.
    pub(super) fn is_placing(&self, block: BlockId, offset: u64, len: u64) -> bool {
        let span = Span { block, offset, len };
        let runs = self.channels.iter().flat_map(|state| &state.runs);
        runs.into_iter().any(|run| run.span.overlaps(&span))
    }

    /// Hands out a range for placement that passed [`Self::expect_new`].
    pub(super) fn hand_out(&mut self, channel: Channel, span: Span, complete: u64, zero: bool) {
        self.channels[index(channel)].runs.push(Run {
            span,
            complete,
            zero,
        });
    }
}

//! Between being handed out and being received: pages on their way into
//! memory.
//!
//! Mirrors `postcopy-ram.c:postcopy_place_page` and what
//! `postcopy-ram.c:qemu_ufd_copy_ioctl` does after it.

use super::assembly::{Run, Span};
use super::ram::lane;
use super::{Destination, Error, Flaw, Kind, What};
use crate::Channel;
use crate::blocks::BlockId;

impl Destination {
    /// Takes `len` bytes of whole host pages that arrived on this channel at `now`, and
    /// that the caller places without showing them as events. Up to
    /// [`MAX_RUNS`](super::MAX_RUNS) ranges may await [`Destination::placed`].
    ///
    /// # Errors
    ///
    /// As if the pages had come as events.
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
            .map_err(|flaw| self.give_up(Some(channel), flaw))
    }

    fn announce(&mut self, channel: Channel, span: Span, now: u64) -> Result<(), Flaw> {
        let Span { block, offset, len } = span;
        let flaw = |what| self.at(block, offset, what);
        self.expect(channel, Kind::Urgent, "PAGE").map_err(flaw)?;
        let page = match self.blocks.block(block) {
            Ok(block) => block.page,
            Err(error) => return Err(flaw(What::Block(error))),
        };
        self.blocks
            .check(block, offset, len, page)
            .map_err(|error| flaw(What::Block(error)))?;
        if let Some(open) = self.lanes[lane(channel)].assembly.open() {
            let open = open.offset;
            return Err(flaw(What::Interleaved { open }));
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
    /// [`What::NotHandedOut`].
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
            .map_err(|flaw| self.give_up(Some(channel), flaw))
    }

    fn receive(
        &mut self,
        channel: Channel,
        span: Span,
        present: u64,
        now: u64,
    ) -> Result<(), Flaw> {
        let Span { block, offset, len } = span;
        let Ok(page) = self.blocks.block(block).map(|block| block.page) else {
            return Err(What::NotHandedOut.into());
        };
        let runs = &mut self.lanes[lane(channel)].runs;
        let fits = |run: &Run| {
            let start = (run.span.block, run.span.offset) == (block, offset);
            start && len > 0 && len <= run.span.len && len.is_multiple_of(page)
        };
        let Some(at) = runs.iter().position(fits) else {
            return Err(self.at(block, offset, What::NotHandedOut));
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

    /// Whether a part of a range has been handed out and not been placed.
    pub(super) fn is_placing(&self, block: BlockId, offset: u64, len: u64) -> bool {
        let span = Span { block, offset, len };
        let runs = self.lanes.iter().flat_map(|lane| &lane.runs);
        runs.into_iter().any(|run| run.span.overlaps(&span))
    }

    /// Hands a range out for placement that [`Self::expect_new`] has passed.
    pub(super) fn hand_out(&mut self, channel: Channel, span: Span, complete: u64, zero: bool) {
        self.lanes[lane(channel)].runs.push(Run {
            span,
            complete,
            zero,
        });
    }
}

//! Between being handed out and being received: pages on their way into
//! memory.
//!
//! Mirrors `postcopy-ram.c:postcopy_place_page` and what
//! `postcopy-ram.c:qemu_ufd_copy_ioctl` does after it.

use super::assembly::{Run, Span};
use super::ram::lane;
use super::{Destination, Error, Flaw, Kind, Placed, What};
use crate::Channel;
use crate::blocks::BlockId;

impl Destination {
    /// Announces `len` bytes of whole host pages that the caller is about to
    /// read from this channel without showing them as events, and to place.
    /// Up to [`MAX_RUNS`](super::MAX_RUNS) of them may be on their way to being placed.
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
    ) -> Result<(), Error> {
        let span = Span { block, offset, len };
        self.announce(channel, span)
            .map_err(|flaw| self.give_up(Some(channel), flaw))
    }

    fn announce(&mut self, channel: Channel, span: Span) -> Result<(), Flaw> {
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
        self.hand_out(channel, span, None, false);
        Ok(())
    }

    /// The bytes of all runs announced on this channel are here. Only the
    /// latency's parts depend on it.
    pub fn arrived(&mut self, channel: Channel, now: u64) {
        for run in &mut self.lanes[lane(channel)].runs {
            run.complete.get_or_insert(now);
        }
    }

    /// `len` bytes from the start of a range that was handed out on this
    /// channel are in place, and who waited for them has been woken.
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
        outcome: Placed,
        now: u64,
    ) -> Result<(), Error> {
        let span = Span { block, offset, len };
        self.receive(channel, span, outcome, now)
            .and_then(|()| self.settle())
            .map_err(|flaw| self.give_up(Some(channel), flaw))
    }

    fn receive(
        &mut self,
        channel: Channel,
        span: Span,
        outcome: Placed,
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
        if let Placed::Present(bytes) = outcome {
            self.stats.present += (bytes / page).min(count);
        }
        Ok(())
    }

    /// Whether a part of a range has been handed out and not been placed.
    pub(super) fn is_placing(&self, block: BlockId, offset: u64, len: u64) -> bool {
        let span = Span { block, offset, len };
        let runs = self.lanes.iter().flat_map(|lane| &lane.runs);
        runs.into_iter().any(|run| run.span.overlaps(&span))
    }

    /// Hands a range out for placement that [`Self::expect_new`] has passed.
    pub(super) fn hand_out(
        &mut self,
        channel: Channel,
        span: Span,
        complete: Option<u64>,
        zero: bool,
    ) {
        self.lanes[lane(channel)].runs.push(Run {
            span,
            complete,
            zero,
        });
    }
}

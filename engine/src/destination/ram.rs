//! RAM records: the block list, pages before the switch, pages after it.
//!
//! Mirrors `ram.c:ram_load_precopy`, `parse_ramblocks` and
//! `ram_load_postcopy`.

use retpath_codec::{BlockName, Name};

use super::assembly::{Content, Progress, Run, Span};
use super::{
    Action, Destination, Error, Flaw, MAX_BLOCKS, MAX_RUNS, Phase, Placed, Placement, What,
};
use crate::Channel;
use crate::blocks::{Block, BlockId, Blocks};
use retpath_codec::forward::{self, Event, ram::Record};

/// A placement without its data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    None,
    /// The event's data, before the switch.
    Write(Span),
    Clear(Span),
    /// A page of one byte that is in the buffer, before the switch.
    WriteBuffer(Span),
    /// The event's data.
    Copy(Span),
    /// The host page in the buffer.
    CopyBuffer(Span),
    Zero(Span),
}

impl Destination {
    pub(super) fn record(
        &mut self,
        channel: Channel,
        record: Record<'_>,
        what: &'static str,
        now: u64,
    ) -> Result<Verdict, Flaw> {
        match record {
            Record::Page {
                block,
                offset,
                data,
                ..
            } => self.page(channel, block.index(), offset, Content::Data(data), now),
            Record::Zero {
                block,
                offset,
                fill: 0,
                ..
            } => self.page(channel, block.index(), offset, Content::Zero, now),
            Record::Zero {
                block,
                offset,
                fill,
                ..
            } => self.filled(channel, block.index(), offset, fill, now),
            Record::Eos if channel == Channel::Preempt => {
                self.preempt_ended = true;
                self.settle()?;
                Ok(Verdict::None)
            }
            Record::Eos => Ok(Verdict::None),
            Record::MemSize { .. } if self.phase.is_precopy() => Ok(Verdict::None),
            Record::Block {
                block,
                name,
                len,
                page_size,
                ..
            } if self.phase.is_precopy() => {
                self.block(block, name, len, page_size)?;
                Ok(Verdict::None)
            }
            Record::MemSize { .. } | Record::Block { .. } => Err(What::OutOfTurn { what }.into()),
            Record::Xbzrle { .. } | Record::Compressed { .. } => {
                Err(What::Unsupported { what }.into())
            }
            Record::Hook | Record::MultifdFlush => Err(What::Unsupported { what }.into()),
        }
    }

    /// A line of the block list.
    fn block(
        &mut self,
        number: forward::BlockId,
        name: Name<'_>,
        len: u64,
        page_size: Option<u64>,
    ) -> Result<(), Flaw> {
        let flaw = |what| Flaw {
            what,
            place: Some(super::Place {
                block: name.to_buf(),
                offset: None,
            }),
        };
        let next = self.blocks.len();
        if next >= MAX_BLOCKS {
            return Err(flaw(What::TooManyBlocks));
        }
        if number.index() != next {
            return Err(flaw(What::BlockNumber { next }));
        }
        let page = match (self.listed_page(name), page_size) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(flaw(What::PageSize { ours, theirs }));
            }
            (listed, announced) => listed.or(announced).unwrap_or(self.usual_page()),
        };
        if u32::try_from(page).is_err() {
            return Err(flaw(What::PageTooLarge { page }));
        }
        let (total, limit) = (self.ram.saturating_add(len), self.config.max_ram);
        if total > limit {
            return Err(flaw(What::TooMuchRam { total, limit }));
        }
        if self.blocks.is_empty() {
            self.blocks = Blocks::new(self.target).map_err(What::Block)?;
        }
        let block = Block {
            name: name.to_buf(),
            len,
            page,
        };
        let id = self
            .blocks
            .add(block.clone())
            .map_err(|error| flaw(What::Block(error)))?;
        self.pages.add(&block, self.target);
        self.ram = total;
        self.actions.push_back(Action::Block { id });
        Ok(())
    }

    /// The host page size of a block, if the settings have it.
    fn listed_page(&self, name: Name<'_>) -> Option<u64> {
        let mut listed = self.config.page_sizes.iter();
        let (_, page) = listed.find(|(block, _)| block.name() == name)?;
        Some(*page)
    }

    /// The host page size of a block of which nothing is said: that of the
    /// source's host, the smallest one in POSTCOPY_ADVISE.
    fn usual_page(&self) -> u64 {
        let ours = self.config.host_page.max(self.target);
        match self.advice {
            Some(advice) if advice.summary != 0 && advice.summary & ours == 0 => {
                1 << advice.summary.trailing_zeros()
            }
            _ => ours,
        }
    }

    /// A target page.
    fn page(
        &mut self,
        channel: Channel,
        id: BlockId,
        offset: u64,
        content: Content<'_>,
        now: u64,
    ) -> Result<Verdict, Flaw> {
        let target = self.target;
        self.blocks
            .check(id, offset, target, target)
            .map_err(|error| self.at(id, offset, What::Block(error)))?;
        if let Content::Data(data) = content
            && u64::try_from(data.len()) != Ok(target)
        {
            let len = data.len();
            return Err(self.at(id, offset, What::PageLength { len }));
        }
        let part = Span {
            block: id,
            offset,
            len: target,
        };
        if self.phase.is_precopy() {
            return self.precopy_page(channel, part, content);
        }
        let page = self.blocks.block(id).map_err(What::Block)?.page;
        let host = Span {
            block: id,
            offset: offset - offset % page,
            len: page,
        };
        self.expect_new(channel, host)?;
        let progress = if page == target {
            match content {
                Content::Zero => Progress::Zero,
                Content::Data(_) => Progress::Data,
            }
        } else {
            self.lanes[lane(channel)]
                .assembly
                .add(host, offset, target, content)
                .map_err(|what| self.at(id, offset, what))?
        };
        let verdict = match progress {
            Progress::Incomplete => return Ok(Verdict::None),
            Progress::Zero => Verdict::Zero(host),
            Progress::Data if page == target => Verdict::Copy(host),
            Progress::Data => Verdict::CopyBuffer(host),
        };
        self.hand_out(channel, host, Some(now), progress == Progress::Zero)?;
        Ok(verdict)
    }

    fn precopy_page(
        &mut self,
        channel: Channel,
        part: Span,
        content: Content<'_>,
    ) -> Result<Verdict, Flaw> {
        if channel == Channel::Preempt {
            let what = "a page on the preempt channel";
            return Err(self.at(part.block, part.offset, What::OutOfTurn { what }));
        }
        self.pages.receive(part.block, part.offset, part.len);
        self.stats.precopy += 1;
        Ok(match content {
            Content::Zero => Verdict::Clear(part),
            Content::Data(_) => Verdict::Write(part),
        })
    }

    /// A page of one byte that is not 0, which sources before 8.2 may send.
    fn filled(
        &mut self,
        channel: Channel,
        id: BlockId,
        offset: u64,
        fill: u8,
        now: u64,
    ) -> Result<Verdict, Flaw> {
        let len = usize::try_from(self.target).map_err(|_| What::PageLength { len: usize::MAX })?;
        let data = vec![fill; len];
        let verdict = self.page(channel, id, offset, Content::Data(&data), now)?;
        Ok(match verdict {
            Verdict::Write(span) => {
                self.lanes[lane(channel)].assembly.filled(self.target, fill);
                Verdict::WriteBuffer(span)
            }
            Verdict::Copy(span) => {
                self.lanes[lane(channel)].assembly.filled(self.target, fill);
                Verdict::CopyBuffer(span)
            }
            other => other,
        })
    }

    /// Checks that a host page, or a part of one, may come on this channel.
    fn expect_new(&mut self, channel: Channel, span: Span) -> Result<(), Flaw> {
        let Span { block, offset, len } = span;
        if !self.phase.is_live() {
            return Err(self.at(block, offset, What::OutOfTurn { what: "a page" }));
        }
        if self.pages.any_received(block, offset, len) || self.is_placing(block, offset, len) {
            self.stats.duplicates += 1;
            return Err(self.at(block, offset, What::PageTwice));
        }
        let own = &self.lanes[lane(channel)].assembly;
        if let Some(open) = own.open().filter(|open| *open != span) {
            let open = open.offset;
            return Err(self.at(block, offset, What::Interleaved { open }));
        }
        let other = &self.lanes[1 - lane(channel)].assembly;
        if other.open().is_some_and(|open| open.overlaps(&span)) {
            return Err(self.at(block, offset, What::OnBothChannels));
        }
        Ok(())
    }

    /// Whether a part of a range has been handed out and not been placed.
    pub(super) fn is_placing(&self, block: BlockId, offset: u64, len: u64) -> bool {
        let span = Span { block, offset, len };
        let runs = self.lanes.iter().flat_map(|lane| &lane.runs);
        runs.into_iter().any(|run| run.span.overlaps(&span))
    }

    fn hand_out(
        &mut self,
        channel: Channel,
        span: Span,
        complete: Option<u64>,
        zero: bool,
    ) -> Result<(), Flaw> {
        let runs = &mut self.lanes[lane(channel)].runs;
        if runs.len() >= MAX_RUNS {
            return Err(self.at(span.block, span.offset, What::TooManyRuns));
        }
        runs.push(Run {
            span,
            complete,
            zero,
        });
        Ok(())
    }

    pub(super) fn placement<'a>(
        &'a self,
        channel: Channel,
        event: &Event<'a>,
        verdict: Verdict,
    ) -> Placement<'a> {
        let buffer = |span: Span| self.lanes[lane(channel)].assembly.bytes(span.len);
        let data = match *event {
            Event::Record(Record::Page { data, .. }) => data,
            _ => &[],
        };
        match verdict {
            Verdict::None => Placement::None,
            Verdict::Write(Span { block, offset, .. }) => Placement::Write {
                block,
                offset,
                data,
            },
            Verdict::WriteBuffer(span) => Placement::Write {
                block: span.block,
                offset: span.offset,
                data: buffer(span),
            },
            Verdict::Clear(Span { block, offset, len }) => Placement::Clear { block, offset, len },
            Verdict::Copy(Span { block, offset, .. }) => Placement::Copy {
                block,
                offset,
                data,
            },
            Verdict::CopyBuffer(span) => Placement::Copy {
                block: span.block,
                offset: span.offset,
                data: buffer(span),
            },
            Verdict::Zero(Span { block, offset, len }) => Placement::Zero { block, offset, len },
        }
    }

    /// Announces `len` bytes of whole host pages that the caller is about to
    /// read from this channel without showing them as events, and to place.
    /// Up to [`MAX_RUNS`] of them may be on their way to being placed.
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
        let page = match self.blocks.block(block) {
            Ok(block) => block.page,
            Err(error) => return Err(flaw(What::Block(error))),
        };
        self.blocks
            .check(block, offset, len, page)
            .map_err(|error| flaw(What::Block(error)))?;
        match (self.phase, channel) {
            (Phase::Failed, _) => return Err(flaw(What::Over)),
            (Phase::Paused, _) => return Err(flaw(What::LinkDown)),
            (_, Channel::Preempt) if !self.config.preempt => return Err(flaw(What::NoPreempt)),
            (_, Channel::Main) if self.main_ended => {
                return Err(flaw(What::OutOfTurn { what: "a page" }));
            }
            (_, Channel::Preempt) if self.preempt_ended => {
                return Err(flaw(What::OutOfTurn { what: "a page" }));
            }
            _ => {}
        }
        if let Some(open) = self.lanes[lane(channel)].assembly.open() {
            let open = open.offset;
            return Err(flaw(What::Interleaved { open }));
        }
        self.expect_new(channel, span)?;
        self.hand_out(channel, span, None, false)
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
    /// [`What::NotHandedOut`], and [`What::Incomplete`] if this was the last
    /// page on its way and others are missing.
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
        let mut next = self.pages.next_requested(block, offset);
        while let Some(page_at) = next.filter(|at| *at < offset + len) {
            let latency = &mut self.stats.latency;
            self.requests
                .served((block, page_at), complete, now, latency);
            next = self.pages.next_requested(block, page_at + page);
        }
        let demand = self.pages.receive(block, offset, len);
        self.stats.demand += demand;
        self.stats.sweep += count - demand;
        if zero {
            self.stats.zero += count;
        }
        if outcome == Placed::AlreadyPresent {
            self.stats.present += count;
        }
        Ok(())
    }
}

/// Which of the two lanes is a channel's.
pub(super) fn lane(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Preempt => 1,
    }
}

/// Whether the preempt channel may carry it.
pub(super) fn is_urgent(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Record(Record::Page { .. } | Record::Zero { .. } | Record::Eos)
    )
}

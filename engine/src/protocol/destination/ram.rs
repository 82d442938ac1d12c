//! RAM records: pages before the switch, and after it.
//!
//! Mirrors `ram.c:ram_load_precopy` and `ram.c:ram_load_postcopy`.

use retpath_codec::forward::{Event, ram::Record};

use super::assembly::{Content, Progress, Span};
use super::{Destination, Flaw, MAX_RUNS, Placement, What};
use crate::Channel;
use crate::blocks::BlockId;

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
            Record::Eos => {
                if self.phase.is_precopy() {
                    self.piece_ended();
                }
                Ok(Verdict::None)
            }
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
        self.hand_out(channel, host, Some(now), progress == Progress::Zero);
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
        // Before there is a block, nobody has looked at the target page size.
        self.blocks
            .check(id, offset, self.target, self.target)
            .map_err(|error| self.at(id, offset, What::Block(error)))?;
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
    pub(super) fn expect_new(&mut self, channel: Channel, span: Span) -> Result<(), Flaw> {
        let Span { block, offset, len } = span;
        if !self.phase.is_live() {
            return Err(self.at(block, offset, What::OutOfTurn { what: "a page" }));
        }
        if self.pages.any_received(block, offset, len) || self.is_placing(block, offset, len) {
            self.stats.duplicates += 1;
            return Err(self.at(block, offset, What::PageTwice));
        }
        if self.lanes[lane(channel)].runs.len() >= MAX_RUNS {
            return Err(self.at(block, offset, What::TooManyRuns));
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
}

/// Which of the two lanes is a channel's.
pub(super) fn lane(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Preempt => 1,
    }
}

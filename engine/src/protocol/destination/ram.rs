//! RAM records: pages before the switch, and after it.
//!
//! Mirrors `ram.c:ram_load_precopy` and `ram.c:ram_load_postcopy`.

use retpath_codec::forward::ram::Record;

use super::assembly::{Progress, Span};
use super::{Cause, Content, Destination, ErrorKind, MAX_RUNS, Placement};
use crate::Channel;
use crate::blocks::BlockId;

/// Pages that an event completes: a [`Placement`] that does not borrow the core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery<'a> {
    span: Span,
    /// `None` for the host page in the channel's buffer.
    content: Option<Content<'a>>,
    atomic: bool,
}

impl Destination {
    pub(super) fn record<'a>(
        &mut self,
        channel: Channel,
        record: Record<'a>,
        what: &'static str,
        now: u64,
    ) -> Result<Option<Delivery<'a>>, Cause> {
        let target = self.target;
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
            } => self.page(channel, block.index(), offset, Content::Zero(target), now),
            Record::Zero {
                block,
                offset,
                fill,
                ..
            } => self.filled(channel, block.index(), offset, fill, now),
            Record::Eos if channel == Channel::Preempt => {
                self.end_preempt()?;
                Ok(None)
            }
            Record::Eos => {
                if self.phase.is_precopy() {
                    self.piece_ended();
                }
                Ok(None)
            }
            Record::MemSize { .. } if self.phase.is_precopy() => Ok(None),
            Record::Block {
                block,
                name,
                len,
                page_size,
                ..
            } if self.phase.is_precopy() => {
                self.block(block, name, len, page_size)?;
                Ok(None)
            }
            Record::MemSize { .. } | Record::Block { .. } => {
                Err(ErrorKind::OutOfTurn { what }.into())
            }
            _ => Err(ErrorKind::Unsupported { what }.into()),
        }
    }

    /// Handles a target page.
    fn page<'a>(
        &mut self,
        channel: Channel,
        id: BlockId,
        offset: u64,
        content: Content<'a>,
        now: u64,
    ) -> Result<Option<Delivery<'a>>, Cause> {
        let target = self.target;
        self.blocks
            .check(id, offset, target, target)
            .map_err(|error| self.at(id, offset, ErrorKind::Block(error)))?;
        if let Content::Data(data) = content
            && content.size() != target
        {
            let len = data.len();
            return Err(self.at(id, offset, ErrorKind::PageLength { len }));
        }
        let part = Span {
            block: id,
            offset,
            len: target,
        };
        if self.phase.is_precopy() {
            return self.precopy_page(channel, part, content);
        }
        let page = self.blocks.block(id).map_err(ErrorKind::Block)?.page;
        let host = Span {
            block: id,
            offset: offset - offset % page,
            len: page,
        };
        self.expect_new(channel, host)?;
        let progress = if page == target {
            Progress::Complete(Some(content))
        } else {
            self.channels[index(channel)]
                .assembly
                .add(host, offset, target, content)
                .map_err(|what| self.at(id, offset, what))?
        };
        let Progress::Complete(content) = progress else {
            return Ok(None);
        };
        let zero = matches!(content, Some(Content::Zero(_)));
        self.hand_out(channel, host, now, zero);
        Ok(Some(Delivery {
            span: host,
            content,
            atomic: true,
        }))
    }

    fn precopy_page<'a>(
        &mut self,
        channel: Channel,
        part: Span,
        content: Content<'a>,
    ) -> Result<Option<Delivery<'a>>, Cause> {
        if channel == Channel::Preempt {
            let what = "a page on the preempt channel";
            return Err(self.at(part.block, part.offset, ErrorKind::OutOfTurn { what }));
        }
        self.pages.receive(part.block, part.offset, part.len);
        self.stats.precopy += 1;
        Ok(Some(Delivery {
            span: part,
            content: Some(content),
            atomic: false,
        }))
    }

    /// Handles a page of one repeated byte other than 0, which sources before 8.2 may send.
    fn filled(
        &mut self,
        channel: Channel,
        id: BlockId,
        offset: u64,
        fill: u8,
        now: u64,
    ) -> Result<Option<Delivery<'static>>, Cause> {
        // The target page size is only checked once there is a block.
        self.blocks
            .check(id, offset, self.target, self.target)
            .map_err(|error| self.at(id, offset, ErrorKind::Block(error)))?;
        let len =
            usize::try_from(self.target).map_err(|_| ErrorKind::PageLength { len: usize::MAX })?;
        let data = vec![fill; len];
        let delivery = self.page(channel, id, offset, Content::Data(&data), now)?;
        Ok(delivery.map(|delivery| {
            if delivery.content.is_some() {
                self.channels[index(channel)]
                    .assembly
                    .filled(self.target, fill);
            }
            Delivery {
                span: delivery.span,
                content: None,
                atomic: delivery.atomic,
            }
        }))
    }

    /// Checks that pages are allowed on this channel, and are new.
    pub(super) fn expect_new(&mut self, channel: Channel, span: Span) -> Result<(), Cause> {
        let Span { block, offset, len } = span;
        if !self.phase.is_live() {
            return Err(self.at(block, offset, ErrorKind::OutOfTurn { what: "a page" }));
        }
        if self.pages.any_received(block, offset, len) || self.is_placing(block, offset, len) {
            self.stats.duplicates += 1;
            return Err(self.at(block, offset, ErrorKind::PageTwice));
        }
        if self.channels[index(channel)].runs.len() >= MAX_RUNS {
            return Err(self.at(block, offset, ErrorKind::TooManyRuns));
        }
        let own = &self.channels[index(channel)].assembly;
        if let Some(open) = own.open().filter(|open| *open != span) {
            let open = open.offset;
            return Err(self.at(block, offset, ErrorKind::Interleaved { open }));
        }
        let other = &self.channels[1 - index(channel)].assembly;
        if other.open().is_some_and(|open| open.overlaps(&span)) {
            return Err(self.at(block, offset, ErrorKind::OnBothChannels));
        }
        Ok(())
    }

    /// The placement of a delivery; its content may be in the channel's buffer.
    pub(super) fn placement<'a>(
        &'a self,
        channel: Channel,
        delivery: Delivery<'a>,
    ) -> Placement<'a> {
        let Span { block, offset, len } = delivery.span;
        let buffer = || Content::Data(self.channels[index(channel)].assembly.bytes(len));
        Placement {
            block,
            offset,
            content: delivery.content.unwrap_or_else(buffer),
            atomic: delivery.atomic,
        }
    }
}

/// The index of a channel in [`Destination::channels`].
pub(super) fn index(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Preempt => 1,
    }
}

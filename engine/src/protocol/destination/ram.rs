//! RAM records: pages before the switch, and after it.
//!
//! Mirrors `ram.c:ram_load_precopy` and `ram.c:ram_load_postcopy`.

use retpath_codec::forward::ram::Record;

use super::assembly::{PageData, Progress};
use super::{Cause, Content, Destination, ErrorKind};
use crate::Channel;
use crate::blocks::{BlockId, Span};
use crate::protocol::wide;

/// Pages that an event completes; the content is `None` if it is in the channel's buffer.
pub(super) type Delivery<'a> = (Span, Option<Content<'a>>);

impl Destination {
    pub(super) fn record<'a>(
        &mut self,
        channel: Channel,
        record: Record<'a>,
        what: &'static str,
        now: u64,
    ) -> Result<Option<Delivery<'a>>, Cause> {
        match record {
            Record::Page {
                block,
                offset,
                data,
                ..
            } => return self.page(channel, block.index(), offset, PageData::Bytes(data), now),
            // Sources before 8.2 may send bytes other than 0.
            Record::Zero {
                block,
                offset,
                fill,
                ..
            } => return self.page(channel, block.index(), offset, PageData::Fill(fill), now),
            Record::Eos if channel == Channel::Preempt => self.end_preempt()?,
            Record::Eos => self.piece_ended(),
            Record::MemSize { .. } if self.phase.is_precopy() => {}
            Record::Block {
                block,
                name,
                len,
                page_size,
                ..
            } if self.phase.is_precopy() => self.block(block, name, len, page_size)?,
            Record::MemSize { .. } | Record::Block { .. } => {
                return Err(ErrorKind::OutOfTurn { what }.into());
            }
            _ => return Err(ErrorKind::Unsupported { what }.into()),
        }
        Ok(None)
    }

    /// Handles a target page.
    fn page<'a>(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        data: PageData<'a>,
        now: u64,
    ) -> Result<Option<Delivery<'a>>, Cause> {
        let len = self.config.target_page;
        let part = Span { block, offset, len };
        let page = self.check(part, len)?;
        if let PageData::Bytes(data) = data
            && wide(data.len()) != len
        {
            let kind = ErrorKind::Misuse("a target page with data of another length");
            return Err(self.at(block, offset, kind));
        }
        let is_precopy = self.phase.is_precopy();
        let mut host = part;
        if !is_precopy {
            (host.offset, host.len) = (offset - offset % page, page);
            self.expect_new(channel, host, part)?;
        } else if channel == Channel::Preempt {
            let what = "a page on the preempt channel";
            return Err(self.at(block, offset, ErrorKind::OutOfTurn { what }));
        }
        let content = match data {
            PageData::Bytes(data) if host == part => Some(Content::Data(data)),
            PageData::Fill(0) if host == part => Some(Content::Zero(len)),
            _ => {
                let assembly = &mut self.channels[channel.index()].assembly;
                let progress = assembly.add(host, part, data);
                match progress.map_err(|kind| self.at(block, offset, kind))? {
                    Progress::Incomplete => return Ok(None),
                    Progress::Zeros => Some(Content::Zero(host.len)),
                    Progress::Buffered => None,
                }
            }
        };
        if is_precopy {
            self.pages.receive(host);
            self.stats.precopy += 1;
        } else {
            let zero = matches!(content, Some(Content::Zero(_)));
            self.hand_out(channel, host, now, zero);
        }
        Ok(Some((host, content)))
    }

    /// Checks that a range consists of whole pages of `page` bytes inside its block. Returns the
    /// block's host page size.
    pub(super) fn check(&self, span: Span, page: u64) -> Result<u64, Cause> {
        let Span { block, offset, len } = span;
        let checked = self.blocks.check(block, offset, len, page);
        let block = checked.map_err(|error| self.at(block, offset, ErrorKind::Block(error)))?;
        Ok(block.page)
    }
}

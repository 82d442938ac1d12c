//! One connection from the source: reads it, decodes the stream, and passes events and
//! pages on.

use retpath_codec::Rule;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoded, Decoder, Event};

use super::super::RunError;
use super::super::buffer::Inbox;
use super::page_reader::PageReader;
use super::session::Session;
use crate::Channel;
use crate::blocks::{BlockId, Blocks};
use crate::socket::{Link, Moved};

/// A read of this many bytes looks like one of the background sweep.
const SWEEP: usize = 32 * 1024;

/// One connection from the source.
pub(super) struct Connection {
    pub(super) link: Link,
    pub(super) decoder: Decoder,
    inbox: Inbox,
    /// Bytes that the decoder still needs.
    need: usize,
    mode: Mode,
    /// Made for the first read in [`Mode::Pages`].
    reader: Option<PageReader>,
}

/// How the next read is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// As much as there is room for.
    Any,
    /// Only the rest of a record, so that a read of pages can follow.
    Align,
    /// Words and pages of a background sweep.
    Pages,
}

impl Connection {
    pub(super) fn new(link: Link, decoder: Decoder) -> Self {
        Self {
            link,
            decoder,
            inbox: Inbox::new(),
            need: 0,
            reader: None,
            mode: Mode::Any,
        }
    }

    /// Reads once, and handles what has arrived.
    pub(super) fn read(
        &mut self,
        channel: Channel,
        session: &mut Session<'_>,
    ) -> Result<Moved, RunError> {
        let moved = match &mut self.reader {
            Some(reader) if self.mode == Mode::Pages => reader.fill(&self.link),
            _ => {
                let exact = self.mode == Mode::Align;
                self.inbox.fill(&self.link, self.need, exact)
            }
        };
        let moved = moved.map_err(RunError::link("reading", channel))?;
        match (moved, &mut self.reader) {
            (Moved::Bytes(size), _) => {
                let now = session.clock.now();
                if self.mode != Mode::Pages || !self.pages(channel, session, now)? {
                    self.decode(channel, session, now, size)?;
                }
            }
            (Moved::End, Some(reader)) => reader.spill(&mut self.inbox),
            _ => {}
        }
        Ok(moved)
    }

    /// Checks that the stream may end where it has.
    pub(super) fn finish(&self) -> Result<(), RunError> {
        let finished = self.decoder.finish(self.inbox.unread());
        finished.map_err(|error| match error.rule {
            Rule::CutShort { .. } => RunError::Closed,
            _ => error.into(),
        })
    }

    /// Decodes what is in the inbox; `size` bytes of it are new.
    fn decode(
        &mut self,
        channel: Channel,
        session: &mut Session<'_>,
        now: u64,
        size: usize,
    ) -> Result<(), RunError> {
        let mut last = None;
        self.need = loop {
            match self.decoder.next(self.inbox.unread())? {
                Decoded::Need(need) => break need,
                Decoded::Event { event, size } => {
                    last = match event {
                        Event::Record(Record::Page { block, .. }) => Some(block.index()),
                        _ => None,
                    };
                    session.event(channel, event, now)?;
                    self.inbox.consume(size);
                }
            }
        };
        // A large read that ends with a page looks like a sweep; so does the rest of a page
        // that came with one.
        let core = &session.core;
        let sweep = (size >= SWEEP || self.mode == Mode::Align)
            && core.is_listening()
            && last.is_some_and(|block| has_small_pages(core.blocks(), block));
        self.mode = match (sweep, self.inbox.unread().is_empty()) {
            (false, _) => Mode::Any,
            (true, false) => Mode::Align,
            (true, true) => Mode::Pages,
        };
        if self.mode == Mode::Pages && self.reader.is_none() {
            let page = usize::try_from(self.decoder.target_page()).unwrap_or(0);
            self.reader = Some(PageReader::new(page));
        }
        Ok(())
    }

    /// Places the whole pages that have arrived, neighbours together. `false` if something
    /// else came, which is in the inbox now.
    fn pages(
        &mut self,
        channel: Channel,
        session: &mut Session<'_>,
        now: u64,
    ) -> Result<bool, RunError> {
        let Some(reader) = &mut self.reader else {
            return Ok(false);
        };
        let target = self.decoder.target_page();
        // Neighbours that are not placed yet: where they start and end, the number of the first
        // one in the reader, and how many there are.
        let (mut start, mut end, mut first, mut count) = ((0, 0), 0, 0, 0);
        let only_pages = loop {
            let Some((word, at, is_whole)) = reader.word() else {
                break true;
            };
            let Some((block, offset)) = self.decoder.continued_page(word, is_whole) else {
                break false;
            };
            if !is_whole {
                break true;
            }
            reader.advance();
            let block = block.index();
            if count > 0 && (block, offset) != (start.0, end) {
                session.pages(channel, start, reader.pages(first, count), now)?;
                count = 0;
            }
            if count == 0 {
                (start, first) = ((block, offset), at);
            }
            count += 1;
            end = offset + target;
        };
        if count > 0 {
            session.pages(channel, start, reader.pages(first, count), now)?;
        }
        if !only_pages {
            reader.spill(&mut self.inbox);
        }
        Ok(only_pages)
    }
}

/// Whether the block's host pages are target pages, each of which is placed on its own.
fn has_small_pages(blocks: &Blocks, block: BlockId) -> bool {
    blocks
        .block(block)
        .is_ok_and(|block| block.page == blocks.target())
}

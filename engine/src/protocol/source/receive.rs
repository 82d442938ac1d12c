//! What the return path brings, message by message.
//!
//! Stricter than QEMU, which takes most messages in any state: what a
//! destination has no reason to send now is refused.

use retpath_codec::stream::Item;
use retpath_codec::{Message, Name};

use crate::blocks::BlockId;

use super::Source;
use super::channel_state::Heard;
use super::dirty::Part;
use super::error::{Cause, Error};
use super::framing::{PING_BEHIND, PING_LOADED};
use super::phase::{Event, Guest, SourcePhase};

impl Source {
    /// Takes one item of the return path.
    ///
    /// After a RECV_BITMAP message the decoder's limit must be set anew; see
    /// [`Source::recv_bitmap_limit`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: the destination broke the protocol; after the
    /// switch the migration is paused, before it has failed.
    /// [`Error::GaveUp`]: the destination has failed, and so has the
    /// migration. Either way the link is of no more use.
    pub fn message(&mut self, item: Item<'_, Message<Name<'_>>>, now: u64) -> Result<(), Error> {
        let (offset, label, taken) = match item {
            Item::Message {
                message: Message::Shut { value },
                ..
            } if value != 0 && self.is_open() => {
                self.go(Event::GaveUp);
                self.forget_link();
                return Err(Error::GaveUp { value });
            }
            Item::Message { offset, message } => (offset, message.label(), self.take(message, now)),
            Item::Bitmap { offset, bitmap } => {
                let unsent = self.unsent.get_or_insert_with(|| self.dirty.clone());
                let taken = self
                    .link
                    .recovery
                    .load(bitmap, &self.blocks, unsent, &mut self.dirty);
                // A destination has none of it, or zeros that it placed by itself.
                self.dirty.leave_out(&self.config.unplugged);
                (offset, "RECV_BITMAP", taken.map(|()| self.bitmap_loaded()))
            }
        };
        taken.map_err(|cause| {
            self.broken();
            Error::Refused {
                offset,
                message: label,
                cause,
            }
        })
    }

    /// The most bytes that the next received bitmap may have: what
    /// [`Stream::limit_bitmap`](retpath_codec::stream::Stream::limit_bitmap)
    /// must be told after each message.
    pub fn recv_bitmap_limit(&self) -> u64 {
        self.link.recovery.limit(&self.blocks)
    }

    /// Whether the return path is in use.
    fn is_open(&self) -> bool {
        !matches!(self.phase, SourcePhase::Fresh | SourcePhase::Paused) && !self.phase.is_over()
    }

    fn take(&mut self, message: Message<Name<'_>>, now: u64) -> Result<(), Cause> {
        if !self.is_open() {
            return Err(Cause::Phase(self.phase));
        }
        if self.link.recovery.is_coming() {
            return Err(Cause::Order);
        }
        match message {
            Message::Shut { .. } => self.shut(),
            Message::Pong { value } => {
                let heard = match value {
                    PING_BEHIND if self.guest_left() => Heard::Listening,
                    _ => Heard::Start,
                };
                self.link.heard = self.link.heard.max(heard);
                self.preempt_answered(value, now);
                if value == PING_LOADED && self.config.ping_loaded && self.guest_left() {
                    self.guest = Guest::Loaded;
                }
                Ok(())
            }
            Message::ReqPagesId { start, len, block } => {
                let found = self.blocks.find(block);
                let id = found.ok_or_else(|| Cause::UnknownBlock(block.to_buf()))?;
                self.request(id, start, len.into(), now)?;
                self.named = Some(id);
                Ok(())
            }
            Message::ReqPages { start, len } => {
                let id = self.named.ok_or(Cause::NoBlock)?;
                self.request(id, start, len.into(), now)
            }
            Message::RecvBitmap { block } => {
                self.expect(SourcePhase::Recovering)?;
                let found = self.blocks.find(block);
                let id = found.ok_or_else(|| Cause::UnknownBlock(block.to_buf()))?;
                self.link.recovery.announce(id)
            }
            Message::ResumeAck => {
                self.expect(SourcePhase::Resuming)?;
                self.go(Event::Resumed);
                // A destination that can go on was running.
                self.guest = Guest::Loaded;
                self.stats.resumes += 1;
                Ok(())
            }
            Message::SwitchoverAck => {
                // Sent once, asked or not; it may come after the switch.
                if self.acked {
                    return Err(Cause::Unasked);
                }
                self.acked = true;
                Ok(())
            }
        }
    }

    fn expect(&self, phase: SourcePhase) -> Result<(), Cause> {
        if self.phase == phase {
            Ok(())
        } else {
            Err(Cause::Phase(self.phase))
        }
    }

    fn shut(&mut self) -> Result<(), Cause> {
        if self.go(Event::Finished) {
            return Ok(());
        }
        match self.remaining() {
            0 => Err(Cause::Phase(self.phase)),
            left => Err(Cause::EarlyShut { left }),
        }
    }

    /// Queues a range of a block. Requests may cross the end of the sending
    /// and the beginning of a recovery on the wire, so both take them.
    fn request(&mut self, id: BlockId, start: u64, len: u64, now: u64) -> Result<(), Cause> {
        let phases = [
            SourcePhase::Postcopy,
            SourcePhase::Completing,
            SourcePhase::Recovering,
            SourcePhase::Resuming,
        ];
        if !phases.contains(&self.phase) {
            return Err(Cause::Phase(self.phase));
        }
        let block = self.blocks.block(id).map_err(|_| Cause::NoBlock)?;
        // As QEMU: smaller requests than a host page only without preempt.
        let grain = match self.config.preempt {
            Some(_) => block.page,
            None => self.blocks.target(),
        };
        self.blocks
            .check(id, start, len, grain)
            .map_err(|error| Cause::Range {
                block: block.name.clone(),
                error,
            })?;
        if let Some(open) = &mut self.link.main.open
            && open.part.overlaps(Part {
                block: id,
                offset: start,
                len,
            })
        {
            open.urgent = true;
        }
        let first = start / block.page;
        let count = (start + len).div_ceil(block.page) - first;
        // Until all bitmaps are there, nobody knows what has arrived.
        let dirty = match self.phase {
            SourcePhase::Recovering if !self.link.recovery.is_complete() => None,
            _ => self.dirty.bits(id),
        };
        let new = self.queue.push(id, first, count, dirty, now);
        self.stats.requests += count;
        self.stats.requests_dropped += count - new;
        Ok(())
    }

    fn bitmap_loaded(&mut self) {
        if self.link.recovery.is_complete() {
            self.queue.keep(&self.dirty);
        }
    }
}

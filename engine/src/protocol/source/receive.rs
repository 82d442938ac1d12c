//! Handles the messages of the return path.
//!
//! Stricter than QEMU, which accepts most messages in any state: a message that a
//! destination has no reason to send in the current phase is refused.

use retpath_codec::stream::Item;
use retpath_codec::wire::value::{PING_AFTER_PACKAGE, PING_PACKAGE_LOADED};
use retpath_codec::{Message, Name};

use crate::blocks::{BlockId, Span};

use super::Source;
use super::error::{Cause, Error};
use super::state::{Guest, Heard, SourcePhase};

impl Source {
    /// Handles one item of the return path.
    ///
    /// After each item the caller updates the decoder's limit; see
    /// [`Source::recv_bitmap_limit`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: the destination broke the protocol; after the switch the
    /// migration is paused, before the switch it has failed. [`Error::GaveUp`]: the
    /// destination has failed, and so has the migration. Close the link in both
    /// cases.
    pub fn message(&mut self, item: Item<'_, Message<Name<'_>>>, now: u64) -> Result<(), Error> {
        let (offset, label, taken) = match item {
            Item::Message {
                message: Message::Shut { value },
                ..
            } if value != 0 && self.phase.has_link() => {
                self.phase = SourcePhase::Failed;
                self.forget_link();
                return Err(Error::GaveUp { value });
            }
            Item::Message { offset, message } => (offset, message.label(), self.take(message, now)),
            Item::Bitmap { offset, bitmap } => {
                let unsent = self.unsent.get_or_insert_with(|| self.dirty.clone());
                let recovery = &mut self.link.recovery;
                let taken = recovery.load(bitmap, &self.blocks, unsent, &mut self.dirty);
                // Never sent: the destination has placed zeros there at most.
                self.dirty.leave_out(&self.config.unplugged);
                if recovery.is_complete() {
                    self.queue.wanted.keep_common(&self.dirty);
                }
                (offset, "RECV_BITMAP", taken)
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

    /// Maximum size of the next received bitmap in bytes, for
    /// [`Stream::limit_bitmap`](retpath_codec::stream::Stream::limit_bitmap).
    pub fn recv_bitmap_limit(&self) -> u64 {
        self.link.recovery.limit(&self.blocks)
    }

    fn take(&mut self, message: Message<Name<'_>>, now: u64) -> Result<(), Cause> {
        match message {
            _ if !self.phase.has_link() => Err(Cause::Phase(self.phase)),
            _ if self.link.recovery.coming.is_some() => Err(Cause::Order),
            Message::Shut { .. } => match self.remaining() {
                _ if self.phase == SourcePhase::Completing => {
                    self.phase = SourcePhase::Completed;
                    Ok(())
                }
                0 => Err(Cause::Phase(self.phase)),
                left => Err(Cause::EarlyShut { left }),
            },
            Message::Pong { value } => {
                let heard = match value {
                    PING_AFTER_PACKAGE if self.guest_left() => Heard::Listening,
                    _ => Heard::Start,
                };
                self.link.heard = self.link.heard.max(heard);
                self.preempt_answered(value, now);
                if value == PING_PACKAGE_LOADED && self.config.ping_loaded && self.guest_left() {
                    self.guest = Guest::Loaded;
                    self.guest_runs(now);
                }
                Ok(())
            }
            Message::ReqPagesId { start, len, block } => {
                let id = self.id(block)?;
                self.request(id, start, len.into(), now)?;
                self.named = Some(id);
                Ok(())
            }
            Message::ReqPages { start, len } => {
                let id = self.named.ok_or(Cause::NoBlock)?;
                self.request(id, start, len.into(), now)
            }
            Message::RecvBitmap { block } if self.phase == SourcePhase::Recovering => {
                self.link.recovery.announce(self.id(block)?)
            }
            Message::ResumeAck if self.phase == SourcePhase::Resuming => {
                self.phase = SourcePhase::Postcopy;
                // A destination that resumes has been running the guest.
                self.guest = Guest::Loaded;
                // Nothing could be requested while the link was broken.
                self.guest_runs(now);
                self.stats.resumes += 1;
                Ok(())
            }
            Message::RecvBitmap { .. } | Message::ResumeAck => Err(Cause::Phase(self.phase)),
            // Sent once, requested or not; it may arrive after the switch.
            Message::SwitchoverAck => match std::mem::replace(&mut self.acked, true) {
                false => Ok(()),
                true => Err(Cause::Unasked),
            },
        }
    }

    fn id(&self, block: Name<'_>) -> Result<BlockId, Cause> {
        let unknown = || Cause::UnknownBlock(block.to_buf());
        self.blocks.find(block).ok_or_else(unknown)
    }

    /// Queues a range of a block. Requests may be in flight when sending ends or a
    /// recovery begins, so every phase after the switch accepts them.
    fn request(&mut self, id: BlockId, start: u64, len: u64, now: u64) -> Result<(), Cause> {
        if !self.guest_left() {
            return Err(Cause::Phase(self.phase));
        }
        let block = self.blocks.block(id).map_err(|_| Cause::NoBlock)?;
        // As in QEMU: requests smaller than a host page only without preempt.
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
        let offset = start / block.page * block.page;
        let len = (start + len).next_multiple_of(block.page) - offset;
        let count = len / block.page;
        let block = id;
        let span = Span { block, offset, len };
        if let Some(rest) = &mut self.link.main.rest {
            rest.urgent |= rest.span.overlaps(span);
        }
        // Until all bitmaps have been received, the dirty pages are unknown.
        let dirty = match self.phase {
            SourcePhase::Recovering if !self.link.recovery.is_complete() => None,
            _ => Some(&self.dirty),
        };
        let new = self.queue.push(span, dirty, now);
        self.stats.requests += count;
        self.stats.requests_dropped += count - new;
        self.record(span, now);
        self.follow(span);
        Ok(())
    }

    /// Lets the policy that predicts requests see one of a single host page, as QEMU
    /// sends them. Requests that are repeated in a recovery come in the order of
    /// addresses and say nothing about the guest.
    fn follow(&mut self, span: Span) {
        let page = self.dirty.unit(span.block);
        let is_one = span.len == page && page <= self.config.run;
        if !self.config.predict || !is_one || self.phase != SourcePhase::Postcopy {
            return;
        }
        let number = span.offset / page;
        let confirmed = self.link.streams.request(span.block, number, &self.dirty);
        self.stats.predicted_hits += confirmed;
        self.pace.put_back(confirmed * page);
    }
}

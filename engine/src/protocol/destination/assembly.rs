//! Assembly of host pages from target pages, and ranges that are being placed.
//!
//! Each channel has at most one incomplete host page, whose target pages come in any order
//! and across section boundaries, and the ranges that are handed out for placement. A
//! bitmap of the received target pages, not a count, decides whether a host page is
//! complete: a count would be wrong if the same target page came twice.
//!
//! The buffer has the size of the largest page so far, and is allocated when its first
//! target page arrives. Nothing here panics.
//!
//! Mirrors `ram.c:ram_load_postcopy` and its temporary pages.

use super::api::Content;
use super::error::ErrorKind;
use crate::bits::Bits;
use crate::blocks::BlockId;

/// The pages of one channel that are not received yet.
#[derive(Debug, Default)]
pub(super) struct ChannelState {
    pub(super) assembly: Assembly,
    pub(super) runs: Vec<Run>,
}

/// Whole host pages that are handed out and not placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) span: Span,
    /// When its last byte arrived.
    pub(super) complete: u64,
    /// Whether it consists of zeros.
    pub(super) zero: bool,
}

/// A range of a RAM block, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) block: BlockId,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Span {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.block == other.block
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}

/// The state of a host page after a target page was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress<'a> {
    /// Target pages are missing.
    Incomplete,
    /// Complete, with its content, or in the buffer.
    Complete(Option<Content<'a>>),
}

/// The incomplete host page of a channel.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<Span>,
    /// Received target pages.
    have: Bits,
    /// Those of them whose data is in the buffer; the others are zeros.
    data: Bits,
    buffer: Vec<u8>,
}

impl Assembly {
    /// The incomplete host page.
    pub(super) fn open(&self) -> Option<Span> {
        self.open
    }

    /// Drops the incomplete host page, and returns whether there was one.
    pub(super) fn reset(&mut self) -> bool {
        self.open.take().is_some()
    }

    /// Adds the target page of `target` bytes at `offset` to its host page,
    /// which must be the open one if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TargetPageTwice`].
    pub(super) fn add(
        &mut self,
        host: Span,
        offset: u64,
        target: u64,
        content: Content<'_>,
    ) -> Result<Progress<'static>, ErrorKind> {
        if self.open != Some(host) {
            self.begin(host, target);
        }
        let inside = offset - host.offset;
        if !self.have.set(inside / target) {
            return Err(ErrorKind::TargetPageTwice);
        }
        if let Content::Data(bytes) = content {
            self.data.set(inside / target);
            if let Some(room) = room(&mut self.buffer, inside, bytes.len()) {
                room.copy_from_slice(bytes);
            }
        }
        if !self.have.is_full() {
            return Ok(Progress::Incomplete);
        }
        self.open = None;
        if self.data.is_empty() {
            return Ok(Progress::Complete(Some(Content::Zero(host.len))));
        }
        self.fill_gaps(target);
        Ok(Progress::Complete(None))
    }

    /// The first `len` bytes of the buffer.
    pub(super) fn bytes(&self, len: u64) -> &[u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.buffer.get(..len).unwrap_or(&self.buffer)
    }

    /// Puts a target page of `target` times `byte` into the buffer.
    pub(super) fn filled(&mut self, target: u64, byte: u8) {
        self.grow(target);
        let len = usize::try_from(target).unwrap_or(0);
        if let Some(room) = room(&mut self.buffer, 0, len) {
            room.fill(byte);
        }
    }

    fn begin(&mut self, host: Span, target: u64) {
        let parts = host.len / target;
        for bits in [&mut self.have, &mut self.data] {
            if bits.len() == parts {
                bits.clear_range(0, parts);
            } else {
                *bits = Bits::new(parts);
            }
        }
        self.grow(host.len);
        self.open = Some(host);
    }

    fn grow(&mut self, len: u64) {
        let len = usize::try_from(len).expect("a host page is shorter than 4 GiB");
        if self.buffer.len() < len {
            // Zeroed memory is not allocated until it is written.
            self.buffer = vec![0; len];
        }
    }

    /// Writes the zeros between the data.
    fn fill_gaps(&mut self, target: u64) {
        let mut at = 0;
        while let Some(gap) = self.data.next_gap(at) {
            at = self.data.next(gap).unwrap_or(self.data.len());
            let len = usize::try_from((at - gap) * target).unwrap_or(0);
            if let Some(room) = room(&mut self.buffer, gap * target, len) {
                room.fill(0);
            }
        }
    }
}

fn room(buffer: &mut [u8], at: u64, len: usize) -> Option<&mut [u8]> {
    let at = usize::try_from(at).ok()?;
    buffer.get_mut(at..at.checked_add(len)?)
}

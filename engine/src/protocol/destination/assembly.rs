//! Host pages put together out of target pages, and what is being placed.
//!
//! Each channel has a [`Lane`]: at most one incomplete host page, whose target
//! pages come in any order and across section boundaries, and the ranges that
//! have been handed out for placement. A bitmap of the target pages that are
//! there, not a count, decides that a host page is complete: the same target
//! page twice would fool a count.
//!
//! The buffer is as large as the largest page that has come, and is allocated
//! when the first target page of one arrives. Nothing here panics.
//!
//! Mirrors `ram.c:ram_load_postcopy` and its temporary pages.

use super::error::What;
use crate::bits::Bits;
use crate::blocks::BlockId;

/// What one channel is busy with.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) assembly: Assembly,
    pub(super) runs: Vec<Run>,
}

/// Whole host pages that have been handed out and not been placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) span: Span,
    /// When its last byte arrived, if that is known.
    pub(super) complete: Option<u64>,
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

/// What a record says of a target page's contents.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Zero,
    Data(&'a [u8]),
}

/// What a target page has made of its host page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Incomplete,
    /// Complete, nothing but zeros.
    Zero,
    /// Complete, in the buffer.
    Data,
}

/// A host page in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<Span>,
    /// Target pages that are there.
    have: Bits,
    /// Those among them that are in the buffer; the others are zeros.
    data: Bits,
    buffer: Vec<u8>,
}

impl Assembly {
    /// The host page in the making.
    pub(super) fn open(&self) -> Option<Span> {
        self.open
    }

    /// Throws the incomplete host page away, if there is one.
    pub(super) fn reset(&mut self) -> bool {
        self.open.take().is_some()
    }

    /// Adds the target page of `target` bytes at `offset` to its host page,
    /// which must be the open one if there is one.
    ///
    /// # Errors
    ///
    /// [`What::TargetPageTwice`].
    pub(super) fn add(
        &mut self,
        host: Span,
        offset: u64,
        target: u64,
        content: Content<'_>,
    ) -> Result<Progress, What> {
        if self.open != Some(host) {
            self.begin(host, target);
        }
        let inside = offset - host.offset;
        if !self.have.set(inside / target) {
            return Err(What::TargetPageTwice);
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
            return Ok(Progress::Zero);
        }
        self.fill_gaps(target);
        Ok(Progress::Data)
    }

    /// The first `len` bytes of the buffer.
    pub(super) fn bytes(&self, len: u64) -> &[u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.buffer.get(..len).unwrap_or(&self.buffer)
    }

    /// A target page of `target` times `byte`, in the buffer.
    pub(super) fn filled(&mut self, target: u64, byte: u8) -> &[u8] {
        self.grow(target);
        let len = usize::try_from(target).unwrap_or(0);
        if let Some(room) = room(&mut self.buffer, 0, len) {
            room.fill(byte);
        }
        self.bytes(target)
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
            // Fresh zeros cost no memory until they are written to.
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

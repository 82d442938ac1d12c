//! Assembly of host pages from target pages.
//!
//! Each channel has at most one incomplete host page, whose target pages come in any order
//! and across section boundaries. A bitmap of the received target pages, not a count, decides
//! whether it is complete: a count would be wrong if the same target page came twice.
//!
//! The buffer has the size of the largest page so far, and is allocated when its first
//! target page arrives. Nothing here panics.
//!
//! Mirrors `ram.c:ram_load_postcopy` and its temporary pages.

use super::error::ErrorKind;
use crate::bits::Bits;
use crate::blocks::Span;

/// The content of a target page.
#[derive(Clone, Copy, Debug)]
pub(super) enum PageData<'a> {
    Bytes(&'a [u8]),
    /// This byte, repeated.
    Fill(u8),
}

/// The state of a host page after a target page was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Incomplete,
    /// Complete, with nothing but zeros.
    Zeros,
    /// Complete, with its content in the buffer.
    Buffered,
}

/// The incomplete host page of a channel.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<Span>,
    /// Received target pages.
    have: Bits,
    /// Whether all of them are zeros, which are not in the buffer then.
    is_zero: bool,
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

    /// Adds a target page to its host page, which must be the open one if there is one.
    ///
    /// # Errors
    ///
    /// It was added before.
    pub(super) fn add(
        &mut self,
        host: Span,
        part: Span,
        data: PageData<'_>,
    ) -> Result<Progress, ErrorKind> {
        if self.open != Some(host) {
            self.begin(host, part.len);
        }
        let at = part.offset - host.offset;
        if !self.have.set(at / part.len) {
            return Err(ErrorKind::Violation(
                "the target page was sent twice within its host page",
            ));
        }
        if self.is_zero && !matches!(data, PageData::Fill(0)) {
            self.is_zero = false;
            // The zeros that came before.
            for (first, count) in self.have.runs() {
                room(&mut self.buffer, first * part.len, count * part.len).fill(0);
            }
        }
        if !self.is_zero {
            let room = room(&mut self.buffer, at, part.len);
            match data {
                PageData::Fill(byte) => room.fill(byte),
                PageData::Bytes(bytes) if bytes.len() == room.len() => room.copy_from_slice(bytes),
                PageData::Bytes(_) => {}
            }
        }
        if !self.have.is_full() {
            return Ok(Progress::Incomplete);
        }
        self.open = None;
        Ok(match self.is_zero {
            true => Progress::Zeros,
            false => Progress::Buffered,
        })
    }

    /// The first `len` bytes of the buffer.
    pub(super) fn bytes(&self, len: u64) -> &[u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.buffer.get(..len).unwrap_or(&self.buffer)
    }

    fn begin(&mut self, host: Span, target: u64) {
        self.open = Some(host);
        self.have = Bits::new(host.len / target);
        self.is_zero = true;
        let len = usize::try_from(host.len).expect("a host page is shorter than 4 GiB");
        if self.buffer.len() < len {
            // Zeroed memory is not allocated until it is written.
            self.buffer = vec![0; len];
        }
    }
}

/// A part of the buffer.
fn room(buffer: &mut [u8], at: u64, len: u64) -> &mut [u8] {
    let bound = |at| usize::try_from(at).unwrap_or(usize::MAX);
    let range = bound(at)..bound(at.saturating_add(len));
    buffer.get_mut(range).unwrap_or_default()
}

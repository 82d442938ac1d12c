//! Buffers between a link and a decoder or encoder.

use std::{io, mem};

use crate::socket::{Link, Moved};

/// Size of one read: enough for fifteen pages and their headers, and short enough that
/// it never delays a fault for long.
const READ: usize = 64 * 1024;

/// Received bytes that have not been decoded yet. Contiguous; grows to the largest
/// message that the decoder needs.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; 2 * READ],
            start: 0,
            end: 0,
        }
    }

    /// The received bytes that have not been consumed.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Removes `size` bytes from the front.
    pub(super) fn consume(&mut self, size: usize) {
        self.start = self.start.saturating_add(size).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once from the link. The decoder needs `need` more bytes, a number that its
    /// own limits bound. With `exact`, reads no more than those.
    pub(super) fn fill(&mut self, link: &Link, need: usize, exact: bool) -> io::Result<Moved> {
        let room = if exact { need } else { need.max(READ) };
        if self.bytes.len() - self.end < room {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() - self.end < room {
                self.bytes.resize(self.end + room, 0);
            }
        }
        let moved = link.read(&mut self.bytes[self.end..self.end + room])?;
        if let Moved::Bytes(size) = moved {
            self.end += size;
        }
        Ok(moved)
    }

    /// Appends bytes that were read elsewhere.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let size = self.end + bytes.len();
        if size > self.bytes.len() {
            self.bytes.resize(size, 0);
        }
        self.bytes[self.end..size].copy_from_slice(bytes);
        self.end = size;
    }
}

/// Writes as much of the core's outbox as the link accepts, and clears it once that was
/// everything; returns whether it was. `sent` bytes of it were written before.
///
/// The outbox stays with the core, which limits what a peer that does not read can make it
/// hold.
pub(super) fn flush(outbox: &mut Vec<u8>, sent: &mut usize, link: &Link) -> io::Result<bool> {
    while let Some(rest) = outbox.get(*sent..).filter(|rest| !rest.is_empty()) {
        match link.write(rest)? {
            Moved::Bytes(size) => *sent += size,
            Moved::Later | Moved::End => return Ok(false),
        }
    }
    if !link.flush()? {
        return Ok(false);
    }
    outbox.clear();
    *sent = 0;
    Ok(true)
}

/// Drops the `sent` bytes that [`flush`] has written, once they are half of the outbox: a
/// peer that always leaves a few bytes unread must not make it grow.
pub(super) fn compact(outbox: &mut Vec<u8>, sent: &mut usize) {
    if *sent > outbox.len() / 2 {
        outbox.drain(..mem::take(sent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_little_for_a_peer_that_always_leaves_bytes_unread() {
        const UNREAD: usize = 1 << 20;
        let (near, far) = Link::pair().expect("descriptors");
        let (mut outbox, mut sent) = (Vec::new(), 0);
        let mut next = (0..=250).cycle();
        outbox.extend(next.by_ref().take(UNREAD));
        let mut got = Vec::new();
        let mut read = [0; 4096];
        while got.len() < 4 * UNREAD {
            compact(&mut outbox, &mut sent);
            let is_written = flush(&mut outbox, &mut sent, &near).expect("sends");
            assert!(!is_written);
            assert!(outbox.len() <= 3 * UNREAD, "holds {} bytes", outbox.len());
            if let Moved::Bytes(size) = far.read(&mut read).expect("reads") {
                got.extend_from_slice(&read[..size]);
                outbox.extend(next.by_ref().take(size));
            }
        }
        let sequence = (0..=250u8).cycle();
        assert!(got.iter().copied().eq(sequence.take(got.len())));
    }

    #[test]
    fn keeps_bytes_in_order_through_small_and_large_reads() {
        let (near, far) = Link::pair().expect("descriptors");
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let (mut out, mut written) = (sent.clone(), 0);
        let mut inbox = Inbox::new();
        let mut got = Vec::new();
        let mut turn = 0;
        while got.len() < sent.len() {
            flush(&mut out, &mut written, &near).expect("sends");
            while let Moved::Bytes(_) = inbox
                .fill(&far, turn * 5000 + 1, turn % 2 == 0)
                .expect("reads")
            {
                turn += 1;
                let size = inbox.unread().len().saturating_sub(turn % 7);
                got.extend_from_slice(&inbox.unread()[..size]);
                inbox.consume(size);
            }
            got.extend_from_slice(inbox.unread());
            inbox.consume(usize::MAX);
        }
        assert!(got == sent);
        assert!(out.is_empty());
    }
}

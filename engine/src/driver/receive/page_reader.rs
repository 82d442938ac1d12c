//! Reads the background sweep's pages with scatter reads.
//!
//! While a source sweeps, its stream consists of 8-byte words and pages of one block, in
//! order. One readv(2) then separates sixteen pairs, and neighbouring pages are placed with
//! one system call. Where the pattern breaks, the bytes go to the inbox, and the decoder
//! reads them from there.

use std::io::{self, IoSliceMut};

use super::super::buffer::Inbox;
use crate::socket::{Link, Moved};

/// Pages per read. Larger reads gain little: 64 KiB has nearly all of the effect.
const PAGES: usize = 16;

/// Bytes of the word in front of a page.
const WORD: usize = 8;

/// The words and pages of one read.
#[derive(Debug)]
pub(super) struct PageReader {
    words: [[u8; WORD]; PAGES],
    pages: Vec<u8>,
    page: usize,
    /// Bytes that have arrived.
    len: usize,
    /// Bytes of them that have been taken.
    used: usize,
}

impl PageReader {
    pub(super) fn new(page: usize) -> Self {
        Self {
            words: [[0; WORD]; PAGES],
            pages: vec![0; PAGES * page],
            page,
            len: 0,
            used: 0,
        }
    }

    /// Reads once, behind the bytes that are there.
    pub(super) fn fill(&mut self, link: &Link) -> io::Result<Moved> {
        if self.used == self.len {
            (self.len, self.used) = (0, 0);
        }
        let pages = self.pages.chunks_exact_mut(self.page);
        let parts = self.words.iter_mut().zip(pages);
        let mut parts = parts.flat_map(|(word, page)| [&mut word[..], page]);
        let mut slices: [IoSliceMut<'_>; 2 * PAGES] =
            std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        let mut room = &mut slices[..];
        IoSliceMut::advance_slices(&mut room, self.len);
        let moved = link.read_vectored(room)?;
        if let Moved::Bytes(size) = moved {
            self.len += size;
        }
        Ok(moved)
    }

    /// The next word that has arrived, the number of its page, and whether the whole page
    /// has arrived.
    pub(super) fn word(&self) -> Option<([u8; WORD], usize, bool)> {
        let pair = WORD + self.page;
        let at = self.used / pair;
        let left = self.len - self.used;
        (left >= WORD).then(|| (self.words[at], at, left >= pair))
    }

    /// Takes the next word and its page, of which [`PageReader::word`] said that they have
    /// arrived.
    pub(super) fn advance(&mut self) {
        self.used += WORD + self.page;
    }

    /// The bytes of `count` pages from number `first` on.
    pub(super) fn pages(&self, first: usize, count: usize) -> &[u8] {
        let start = first * self.page;
        self.pages
            .get(start..start + count * self.page)
            .unwrap_or_default()
    }

    /// Moves everything that was not taken to the inbox, in stream order.
    pub(super) fn spill(&mut self, inbox: &mut Inbox) {
        let pair = WORD + self.page;
        while self.used < self.len {
            let at = self.used / pair;
            let left = self.len - self.used;
            inbox.extend(&self.words[at][..left.min(WORD)]);
            inbox.extend(&self.pages[at * self.page..][..left.saturating_sub(WORD).min(self.page)]);
            self.used += left.min(pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restores_the_stream_order_of_a_partial_read() {
        const PAGE: usize = 32;
        let stream: Vec<u8> = (0..PAGES * (WORD + PAGE))
            .map(|i| (i % 251) as u8)
            .collect();
        for len in 1..=stream.len() {
            for skip in [0, 1, len / (WORD + PAGE)] {
                let (near, far) = Link::pair().expect("a pair");
                assert_eq!(near.write(&stream[..len]).expect("room"), Moved::Bytes(len));
                let mut reader = PageReader::new(PAGE);
                assert_eq!(reader.fill(&far).expect("reads"), Moved::Bytes(len));
                let mut got = Vec::new();
                for _ in 0..skip {
                    let Some((word, at, true)) = reader.word() else {
                        break;
                    };
                    reader.advance();
                    got.extend(word);
                    got.extend(reader.pages(at, 1));
                }
                let mut inbox = Inbox::new();
                reader.spill(&mut inbox);
                got.extend(inbox.unread());
                assert!(got == stream[..len], "{len} bytes, {skip} pages taken");
            }
        }
    }
}

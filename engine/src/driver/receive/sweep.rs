//! The sweep's pages, read straight into a row.
//!
//! While a source sweeps, its stream is nothing but 8-byte words and pages of
//! one block, in order. One readv(2) then takes sixteen pairs apart, and
//! neighbouring pages go into place with one system call. Where the pattern
//! breaks, the bytes go to the inbox, and the decoder reads them from there.

use std::io::{self, IoSliceMut};

use super::super::buffer::Inbox;
use crate::blocks::BlockId;
use crate::socket::{Link, Moved};

/// Pages that one read takes: 64 KiB gets nearly all that larger runs would.
const PAGES: usize = 16;

/// Bytes of the word in front of a page.
const WORD: usize = 8;

/// Where one read puts words and pages.
#[derive(Debug)]
pub(super) struct Scatter {
    words: [[u8; WORD]; PAGES],
    pages: Vec<u8>,
    page: usize,
    /// Bytes that have arrived, and how many of them are used up.
    len: usize,
    used: usize,
}

impl Scatter {
    pub(super) fn new(page: usize) -> Self {
        Self {
            words: [[0; WORD]; PAGES],
            pages: vec![0; PAGES * page],
            page,
            len: 0,
            used: 0,
        }
    }

    /// Reads once, behind what is there.
    pub(super) fn fill(&mut self, link: &Link) -> io::Result<Moved> {
        if self.used == self.len {
            (self.len, self.used) = (0, 0);
        }
        let mut skip = self.len;
        let mut slices: [IoSliceMut<'_>; 2 * PAGES] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut count = 0;
        let pages = self.pages.chunks_exact_mut(self.page);
        let parts = self.words.iter_mut().zip(pages);
        for part in parts.flat_map(|(word, page)| [&mut word[..], page]) {
            let done = skip.min(part.len());
            skip -= done;
            if done < part.len() {
                slices[count] = IoSliceMut::new(&mut part[done..]);
                count += 1;
            }
        }
        let moved = link.read_vectored(&mut slices[..count])?;
        if let Moved::Bytes(size) = moved {
            self.len += size;
        }
        Ok(moved)
    }

    /// The next word, as soon as it has arrived, and how many pages are in
    /// front of it.
    pub(super) fn word(&self) -> Option<([u8; WORD], usize)> {
        let at = self.used / (WORD + self.page);
        (self.used + WORD <= self.len).then(|| (self.words[at], at))
    }

    /// Takes the next word and its page as used up, if all of it has arrived.
    pub(super) fn advance(&mut self) -> bool {
        let pair = WORD + self.page;
        let whole = self.used + pair <= self.len;
        self.used += if whole { pair } else { 0 };
        whole
    }

    /// `count` pages from number `first` on.
    pub(super) fn pages(&self, first: usize, count: usize) -> &[u8] {
        let start = first * self.page;
        self.pages
            .get(start..start + count * self.page)
            .unwrap_or_default()
    }

    /// Puts everything that is not used up into the inbox, as it arrived.
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

/// Neighbouring pages in a [`Scatter`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub(super) block: BlockId,
    pub(super) offset: u64,
    /// Number of the first page in the scatter.
    pub(super) first: usize,
    /// How many there are.
    pub(super) count: usize,
}

impl Run {
    /// First byte behind the run, for pages of `page` bytes.
    pub(super) fn end(&self, page: u64) -> u64 {
        self.offset + self.count as u64 * page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_a_cut_row_back_together() {
        const PAGE: usize = 32;
        let stream: Vec<u8> = (0..PAGES * (WORD + PAGE))
            .map(|i| (i % 251) as u8)
            .collect();
        for len in 1..=stream.len() {
            for skip in [0, 1, len / (WORD + PAGE)] {
                let (near, far) = Link::pair().expect("a pair");
                assert_eq!(near.write(&stream[..len]).expect("room"), Moved::Bytes(len));
                let mut scatter = Scatter::new(PAGE);
                assert_eq!(scatter.fill(&far).expect("reads"), Moved::Bytes(len));
                let mut got = Vec::new();
                for _ in 0..skip {
                    let Some((word, at)) = scatter.word() else {
                        break;
                    };
                    if scatter.advance() {
                        got.extend(word);
                        got.extend(scatter.pages(at, 1));
                    }
                }
                let mut inbox = Inbox::new();
                scatter.spill(&mut inbox);
                got.extend(inbox.unread());
                assert!(got == stream[..len], "{len} bytes, {skip} pages taken");
            }
        }
    }
}

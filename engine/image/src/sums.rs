//! Digests of a RAM block's pieces; [`digest`](super::digest) documents the file format.

use std::ops::{Range, RangeInclusive};

use twox_hash::XxHash3_64;

use super::Error;
use super::backing_file::BackingFile;
use retpath_engine::protocol::wide;

/// Piece size in bytes. A request for one page reads and checks a whole piece, which adds
/// 1.6 µs to a remote fault of 22 µs; the digests occupy 1/2048 of the memory.
pub(super) const PIECE: u64 = 16 << 10;

/// Size of a piece's digest, and of each number of a run's header, in bytes.
const SUM: usize = size_of::<u64>();

/// Maximum read size while digesting, in bytes; a multiple of every piece size.
pub(super) const READ: u64 = 1 << 20;

/// How a digest file stores the digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SumsFormat {
    /// Those of all pieces, as in images of earlier versions.
    All,
    /// Those of pieces that are not all zero, in runs.
    Runs,
}

/// The digests of a block's pieces. Takes memory only for pieces that are not all zero.
#[derive(Debug)]
pub(super) struct Sums {
    /// Piece size in bytes.
    pub(super) piece: u64,
    /// Block length in bytes.
    len: u64,
    /// In order, with a gap between any two.
    runs: Vec<Run>,
    /// Digests of zeros: of a whole piece, and of the last piece.
    zeros: [u64; 2],
}

/// Adjacent pieces that are not all zero.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// Number of the first piece.
    first: u64,
    sums: Vec<u64>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + wide(self.sums.len())
    }
}

impl Sums {
    /// Returns the digests of zeros.
    fn new(piece: u64, len: u64) -> Self {
        let last = len - len.saturating_sub(1) / piece * piece;
        let zeros = [piece, last].map(|size| {
            let size = usize::try_from(size).unwrap_or(0);
            XxHash3_64::oneshot(&vec![0; size])
        });
        Self {
            piece,
            len,
            runs: Vec::new(),
            zeros,
        }
    }

    /// Digests the data of a block's file; holes are neither read nor stored.
    pub(super) fn of(file: &BackingFile, piece: u64) -> Result<Self, Error> {
        let mut sums = Self::new(piece, file.len());
        let mut bytes = Vec::new();
        let mut at = 0;
        while let Some(data) = sums.next_data(file, at)? {
            bytes.resize(usize::try_from(data.end - data.start).unwrap_or(0), 0);
            file.read_at(data.start, &mut bytes)?;
            let piece = usize::try_from(piece).unwrap_or(usize::MAX);
            for (number, bytes) in (data.start / sums.piece..).zip(bytes.chunks(piece)) {
                sums.push(number, XxHash3_64::oneshot(bytes));
            }
            at = data.end;
        }
        file.check()?;
        Ok(sums)
    }

    /// Returns the next pieces at or after `from` that are not holes, at most [`READ`] bytes of
    /// them. `from` is a multiple of the piece size, or the block's length.
    pub(super) fn next_data(
        &self,
        file: &BackingFile,
        from: u64,
    ) -> Result<Option<Range<u64>>, Error> {
        let data = file.data_from(from)?;
        let start = data.start / self.piece * self.piece;
        let end = data.end.next_multiple_of(self.piece).min(start + READ);
        Ok((!data.is_empty()).then(|| start..end.min(self.len)))
    }

    /// Appends the digest of a piece behind all others.
    fn push(&mut self, number: u64, sum: u64) {
        if sum == self.zero(number) {
            return;
        }
        match self.runs.last_mut() {
            Some(run) if run.end() == number => run.sums.push(sum),
            _ => self.runs.push(Run {
                first: number,
                sums: vec![sum],
            }),
        }
    }

    /// Parses a digest file of a block of `len` bytes.
    pub(super) fn parse(bytes: &[u8], format: SumsFormat, piece: u64, len: u64) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<SUM>() else {
            return None;
        };
        let mut words = words.iter().copied().map(u64::from_be_bytes);
        let pieces = len.div_ceil(piece);
        let mut sums = Self::new(piece, len);
        let mut end = 0;
        while words.len() > 0 {
            let (first, count) = match format {
                SumsFormat::All => (0, pieces),
                SumsFormat::Runs => (words.next()?, words.next()?),
            };
            // Also excludes runs that overlap and empty ones.
            if first < end || count == 0 || count > wide(words.len()) {
                return None;
            }
            end = first.checked_add(count).filter(|&end| end <= pieces)?;
            for number in first..end {
                sums.push(number, words.next()?);
            }
        }
        (format == SumsFormat::Runs || end == pieces).then_some(sums)
    }

    /// Returns the possible lengths of a digest file of a block of `len` bytes.
    pub(super) fn file_len(format: SumsFormat, piece: u64, len: u64) -> RangeInclusive<u64> {
        let pieces = len.div_ceil(piece);
        let all = pieces * wide(SUM);
        match format {
            SumsFormat::All => all..=all,
            // One piece, and every other one.
            SumsFormat::Runs => 3 * wide(SUM)..=pieces.div_ceil(2) * 3 * wide(SUM),
        }
    }

    /// Returns the content of the digest file, as [`SumsFormat::Runs`].
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let words = self.runs.iter().flat_map(|run| {
            let head = [run.first, wide(run.sums.len())];
            head.into_iter().chain(run.sums.iter().copied())
        });
        words.flat_map(u64::to_be_bytes).collect()
    }

    /// Returns the offsets of pieces whose bytes do not match their digests. `offset` is a multiple of
    /// the piece size, and the bytes are whole pieces.
    pub(super) fn wrong(&self, offset: u64, bytes: &[u8]) -> impl Iterator<Item = u64> {
        let piece = usize::try_from(self.piece).unwrap_or(usize::MAX);
        let pieces = (offset / self.piece..).zip(bytes.chunks(piece));
        pieces
            .filter(|(number, bytes)| self.sum(*number) != XxHash3_64::oneshot(bytes))
            .map(|(number, _)| number * self.piece)
    }

    /// Returns the offsets of pieces within a range that contained nonzero bytes.
    pub(super) fn nonzero(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        let (first, end) = (range.start / self.piece, range.end.div_ceil(self.piece));
        let before = self.runs.partition_point(|run| run.end() <= first);
        let runs = self.runs[before..].iter();
        runs.take_while(move |run| run.first < end)
            .flat_map(move |run| run.first.max(first)..run.end().min(end))
            .map(|number| number * self.piece)
    }

    fn sum(&self, number: u64) -> u64 {
        let before = self.runs.partition_point(|run| run.end() <= number);
        let run = self.runs.get(before).filter(|run| run.first <= number);
        let at = run.and_then(|run| Some((run, usize::try_from(number - run.first).ok()?)));
        let sum = at.and_then(|(run, at)| run.sums.get(at)).copied();
        sum.unwrap_or_else(|| self.zero(number))
    }

    /// Returns the digest of this piece if it is all zero.
    fn zero(&self, number: u64) -> u64 {
        let [whole, last] = self.zeros;
        match (number + 1) * self.piece >= self.len {
            true => last,
            false => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use super::super::folder::Folder;
    use super::*;

    #[test]
    fn sums_are_those_of_other_tools() {
        // As printed by xxhsum -H3.
        assert_eq!(XxHash3_64::oneshot(b"abc"), 0x78af_5f94_892f_3950);
    }

    /// Creates a file with data in bytes 20480 to 24575, in 5 pieces of which the last is short.
    fn sparse() -> (tempfile::NamedTempFile, BackingFile) {
        let file = tempfile::NamedTempFile::new().expect("temporary file can be created");
        let len = 4 * PIECE + 4096;
        file.as_file().set_len(len).expect("file is writable");
        let written = file.as_file().write_all_at(&[7; 4096], PIECE + 4096);
        written.expect("file is writable");
        let (folder, name) = (file.path().parent(), file.path().file_name());
        let folder = Folder::open(folder.expect("it has one")).expect("folder exists");
        let name = name.and_then(|name| name.to_str()).expect("name is UTF-8");
        let opened = BackingFile::open(&Arc::new(folder), name, len).expect("file is complete");
        (file, opened)
    }

    #[test]
    fn stores_no_digests_of_holes() {
        let (file, opened) = sparse();
        let sums = Sums::of(&opened, PIECE).expect("file is readable");
        let bytes = std::fs::read(file.path()).expect("file is readable");
        assert_eq!(sums.to_bytes().len(), 3 * SUM, "one run of one piece");
        assert_eq!(sums.wrong(0, &bytes).next(), None);
        assert!(sums.nonzero(0..5 * PIECE).eq([PIECE]));
        let end = 4 * PIECE + 4096;
        assert_eq!(sums.nonzero(2 * PIECE..end).next(), None);
    }

    #[test]
    fn reads_the_digests_of_both_formats() {
        let (file, opened) = sparse();
        let sums = Sums::of(&opened, PIECE).expect("file is readable");
        let bytes = std::fs::read(file.path()).expect("file is readable");
        let size = usize::try_from(PIECE).expect("fits in usize");
        let all = bytes.chunks(size).map(XxHash3_64::oneshot);
        let all: Vec<u8> = all.flat_map(u64::to_be_bytes).collect();
        for (bytes, format) in [(sums.to_bytes(), SumsFormat::Runs), (all, SumsFormat::All)] {
            let again = Sums::parse(&bytes, format, PIECE, opened.len()).expect("valid");
            assert_eq!(again.runs, sums.runs);
            assert_eq!(again.zeros, sums.zeros);
        }
    }

    #[test]
    fn finds_every_piece_of_every_run() {
        let pieces = 9;
        for set in 0..1_u64 << pieces {
            let is_set = |number: u64| set & 1 << number != 0;
            let mut sums = Sums::new(PIECE, pieces * PIECE);
            for number in 0..pieces {
                let zero = sums.zero(number);
                sums.push(number, if is_set(number) { number } else { zero });
            }
            for number in 0..pieces {
                let want = if is_set(number) {
                    number
                } else {
                    sums.zero(number)
                };
                assert_eq!(sums.sum(number), want);
                let found = sums.nonzero(number * PIECE..pieces * PIECE);
                let want = (number..pieces).filter(|number| is_set(*number));
                assert!(found.eq(want.map(|number| number * PIECE)), "{set:b}");
            }
            let bytes = sums.to_bytes();
            let lengths = Sums::file_len(SumsFormat::Runs, PIECE, pieces * PIECE);
            assert!(set == 0 || lengths.contains(&wide(bytes.len())));
            let again = Sums::parse(&bytes, SumsFormat::Runs, PIECE, pieces * PIECE);
            assert_eq!(again.expect("valid").runs, sums.runs);
        }
    }

    #[test]
    fn finds_the_pieces_that_differ() {
        let (file, opened) = sparse();
        let sums = Sums::of(&opened, PIECE).expect("file is readable");
        let mut bytes = std::fs::read(file.path()).expect("file is readable");
        let last = bytes.len() - 1;
        bytes[last] = 1;
        assert!(sums.wrong(0, &bytes).eq([4 * PIECE]));
        let start = usize::try_from(3 * PIECE).expect("fits in usize");
        bytes[start] ^= 0x80;
        let wrong = sums.wrong(PIECE, &bytes[start / 3..]);
        assert!(wrong.eq([3 * PIECE, 4 * PIECE]));
    }

    #[test]
    fn refuses_sums_of_another_length() {
        for (words, pieces, fits) in [(2, 1, false), (1, 1, true), (0, 1, false), (1, 2, false)] {
            let bytes = vec![0; words * SUM];
            let sums = Sums::parse(&bytes, SumsFormat::All, PIECE, pieces * PIECE);
            assert_eq!(sums.is_some(), fits, "{words} {pieces}");
        }
        assert!(Sums::parse(&[0; 9], SumsFormat::All, PIECE, PIECE).is_none());
    }

    #[test]
    fn refuses_runs_that_are_empty_cut_overlapping_or_outside() {
        for (words, fits) in [
            (&[][..], true),
            (&[2, 1, 7], true),
            (&[0, 1, 7, 1, 2, 7, 7], true),
            (&[0], false),
            (&[0, 0], false),
            (&[0, 2, 7], false),
            (&[0, 2, 7, 7, 1, 1, 7], false),
            (&[2, 2, 7, 7], false),
            (&[3, 1, 7], false),
            (&[u64::MAX, 1, 7], false),
            (&[0, u64::MAX, 7], false),
        ] {
            let bytes: Vec<u8> = words
                .iter()
                .flat_map(|word: &u64| word.to_be_bytes())
                .collect();
            let sums = Sums::parse(&bytes, SumsFormat::Runs, PIECE, 3 * PIECE);
            assert_eq!(sums.is_some(), fits, "{words:?}");
        }
    }
}

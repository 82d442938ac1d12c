//! Reads a block's RAM from an open image and verifies it.
//!
//! ```text
//!  pieces     |      0      |      1      |      2      |      3      |
//!  requested            |———————————————————————————————————|
//!  read                 part      whole         whole   part
//! ```
//!
//! Pieces requested as a whole are read directly into the caller's buffer and verified there. The
//! pieces at the ends are read and verified completely, and the requested part is copied. They are
//! cached, because the rest of such a piece is usually requested next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Error;
use super::backing_file::BackingFile;
use super::folder::Folder;
use super::sums::Sums;
use retpath_engine::protocol::wide;

/// Maximum number of cached pieces per block: several for each QEMU being served.
const KEPT: usize = 8;

/// The file of a RAM block being served.
#[derive(Debug)]
pub(super) struct RamReader {
    file: BackingFile,
    /// Digests to verify against, unless verification is off.
    sums: Option<Sums>,
    /// The hole found last; requests are usually sequential.
    hole: Mutex<Range<u64>>,
    /// Verified pieces, oldest first.
    kept: Mutex<VecDeque<Piece>>,
}

#[derive(Debug, Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

impl RamReader {
    /// Opens and locks a block's file.
    ///
    /// # Errors
    ///
    /// Fails as [`BackingFile::open`] and [`BackingFile::lock`] do.
    pub(super) fn open(
        folder: &Arc<Folder>,
        name: &str,
        len: u64,
        sums: Option<Sums>,
    ) -> Result<Self, Error> {
        let file = BackingFile::open(folder, name, len)?;
        file.lock()?;
        Ok(Self {
            file,
            sums,
            hole: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    /// See [`BackingFile::stored`].
    pub(super) fn stored(&self) -> u64 {
        self.file.stored()
    }

    /// Reads and verifies bytes into `out`.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Range`], if the file was changed or cannot be read, or if its bytes do not
    /// match their digests. The content of `out` is then unspecified.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(wide(out.len()));
        let end = end.filter(|&end| end <= self.file.len());
        let end = end.ok_or(Error::Range)?;
        let Some(sums) = &self.sums else {
            self.file.read_at(offset, out)?;
            return self.file.check();
        };
        let (mut at, mut rest) = (offset, out);
        while at < end {
            let piece = bounds(sums, self.file.len(), at);
            let is_whole = at == piece.start && piece.end <= end;
            let until = match is_whole {
                // The last piece is whole if the request reaches the end of the block.
                true if end == self.file.len() => end,
                true => end / sums.piece * sums.piece,
                false => piece.end.min(end),
            };
            let size = usize::try_from(until - at).unwrap_or(0);
            let (now, later) = rest.split_at_mut(size);
            match is_whole {
                true => self.read_whole(sums, at, now)?,
                false => self.read_part(sums, &piece, at, now)?,
            }
            (at, rest) = (until, later);
        }
        Ok(())
    }

    /// Reads whole pieces.
    fn read_whole(&self, sums: &Sums, at: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read_at(at, out)?;
        // Check for changes first: that error explains mismatching bytes better.
        self.file.check()?;
        match sums.wrong(at, out).next() {
            None => Ok(()),
            Some(start) => Err(self.damaged(sums, start)),
        }
    }

    /// Reads a part of the piece at `bounds`.
    fn read_part(
        &self,
        sums: &Sums,
        bounds: &Range<u64>,
        at: u64,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let inside = usize::try_from(at - bounds.start).unwrap_or(0);
        let part = inside..inside + out.len();
        let mut kept = self.kept();
        if let Some(piece) = kept.iter().find(|piece| piece.start == bounds.start) {
            out.copy_from_slice(&piece.bytes[part]);
            drop(kept);
            return self.file.check();
        }
        let oldest = if kept.len() < KEPT {
            None
        } else {
            kept.pop_front()
        };
        drop(kept);
        let mut piece = oldest.unwrap_or_default();
        piece.start = bounds.start;
        let size = usize::try_from(bounds.end - bounds.start).unwrap_or(0);
        piece.bytes.resize(size, 0);
        self.read_whole(sums, piece.start, &mut piece.bytes)?;
        out.copy_from_slice(&piece.bytes[part]);
        self.kept().push_back(piece);
        Ok(())
    }

    /// Whether a range lies in a hole of the file and is zero without being read: reading holes would
    /// fill the page cache. Returns `false` unless all pieces that overlap the range are holes.
    ///
    /// # Errors
    ///
    /// Fails if the file was changed, or has a hole where the image had nonzero bytes.
    pub(super) fn is_hole(&self, offset: u64, len: u64) -> Result<bool, Error> {
        let file_len = self.file.len();
        let end = offset.checked_add(len).filter(|&end| end <= file_len);
        let Some(end) = end.filter(|&end| end > offset) else {
            return Ok(false);
        };
        let range = match &self.sums {
            None => offset..end,
            Some(sums) => bounds(sums, file_len, offset).start..bounds(sums, file_len, end - 1).end,
        };
        if !self.is_in_hole(&range)? {
            return Ok(false);
        }
        self.file.check()?;
        if let Some(sums) = &self.sums
            && let Some(start) = sums.nonzero(range).next()
        {
            return Err(self.damaged(sums, start));
        }
        Ok(true)
    }

    fn is_in_hole(&self, range: &Range<u64>) -> Result<bool, Error> {
        let holds = |hole: &Range<u64>| hole.start <= range.start && range.end <= hole.end;
        let mut last = self.hole.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds(&last) {
            *last = self.file.hole_at(range.start)?;
        }
        Ok(holds(&last))
    }

    fn damaged(&self, sums: &Sums, start: u64) -> Error {
        Error::Damaged {
            path: self.file.path(),
            offset: start,
            len: bounds(sums, self.file.len(), start).end - start,
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the range of the piece that contains `offset`, in a block of `len` bytes.
fn bounds(sums: &Sums, len: u64, offset: u64) -> Range<u64> {
    let start = offset / sums.piece * sums.piece;
    start..start.saturating_add(sums.piece).min(len)
}

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
//!
//! A page costs one system call on the file: reading its piece, whose digest proves the bytes, or, if
//! nothing is read, looking at the file's metadata. An image without digests is read page by page,
//! and each read is followed by a look at the metadata.

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
    /// The hole and the data found last, of a file without digests.
    extents: Mutex<Extents>,
    /// Verified pieces, oldest first.
    kept: Mutex<VecDeque<Piece>>,
}

/// Ranges of the file that are known to be a hole, and data. Empty if none is.
#[derive(Debug, Default)]
struct Extents {
    hole: Range<u64>,
    data: Range<u64>,
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
            extents: Mutex::default(),
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
        match sums.wrong(at, out).next() {
            None => Ok(()),
            Some(start) => {
                // That the file was changed explains the bytes better.
                self.file.check()?;
                Err(self.damaged(sums, start))
            }
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

    /// Whether a range is zero and need not be read: reading holes would fill the page cache.
    /// Digests tell it of whole pieces. Without them, the file's holes do.
    ///
    /// # Errors
    ///
    /// Fails if the file was changed.
    pub(super) fn is_hole(&self, offset: u64, len: u64) -> Result<bool, Error> {
        let file_len = self.file.len();
        let end = offset.checked_add(len).filter(|&end| end <= file_len);
        let Some(end) = end.filter(|&end| end > offset) else {
            return Ok(false);
        };
        let is_zero = match &self.sums {
            Some(sums) => sums.nonzero(offset..end).next().is_none(),
            None => self.is_in_hole(&(offset..end))?,
        };
        if is_zero {
            self.file.check()?;
        }
        Ok(is_zero)
    }

    fn is_in_hole(&self, range: &Range<u64>) -> Result<bool, Error> {
        let holds = |extent: &Range<u64>| extent.start <= range.start && range.end <= extent.end;
        let mut last = self.extents.lock().unwrap_or_else(PoisonError::into_inner);
        if last.data.contains(&range.start) {
            return Ok(false);
        }
        if !holds(&last.hole) {
            let hole = self.file.hole_at(range.start)?;
            match hole.is_empty() {
                true => last.data = self.file.data_from(range.start)?,
                false => last.hole = hole,
            }
        }
        Ok(holds(&last.hole))
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

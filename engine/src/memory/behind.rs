//! The file behind [`Frozen`] memory: where its holes are, and whether it is still the same.
//!
//! Nothing here panics. A file system that knows no holes has none; one that cannot say whether a
//! file has changed is an error.

#![deny(unsafe_code)]

use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Error, Frozen};

#[derive(Debug)]
pub(super) struct Behind {
    file: File,
    mark: Mark,
    /// The hole that was found last: neighbours are asked for one after the other.
    hole: Mutex<Range<u64>>,
}

/// What changes when a file is written or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    size: u64,
    seconds: i64,
    nanos: i64,
}

impl Mark {
    fn new(found: &Metadata) -> Self {
        Self {
            size: found.len(),
            seconds: found.mtime(),
            nanos: found.mtime_nsec(),
        }
    }
}

impl Behind {
    pub(super) fn new(file: File, found: &Metadata) -> Self {
        Self {
            file,
            mark: Mark::new(found),
            hole: Mutex::default(),
        }
    }

    /// The hole at `offset`, up to its end; empty if there is data.
    fn hole_at(&self, offset: u64) -> Range<u64> {
        let end = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // No data from here to the end.
            Err(Errno::NXIO) => self.mark.size,
            Err(_) => offset,
        };
        offset..end
    }
}

impl Frozen {
    /// Whether the bytes lie in a hole of the file, and so are zero. They are not looked at, for
    /// that would fill the page cache with zeros.
    pub fn is_hole(&self, offset: u64, len: u64) -> bool {
        let Some(behind) = &self.file else {
            return false;
        };
        let Some(end) = offset.checked_add(len).filter(|&end| end <= self.len()) else {
            return false;
        };
        let holds = |hole: &Range<u64>| hole.start <= offset && end <= hole.end;
        let mut last = behind.hole.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds(&last) {
            *last = behind.hole_at(offset);
        }
        holds(&last)
    }

    /// Bytes that are in the file, those of its holes not counted; all of them if there is no file.
    /// It takes two system calls for each hole.
    pub fn stored(&self) -> u64 {
        let Some(behind) = &self.file else {
            return self.len();
        };
        let (mut at, mut stored) = (0, 0);
        while at < self.len() {
            let start = behind.hole_at(at).end.min(self.len());
            let end = rustix::fs::seek(&behind.file, SeekFrom::Hole(start));
            // A file system that knows no holes, or a file that was cut just now.
            let end = end.ok().filter(|&end| end > start);
            let end = end.unwrap_or(self.len()).min(self.len());
            stored += end - start;
            at = end;
        }
        stored
    }

    /// Checks that nobody has written or cut the file since it was mapped. A cut that comes between
    /// this check and a look at the bytes still ends the process with SIGBUS.
    ///
    /// # Errors
    /// [`Error::Changed`]; or the file cannot be asked.
    pub fn check(&self) -> Result<(), Error> {
        let Some(behind) = &self.file else {
            return Ok(());
        };
        let found = behind.file.metadata().map_err(|source| Error::System {
            doing: "looking at a mapped file",
            source,
        })?;
        if Mark::new(&found) != behind.mark {
            return Err(Error::Changed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const PAGE: u64 = 4096;

    /// Data in page 2 of 8; the rest is one hole before it and one behind.
    fn sparse() -> (File, Frozen) {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8 * PAGE).expect("room");
        file.write_all_at(&[7; 4096], 2 * PAGE).expect("room");
        let map = Frozen::map(file.try_clone().expect("a descriptor"), 8 * PAGE);
        (file, map.expect("a whole file"))
    }

    #[test]
    fn tells_holes_from_data_in_any_order() {
        let (_file, map) = sparse();
        for _ in 0..2 {
            for (first, count, hole) in [
                (0, 2, true),
                (0, 3, false),
                (2, 1, false),
                (3, 5, true),
                (1, 1, true),
                (7, 1, true),
                (7, 2, false),
            ] {
                let found = map.is_hole(first * PAGE, count * PAGE);
                assert_eq!(found, hole, "{count} pages from {first}");
            }
        }
        assert!(!map.is_hole(u64::MAX, 2));
        assert_eq!(map.stored(), PAGE);
    }

    #[test]
    fn notices_that_a_file_was_cut_or_written() {
        let (file, map) = sparse();
        assert!(map.check().is_ok());
        file.set_len(7 * PAGE).expect("a shorter file");
        assert!(matches!(map.check(), Err(Error::Changed)));

        let (file, map) = sparse();
        let later = std::time::SystemTime::UNIX_EPOCH;
        file.set_modified(later).expect("our file");
        assert!(matches!(map.check(), Err(Error::Changed)));
    }
}

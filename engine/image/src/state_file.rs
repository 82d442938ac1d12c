//! Append-only files of device state. A file cannot be synced after a failed write, so
//! a torn file never becomes part of an image.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::folder::Folder;
use super::tail::{self, Split};
use super::{Error, MAX_DEVICE_STATE};
use retpath_engine::protocol::wide;

/// An append-only file.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    pub(super) len: u64,
    /// Maximum of `len`.
    pub(super) limit: u64,
    /// Offset of the last zero byte that was appended.
    last_zero: Option<u64>,
    /// Whether a write failed, so that later bytes are at the wrong offset.
    torn: bool,
}

impl StateFile {
    pub(super) fn new(folder: &Folder, name: &str) -> Result<Self, Error> {
        Ok(Self {
            path: folder.path().join(name),
            file: folder.create(name)?,
            len: 0,
            limit: MAX_DEVICE_STATE,
            last_zero: None,
            torn: false,
        })
    }

    /// Opens the file that another process left behind, and truncates it to `len`.
    pub(super) fn open(folder: &Folder, name: &str, len: u64) -> Result<Self, Error> {
        let mut state = Self {
            path: folder.path().join(name),
            file: folder.file(name, OFlags::RDWR)?,
            len: 0,
            limit: MAX_DEVICE_STATE,
            last_zero: None,
            torn: false,
        };
        let size = state.file.metadata();
        if size.map_err(Error::io("looking at", &state.path))?.len() < len {
            return Err(Error::File {
                path: state.path,
                why: format!("the file is shorter than {len} bytes"),
            });
        }
        state.truncate(len)?;
        Ok(state)
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.len.saturating_add(wide(bytes.len())) > self.limit {
            return Err(Error::StateLimit {
                path: self.path.clone(),
                limit: self.limit,
            });
        }
        let written = self.file.write_all(bytes);
        self.torn |= written.is_err();
        written.map_err(Error::io("writing", &self.path))?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == 0) {
            self.last_zero = Some(self.len + wide(at));
        }
        self.len += wide(bytes.len());
        Ok(())
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, Error> {
        self.read_range(0..self.len)
    }

    fn read_range(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let len = range.end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        let read = self.file.read_exact_at(&mut bytes, range.start);
        read.map_err(Error::io("reading", &self.path))?;
        Ok(bytes)
    }

    /// Finds the end of device state in a stream without footers; see [`tail`](super::tail).
    /// Reads a few bytes, and the description if that is complete: what was received before
    /// is not read again, however often this is asked.
    pub(super) fn split(&self) -> Result<Option<Split>, Error> {
        let Some(zero) = self.last_zero else {
            return Ok(None);
        };
        let start = zero.saturating_sub(wide(tail::HEAD) - 1);
        let head = self.read_range(start..self.len.min(zero + wide(tail::HEAD) + 1))?;
        let Some(at) = tail::find(&head, self.len - start) else {
            return Ok((zero + 1 == self.len).then_some(Split {
                len: zero,
                description: None,
            }));
        };
        let len = start + wide(at);
        let text = len + wide(tail::HEAD);
        Ok(Some(Split {
            len,
            description: Some(self.read_range(text..self.len)?),
        }))
    }

    pub(super) fn truncate(&mut self, len: u64) -> Result<(), Error> {
        let done = self
            .file
            .set_len(len)
            .and_then(|()| io::Seek::seek(&mut self.file, io::SeekFrom::Start(len)));
        done.map_err(Error::io("cutting", &self.path))?;
        self.len = len;
        self.last_zero = None;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        if self.torn {
            return Err(Error::File {
                path: self.path.clone(),
                why: "an earlier write to it failed".into(),
            });
        }
        let failed = Error::io("syncing", &self.path);
        self.file.sync_all().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_no_more_than_can_be_served() {
        let temporary = tempfile::tempdir().expect("temporary folder can be created");
        let folder = Folder::open(temporary.path()).expect("folder exists");
        let mut file = StateFile::new(&folder, "state").expect("folder is writable");
        // A hole: the disk need not hold it.
        let sparse = file.truncate(MAX_DEVICE_STATE - 1);
        sparse.expect("files may have 4 GiB");
        file.append(&[1]).expect("within the limit");
        let more = file.append(&[1]);
        let limit = MAX_DEVICE_STATE;
        assert!(matches!(more, Err(Error::StateLimit { limit: found, .. }) if found == limit));
        file.sync().expect("the refused byte has torn nothing");
    }
}

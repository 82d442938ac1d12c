//! A file of an open image, with reads that detect concurrent changes.
//!
//! Files are read with pread(2) and never mapped: a mapping changes under its reader, and the
//! process dies of SIGBUS if the file is truncated.
//!
//! Each read is followed by a check of the file's metadata. Linux sets a file's change time before
//! it writes or truncates, so bytes read before a successful check are valid. Unlike the
//! modification time (`cp -p`, `rsync -t`), the change time cannot be set back.

use std::fs::{Metadata, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::Error;
use super::folder::{Folder, FolderFile};
use retpath_engine::protocol::wide;

/// A file that must not change while it is read.
#[derive(Debug)]
pub(super) struct BackingFile {
    file: FolderFile,
    mark: Mutex<Mark>,
    len: u64,
}

/// File metadata that changes when a file is written, truncated or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    links: u64,
}

impl Mark {
    fn new(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            links: found.nlink(),
        }
    }

    /// Whether only the link count changed, which also sets the change time. An open file that is
    /// deleted or replaced keeps its bytes and may be the only copy left.
    fn is_renamed(self, now: Self) -> bool {
        let Self { changed, links, .. } = now;
        links != self.links
            && now
                == Self {
                    changed,
                    links,
                    ..self
                }
    }
}

impl BackingFile {
    /// Opens a file that must have `len` bytes.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::File`], [`Error::Truncated`] or [`Error::Io`].
    pub(super) fn open(folder: &Arc<Folder>, name: &str, len: u64) -> Result<Self, Error> {
        let file = FolderFile::open(folder, name, OFlags::RDONLY)?;
        let found = file.get()?.metadata();
        let found = found.map_err(Error::io("looking at", &file.path()))?;
        let size = found.len();
        if size < len {
            let path = file.path();
            return Err(Error::Truncated { path, size, len });
        }
        if size > len {
            return Err(Error::File {
                path: file.path(),
                why: format!(
                    "the file has {size} bytes, but the manifest says {len}: it has been changed"
                ),
            });
        }
        Ok(Self {
            file,
            mark: Mutex::new(Mark::new(&found)),
            len,
        })
    }

    /// Takes the shared flock(2) lock while the file is held open; the writer of an image holds the
    /// exclusive lock.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Busy`]. A file system without locks is accepted: the lock is advisory.
    pub(super) fn lock(&self) -> Result<(), Error> {
        match self.file.get()?.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: self.path() }),
            _ => Ok(()),
        }
    }

    /// Returns the path at which the file was opened.
    pub(super) fn path(&self) -> PathBuf {
        self.file.path()
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out` from the file. Use the bytes only after [`BackingFile::check`] succeeds.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Changed`] if the file is too short, and with [`Error::ReadAt`].
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let Err(error) = self.file.get()?.read_exact_at(out, offset) else {
            return Ok(());
        };
        if error.kind() == io::ErrorKind::UnexpectedEof {
            self.check()?;
        }
        Err(Error::ReadAt {
            path: self.path(),
            offset,
            len: wide(out.len()),
            error,
        })
    }

    /// Checks that the file has not been written or truncated since it was opened.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Changed`], or if the metadata cannot be read.
    pub(super) fn check(&self) -> Result<(), Error> {
        let found = self.file.get()?.metadata();
        let now = Mark::new(&found.map_err(Error::io("looking at", &self.path()))?);
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *mark {
            return Ok(());
        }
        if mark.is_renamed(now) {
            *mark = now;
            return Ok(());
        }
        Err(Error::Changed { path: self.path() })
    }

    /// See [`FolderFile::hole_at`].
    pub(super) fn hole_at(&self, offset: u64) -> Result<Range<u64>, Error> {
        self.file.hole_at(offset, self.len)
    }

    /// See [`FolderFile::data_from`].
    pub(super) fn data_from(&self, from: u64) -> Result<Range<u64>, Error> {
        self.file.data_from(from, self.len)
    }

    /// Returns the number of bytes allocated outside of holes.
    pub(super) fn stored(&self) -> u64 {
        let (mut at, mut stored) = (0, 0);
        while let Ok(data) = self.data_from(at)
            && !data.is_empty()
        {
            stored += data.end - data.start;
            at = data.end;
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;

    const PAGE: u64 = 4096;

    /// Creates a file of 8 pages with data in page 2 and holes before and after it.
    fn sparse() -> (tempfile::TempDir, PathBuf, BackingFile) {
        let folder = tempfile::tempdir().expect("temporary folder can be created");
        let path = folder.path().join("ram");
        let file = File::create(&path).expect("file can be created");
        file.set_len(8 * PAGE).expect("file is writable");
        file.write_all_at(&[7; 4096], 2 * PAGE)
            .expect("file is writable");
        // File timestamps are coarse: make the file older than every later change.
        let old = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        file.set_times(old).expect("file is writable");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let opened = Folder::open(folder.path()).expect("folder exists");
        let opened = BackingFile::open(&Arc::new(opened), "ram", 8 * PAGE);
        let opened = opened.expect("file is complete");
        (folder, path, opened)
    }

    fn writable(path: &Path) -> File {
        File::options()
            .write(true)
            .open(path)
            .expect("file is writable")
    }

    #[test]
    fn tells_holes_from_data() {
        let (_folder, _, file) = sparse();
        for (at, end) in [(0, 2), (1, 2), (2, 2), (3, 8), (7, 8)] {
            let hole = file.hole_at(at * PAGE).expect("file is readable");
            assert_eq!(hole, at * PAGE..end * PAGE);
        }
        for (from, data) in [(0, 2..3), (2, 2..3), (3, 8..8), (8, 8..8)] {
            let found = file.data_from(from * PAGE).expect("file is readable");
            assert_eq!(found, data.start * PAGE..data.end * PAGE);
        }
        assert_eq!(file.stored(), PAGE);
    }

    #[test]
    fn notices_every_way_to_change_bytes() {
        type Harm = fn(&Path);
        let harms: [Harm; 3] = [
            |path| {
                writable(path)
                    .write_all_at(&[1], 0)
                    .expect("file is writable")
            },
            |path| writable(path).set_len(7 * PAGE).expect("file is writable"),
            // Truncate and extend again, and restore the modification time.
            |path| {
                let file = writable(path);
                file.set_len(0).expect("file is writable");
                file.set_len(8 * PAGE).expect("file is writable");
                let old = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
                file.set_times(old).expect("file is writable");
            },
        ];
        for harm in harms {
            let (_folder, path, file) = sparse();
            file.check().expect("file is unchanged");
            harm(&path);
            assert!(matches!(file.check(), Err(Error::Changed { .. })));
        }
    }

    #[test]
    fn reading_what_was_cut_off_says_that_the_file_changed() {
        let (_folder, path, file) = sparse();
        writable(&path).set_len(PAGE).expect("file is writable");
        let error = file.read_at(PAGE, &mut [0; 16]).expect_err("not there");
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }

    #[test]
    fn keeps_the_bytes_of_a_file_that_is_deleted_or_replaced() {
        let (folder, path, file) = sparse();
        fs::hard_link(&path, folder.path().join("copy")).expect("folder is writable");
        file.check().expect("only a link was added");
        fs::write(folder.path().join("new"), "new").expect("folder is writable");
        fs::rename(folder.path().join("new"), &path).expect("folder is writable");
        file.check().expect("only a link was removed");
        fs::remove_file(folder.path().join("copy")).expect("folder is writable");
        let mut page = [0; 4096];
        file.read_at(2 * PAGE, &mut page)
            .expect("open file keeps its bytes");
        file.check().expect("only a link was removed");
        assert_eq!(page, [7; 4096]);
    }
}

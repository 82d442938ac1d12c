//! Folders and their files, reached through the folder's descriptor.
//!
//! Files are named relative to the descriptor, so that nobody can swap a folder for
//! another between two steps. Opening never follows a symbolic link and never waits, as
//! opening a named pipe would; whatever is not a regular file is refused. New files are
//! accessible only to their owner, because guest memory is secret.
//!
//! A machine may have thousands of RAM blocks and a process far fewer descriptors. An
//! image therefore holds [`MAX_HELD`] of its RAM files open, and opens the others each
//! time they are used: see [`FolderFile`]. Removing a folder needs no descriptor at all.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, SeekFrom};
use rustix::fs::{fchmod, flock, openat, seek, statat, unlinkat};
use rustix::io::Errno;

use super::Error;

/// Maximum number of RAM files that an image holds open. More than machines have, and few
/// enough for a process that may open 256 files.
pub(super) const MAX_HELD: usize = 128;

/// Access rights of files and of folders.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
pub(super) const PRIVATE_FOLDER: Mode = Mode::RWXU;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// Its path when it was opened, for messages.
    path: PathBuf,
    /// Number of files that are held open.
    held: AtomicUsize,
}

impl Folder {
    /// Opens a folder to use its files; needs only the right to search it. Follows a
    /// symbolic link: the user chose the path.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::open_as(rustix::fs::CWD, path.as_os_str(), path, OFlags::PATH)
    }

    /// Opens a folder to list, lock and sync it, as well.
    pub(super) fn open_listable(path: &Path) -> io::Result<Self> {
        Self::open_as(rustix::fs::CWD, path.as_os_str(), path, OFlags::RDONLY)
    }

    /// Opens a folder inside this one to list, lock and sync it, as well.
    pub(super) fn subfolder(&self, name: &OsStr) -> io::Result<Self> {
        let access = OFlags::RDONLY | OFlags::NOFOLLOW;
        Self::open_as(self.fd.as_fd(), name, &self.path.join(name), access)
    }

    fn open_as(at: BorrowedFd<'_>, name: &OsStr, path: &Path, access: OFlags) -> io::Result<Self> {
        let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: openat(at, name, flags, Mode::empty())?,
            path: path.to_owned(),
            held: AtomicUsize::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file, with [`OFlags::RDONLY`] or [`OFlags::RDWR`].
    pub(super) fn file(&self, name: &str, access: OFlags) -> Result<File, Error> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let wrong = |why: &str| Error::File {
            path: self.path.join(name),
            why: why.into(),
        };
        let file: File = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(Errno::LOOP) => {
                return Err(wrong("a symbolic link; an image holds its own files"));
            }
            Err(Errno::NOENT) => {
                return Err(wrong("the file is missing, but the manifest names it"));
            }
            // What a socket answers, and a device without a driver.
            Err(Errno::NXIO | Errno::NODEV | Errno::ISDIR) => {
                return Err(wrong("not a regular file"));
            }
            Err(errno) => return Err(Error::io("opening", &self.path.join(name))(errno.into())),
        };
        match self.metadata(&file, name)?.is_file() {
            true => Ok(file),
            false => Err(wrong("not a regular file")),
        }
    }

    /// Creates a file for reading and writing.
    pub(super) fn create(&self, name: &str) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, PRIVATE_FILE) {
            Ok(fd) => {
                make_private(&fd, PRIVATE_FILE);
                Ok(fd.into())
            }
            Err(errno) => Err(Error::io("making", &self.path.join(name))(errno.into())),
        }
    }

    /// Creates or replaces a file atomically.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let new = format!("{name}.new");
        self.remove(&new)?;
        let mut file = self.create(&new)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(Error::io("writing", &self.path.join(&new)))?;
        let renamed = rustix::fs::renameat(&self.fd, &new, &self.fd, name);
        renamed.map_err(|errno| Error::io("naming", &self.path.join(name))(errno.into()))
    }

    /// Removes a file, if there is one.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("removing", &self.path.join(name))(errno.into())),
        }
    }

    /// Opens a regular file for reading; also returns its size.
    pub(super) fn file_and_size(&self, name: &str) -> Result<(File, u64), Error> {
        let file = self.file(name, OFlags::RDONLY)?;
        let size = self.metadata(&file, name)?.len();
        Ok((file, size))
    }

    /// Whether there certainly is nothing with this name.
    pub(super) fn lacks(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT)
    }

    /// Whether there is something with this name.
    pub(super) fn has(&self, name: impl AsRef<OsStr>) -> bool {
        statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether the name refers to a regular file.
    pub(super) fn has_file(&self, name: &str) -> bool {
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
    }

    /// Names of everything in a listable folder. Opens no descriptor.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        seek(&self.fd, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(&self.fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Removes every file of a listable folder. Opens no descriptor, so that it also works
    /// for a process that has none left.
    pub(super) fn clear(&self) -> io::Result<()> {
        for name in self.names()? {
            unlinkat(&self.fd, &*name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Takes the exclusive flock(2) lock of a listable folder, without waiting.
    pub(super) fn lock(&self) -> rustix::io::Result<()> {
        flock(&self.fd, FlockOperation::NonBlockingLockExclusive)
    }

    /// Syncs everything on the file system of a listable folder.
    pub(super) fn sync_file_system(&self) -> Result<(), Error> {
        let failed = Error::io("syncing the file system of", &self.path);
        rustix::fs::syncfs(&self.fd).map_err(|errno| failed(errno.into()))
    }

    /// Allows access only to the owner.
    pub(super) fn make_private(&self) {
        make_private(&self.fd, PRIVATE_FOLDER);
    }

    fn metadata(&self, file: &File, name: &str) -> Result<Metadata, Error> {
        let failed = Error::io("looking at", &self.path.join(name));
        file.metadata().map_err(failed)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Restores what the umask took from the owner, and takes what others had. Best effort: a
/// file system may have no access rights, and the file may be another user's.
fn make_private(fd: impl AsFd, mode: Mode) {
    let _ = fchmod(fd, mode);
}

/// A file of a folder: one of the first [`MAX_HELD`] stays open and locked; a later one is
/// opened each time it is used.
#[derive(Debug)]
pub(super) struct FolderFile {
    folder: Arc<Folder>,
    name: String,
    access: OFlags,
    /// Device and inode: opening the name again must find the same file.
    id: (u64, u64),
    held: Option<File>,
}

/// An open file.
pub(super) enum Opened<'a> {
    Held(&'a File),
    Now(File),
}

impl Deref for Opened<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Self::Held(file) => file,
            Self::Now(file) => file,
        }
    }
}

impl FolderFile {
    /// Opens a regular file, with [`OFlags::RDONLY`] or [`OFlags::RDWR`].
    pub(super) fn open(folder: &Arc<Folder>, name: &str, access: OFlags) -> Result<Self, Error> {
        let file = folder.file(name, access)?;
        if access == OFlags::RDWR {
            make_private(&file, PRIVATE_FILE);
        }
        Self::new(folder, name, access, file)
    }

    /// Creates a file for reading and writing.
    pub(super) fn create(folder: &Arc<Folder>, name: &str) -> Result<Self, Error> {
        Self::new(folder, name, OFlags::RDWR, folder.create(name)?)
    }

    fn new(folder: &Arc<Folder>, name: &str, access: OFlags, file: File) -> Result<Self, Error> {
        let found = folder.metadata(&file, name)?;
        let is_held = folder.held.fetch_add(1, Relaxed) < MAX_HELD;
        if !is_held {
            folder.held.fetch_sub(1, Relaxed);
        }
        Ok(Self {
            folder: Arc::clone(folder),
            name: name.to_owned(),
            access,
            id: (found.dev(), found.ino()),
            held: is_held.then_some(file),
        })
    }

    /// The open file.
    ///
    /// # Errors
    ///
    /// Fails if it is not held and cannot be opened, or with [`Error::Changed`] if the name
    /// refers to another file now.
    pub(super) fn get(&self) -> Result<Opened<'_>, Error> {
        if let Some(file) = &self.held {
            return Ok(Opened::Held(file));
        }
        let file = self.folder.file(&self.name, self.access)?;
        let found = self.folder.metadata(&file, &self.name)?;
        match self.id == (found.dev(), found.ino()) {
            true => Ok(Opened::Now(file)),
            false => Err(Error::Changed { path: self.path() }),
        }
    }

    /// Returns the hole at `offset` up to its end, or an empty range if there is data, in a file of
    /// `len` bytes. On a file system without holes, the range is always empty.
    ///
    /// # Errors
    ///
    /// [`Error::ReadAt`].
    pub(super) fn hole_at(&self, offset: u64, len: u64) -> Result<Range<u64>, Error> {
        let end = match seek(&*self.get()?, SeekFrom::Data(offset)) {
            Ok(data) => data.min(len),
            // There is no data from here to the end.
            Err(Errno::NXIO) => len,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => offset,
            Err(errno) => {
                return Err(Error::ReadAt {
                    path: self.path(),
                    offset,
                    len: len - offset,
                    error: errno.into(),
                });
            }
        };
        Ok(offset..end.max(offset))
    }

    /// Returns the next data at or after `from` up to a hole; an empty range at `len`, the end of
    /// the file, if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::ReadAt`].
    pub(super) fn data_from(&self, from: u64, len: u64) -> Result<Range<u64>, Error> {
        let start = self.hole_at(from, len)?.end;
        let hole = seek(&*self.get()?, SeekFrom::Hole(start));
        // The file system has no holes, or the file was just truncated.
        let end = hole.ok().filter(|&end| end > start);
        Ok(start..end.unwrap_or(len).min(len))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path.join(&self.name)
    }
}

impl Drop for FolderFile {
    fn drop(&mut self) {
        if self.held.is_some() {
            self.folder.held.fetch_sub(1, Relaxed);
        }
    }
}

//! The temporary folder in which an image is created.
//!
//! It is a sibling of the final folder, so that one rename publishes the image. Dropping
//! the writer removes it, unless it is marked to stay because it may hold the only copy
//! of a guest; that needs no further descriptor. A killed process leaves it behind, recognizable by its name. The writing
//! process holds a lock on it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::folder::{Folder, PRIVATE_FOLDER};
use super::{Error, MANIFEST, UNFINISHED};

/// Separates an image's name from the process ID.
const MARK: &str = ".incomplete-";

/// Maximum number of names tried; each taken name stems from a killed process with the
/// same ID.
const TRIES: u32 = 1000;

/// A folder that is removed on drop unless it was renamed or must stay.
#[derive(Debug)]
pub(super) struct Temporary {
    out: PathBuf,
    /// The folder that contains `out`.
    target: Folder,
    /// The folder that contains the temporary folder; `None` if it is `target`.
    elsewhere: Option<Folder>,
    path: PathBuf,
    /// Holds the flock(2) lock.
    folder: Arc<Folder>,
    stays: bool,
}

impl Temporary {
    /// Creates the folder for an image that will be `out`.
    pub(super) fn new(out: &Path) -> Result<Self, Error> {
        let (parent, name) = split(out)?;
        let failed = Error::io("making the folder", &parent.join(temporary_name(name, 0)));
        let target = Folder::open(&parent).map_err(failed)?;
        if target.has(name) {
            return Err(Error::Exists { path: out.into() });
        }
        let (name, folder) = make(&target, name)?;
        // The lock is advisory: accept file systems without locks.
        let _ = folder.lock();
        Ok(Self {
            out: out.into(),
            target,
            elsewhere: None,
            path: parent.join(name),
            folder: Arc::new(folder),
            stays: false,
        })
    }

    /// Takes over the folder that another process left behind. The image's name will be
    /// `out`, or the one in the folder's name.
    pub(super) fn adopt(path: &Path, out: Option<&Path>) -> Result<Self, Error> {
        let (parent, name) = split(path)?;
        let parent = Folder::open(&parent).map_err(Error::io("opening", path))?;
        let folder = match parent.subfolder(name) {
            Ok(folder) => folder,
            // A symbolic link does not count: renaming it would not rename the folder.
            Err(error) if is_no_folder(&error) => {
                return Err(Error::File {
                    path: path.into(),
                    why: "not a folder".into(),
                });
            }
            Err(error) => return Err(Error::io("opening", path)(error)),
        };
        if folder.lock() == Err(Errno::AGAIN) {
            return Err(Error::InUse { path: path.into() });
        }
        let out = match out {
            Some(out) => out.to_owned(),
            None => named_after(path)?,
        };
        let (target, name) = split(&out)?;
        let target = Folder::open(&target).map_err(Error::io("opening", &target))?;
        if target.has(name) {
            return Err(Error::Exists { path: out });
        }
        folder.make_private();
        Ok(Self {
            out,
            target,
            elsewhere: Some(parent),
            path: path.into(),
            folder: Arc::new(folder),
            stays: true,
        })
    }

    /// Returns the current path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open folder.
    pub(super) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Whether the folder has the requested name.
    pub(super) fn has_name(&self) -> bool {
        self.path == self.out
    }

    /// Whether the folder stays when this value is dropped.
    pub(super) fn set_stays(&mut self, stays: bool) {
        self.stays = stays;
    }

    /// Syncs the folder itself, which makes the names of its files durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = rustix::fs::fsync(&self.folder);
        synced.map_err(|errno| Error::io("syncing the folder", &self.path)(errno.into()))
    }

    /// Renames the folder, whose contents are synced, to its final name.
    ///
    /// The folder is always kept: with a number appended if the name is taken, and under its
    /// temporary name if the rename fails.
    ///
    /// # Errors
    ///
    /// Fails if it does not have the requested name, or if a system crash could still undo
    /// the rename; [`Temporary::path`] returns its path.
    pub(super) fn name(&mut self) -> Result<(), Error> {
        self.stays = true;
        let asked = self.out.clone();
        let renamed = match self.rename(&asked) {
            Err(error @ Error::Exists { .. }) => {
                for number in 2..TRIES {
                    let mut name = asked.clone().into_os_string();
                    name.push(format!("-{number}"));
                    match self.rename(Path::new(&name)) {
                        Err(Error::Exists { .. }) => {}
                        _ => break,
                    }
                }
                Err(error)
            }
            done => done,
        };
        // The descriptor that is open may only search the folder.
        let parent = self.target.subfolder(OsStr::new("."));
        let synced = parent.and_then(|parent| Ok(rustix::fs::fsync(&parent)?));
        renamed.and(synced.map_err(Error::io("syncing the folder", self.target.path())))
    }

    /// Renames the folder to a path beside `out`.
    fn rename(&mut self, path: &Path) -> Result<(), Error> {
        let (old, new) = (split(&self.path)?.1, split(path)?.1);
        let (from, to) = (self.parent(), &self.target);
        match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::Exists { path: path.into() }),
            // The file system does not support RENAME_NOREPLACE. Renaming a folder replaces
            // at most an empty one.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(from, old, to, new)
                .map_err(|errno| Error::io("naming", path)(errno.into()))?,
            Err(errno) => return Err(Error::io("naming", path)(errno.into())),
        }
        self.path = path.into();
        self.elsewhere = None;
        Ok(())
    }

    fn parent(&self) -> &Folder {
        self.elsewhere.as_ref().unwrap_or(&self.target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.stays
            && self.folder.clear().is_ok()
            && let Some(name) = self.path.file_name()
        {
            // A folder that cannot be removed stays recognizable by its name.
            let _ = rustix::fs::unlinkat(self.parent(), name, AtFlags::REMOVEDIR);
        }
    }
}

/// Splits a path into the parent folder and the image's name.
fn split(out: &Path) -> Result<(PathBuf, &OsStr), Error> {
    let name = out.file_name().ok_or_else(|| Error::Name {
        path: out.to_owned(),
    })?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name))
}

/// Whether opening a folder failed because something else has its name.
fn is_no_folder(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOTDIR | Errno::LOOP))
}

/// Returns the image that a temporary folder was created for.
fn named_after(path: &Path) -> Result<PathBuf, Error> {
    let wrong = || Error::Name { path: path.into() };
    let name = path.file_name().ok_or_else(wrong)?.as_bytes();
    let mark = MARK.as_bytes();
    let at = name.windows(mark.len()).rposition(|part| part == mark);
    let name = &name[..at.filter(|at| *at > 0).ok_or_else(wrong)?];
    Ok(path.with_file_name(OsString::from_vec(name.to_vec())))
}

fn temporary_name(image: &OsStr, number: u32) -> OsString {
    let mut name = image.to_owned();
    name.push(format!("{MARK}{}", std::process::id()));
    if number > 0 {
        name.push(format!("-{number}"));
    }
    name
}

/// Makes a new folder that only its owner can access, whatever the umask.
fn make(parent: &Folder, image: &OsStr) -> Result<(OsString, Folder), Error> {
    for number in 0..TRIES {
        let name = temporary_name(image, number);
        let path = parent.path().join(&name);
        match rustix::fs::mkdirat(parent, &name, PRIVATE_FOLDER) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(errno) => return Err(Error::io("making the folder", &path)(errno.into())),
        }
        // The umask may have taken rights from the owner.
        let opened = rustix::fs::chmodat(parent, &name, PRIVATE_FOLDER, AtFlags::empty())
            .map_err(io::Error::from)
            .or_else(|error| match Errno::from_io_error(&error) {
                // A file system without access rights.
                Some(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
                _ => Err(error),
            })
            .and_then(|()| parent.subfolder(&name));
        let opened = opened.inspect_err(|_| {
            // The folder is new and empty.
            let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
        });
        return Ok((name, opened.map_err(Error::io("opening", &path))?));
    }
    let error = io::ErrorKind::AlreadyExists.into();
    Err(Error::io("making a folder in", parent.path())(error))
}

/// A folder left behind by a process that was killed or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The folder.
    pub path: PathBuf,
    /// Its content.
    pub state: LeftoverState,
}

/// The content of a leftover folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverState {
    /// A complete image that only lacks its final name: rename it.
    Whole,
    /// Part of a guest's memory, received in postcopy; the rest is at the source.
    Postcopy,
    /// Nothing that the source does not also have.
    Worthless,
}

/// Finds the leftover folders of an image. Excludes folders that a process is still
/// writing, and anything that is not a folder.
pub fn leftovers(out: &Path) -> Vec<Leftover> {
    let Ok((parent, image)) = split(out) else {
        return Vec::new();
    };
    let Ok(parent) = Folder::open_listable(&parent) else {
        return Vec::new();
    };
    let prefix = [image.as_bytes(), MARK.as_bytes()].concat();
    let mut names = parent.names().unwrap_or_default();
    names.retain(|name| name.as_bytes().starts_with(&prefix));
    names.sort();
    let found = names.into_iter().filter_map(|name| {
        let folder = parent.subfolder(&name).ok()?;
        folder.lock().ok()?;
        let has = |name| folder.has_file(name);
        let state = match (has(MANIFEST), has(UNFINISHED)) {
            (true, _) => LeftoverState::Whole,
            (false, true) => LeftoverState::Postcopy,
            (false, false) => LeftoverState::Worthless,
        };
        let path = parent.path().join(&name);
        Some(Leftover { path, state })
    });
    found.collect()
}

//! The temporary folder in which an image is created.
//!
//! It is a sibling of the final folder, so that one rename publishes the image. Dropping
//! the writer removes it, unless it is marked to stay because it may hold the only copy
//! of a guest. A killed process leaves it behind, recognizable by its name. The writing
//! process holds a lock on it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

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
    parent: PathBuf,
    path: PathBuf,
    /// Holds the flock(2) lock.
    folder: File,
    stays: bool,
}

impl Temporary {
    /// Creates the folder for an image that will be `out`.
    pub(super) fn new(out: &Path) -> Result<Self, Error> {
        let (parent, name) = split(out)?;
        if fs::symlink_metadata(out).is_ok() {
            return Err(Error::Exists { path: out.into() });
        }
        let path = make(&parent, name)?;
        let folder = open_locked(&path).inspect_err(|_| {
            // The folder is new and empty.
            let _ = fs::remove_dir(&path);
        })?;
        Ok(Self {
            out: out.into(),
            parent,
            path,
            folder,
            stays: false,
        })
    }

    /// Takes over the folder that another process left behind. The image's name will be
    /// `out`, or the one in the folder's name.
    pub(super) fn adopt(path: &Path, out: Option<&Path>) -> Result<Self, Error> {
        let folder = File::open(path).map_err(Error::io("opening", path))?;
        if let Err(fs::TryLockError::WouldBlock) = folder.try_lock() {
            return Err(Error::InUse { path: path.into() });
        }
        let out = match out {
            Some(out) => out.to_owned(),
            None => named_after(path)?,
        };
        let (parent, _) = split(&out)?;
        if fs::symlink_metadata(&out).is_ok() {
            return Err(Error::Exists { path: out });
        }
        Ok(Self {
            out,
            parent,
            path: path.into(),
            folder,
            stays: true,
        })
    }

    /// Returns the current path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
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
        let failed = Error::io("syncing the folder", &self.path);
        self.folder.sync_all().map_err(failed)
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
        let parent = File::open(&self.parent).and_then(|parent| parent.sync_all());
        renamed.and(parent.map_err(Error::io("syncing the folder", &self.parent)))
    }

    fn rename(&mut self, name: &Path) -> Result<(), Error> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::Exists { path: name.into() }),
            // The file system does not support RENAME_NOREPLACE. Renaming a folder replaces
            // at most an empty one.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::rename(&self.path, name).map_err(Error::io("naming", name))?;
            }
            Err(errno) => return Err(Error::io("naming", name)(errno.into())),
        }
        self.path = name.into();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.stays {
            // A folder that cannot be removed stays recognizable by its name.
            let _ = fs::remove_dir_all(&self.path);
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

/// Returns the image that a temporary folder was created for.
fn named_after(path: &Path) -> Result<PathBuf, Error> {
    let wrong = || Error::Name { path: path.into() };
    let name = path.file_name().ok_or_else(wrong)?.as_bytes();
    let mark = MARK.as_bytes();
    let at = name.windows(mark.len()).rposition(|part| part == mark);
    let name = &name[..at.filter(|at| *at > 0).ok_or_else(wrong)?];
    Ok(path.with_file_name(OsString::from_vec(name.to_vec())))
}

fn make(parent: &Path, name: &OsStr) -> Result<PathBuf, Error> {
    for number in 0..TRIES {
        let mut temporary: OsString = name.to_owned();
        temporary.push(format!("{MARK}{}", std::process::id()));
        if number > 0 {
            temporary.push(format!("-{number}"));
        }
        let path = parent.join(temporary);
        // Guest memory is confidential: allow access only to the owner.
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("making the folder", &path)(error)),
        }
    }
    let error = io::ErrorKind::AlreadyExists.into();
    Err(Error::io("making a folder in", parent)(error))
}

fn open_locked(path: &Path) -> Result<File, Error> {
    let folder = File::open(path).map_err(Error::io("opening", path))?;
    // The lock is advisory: accept file systems without locks.
    let _ = folder.try_lock();
    Ok(folder)
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
/// writing.
pub fn leftovers(out: &Path) -> Vec<Leftover> {
    let Ok((parent, name)) = split(out) else {
        return Vec::new();
    };
    let mut prefix = name.as_encoded_bytes().to_vec();
    prefix.extend(MARK.as_bytes());
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<Leftover> = entries
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(&prefix))
        .map(|entry| entry.path())
        .filter(|path| File::open(path).is_ok_and(|folder| folder.try_lock().is_ok()))
        .map(|path| {
            let has = |name| path.join(name).exists();
            let state = match (has(MANIFEST), has(UNFINISHED)) {
                (true, _) => LeftoverState::Whole,
                (false, true) => LeftoverState::Postcopy,
                (false, false) => LeftoverState::Worthless,
            };
            Leftover { path, state }
        })
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

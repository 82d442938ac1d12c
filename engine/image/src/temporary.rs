//! The folder that an image is made in, before it has its name.
//!
//! It is a sibling of the final folder, so one rename makes the image appear. It is
//! removed when the writer is dropped, unless it is marked to stay because it may
//! hold the only copy of a guest. A killed process leaves it behind; its name says
//! what it is. It is locked while a process writes to it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{Error, MANIFEST, UNFINISHED};

/// What is between an image's name and the number of the process.
const MARK: &str = ".incomplete-";

/// Most names that are tried: each that is taken is a run that was killed, in
/// a process of the same number.
const TRIES: u32 = 1000;

/// A folder that disappears unless it gets its name, or has to stay.
#[derive(Debug)]
pub(super) struct Temporary {
    out: PathBuf,
    parent: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    folder: File,
    stays: bool,
}

impl Temporary {
    /// Makes the folder for an image that will be `out`.
    pub(super) fn new(out: &Path) -> Result<Self, Error> {
        let (parent, name) = split(out)?;
        if fs::symlink_metadata(out).is_ok() {
            return Err(Error::Exists { path: out.into() });
        }
        let path = make(&parent, name)?;
        let folder = open_locked(&path).inspect_err(|_| {
            // Empty, and ours.
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

    /// Takes over the folder that another process has left. The image will be
    /// `out`, or what the folder's name says.
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

    /// Where the folder is now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder has the name that was asked for.
    pub(super) fn has_name(&self) -> bool {
        self.path == self.out
    }

    /// Whether the folder stays when this value is dropped.
    pub(super) fn set_stays(&mut self, stays: bool) {
        self.stays = stays;
    }

    /// Syncs the folder itself, and so the names of its files.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let failed = Error::io("syncing the folder", &self.path);
        self.folder.sync_all().map_err(failed)
    }

    /// Renames the folder, whose contents have been synced, to its final name. It is
    /// always kept: with a number appended if the name is taken, and under its
    /// temporary name if the rename fails.
    ///
    /// # Errors
    ///
    /// It does not have the requested name, or a system crash could still undo the
    /// rename; [`Temporary::path`] says where it is.
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
            // A file system that cannot promise it. Renaming a folder replaces
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
            // What cannot be removed is found by its name.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder that an image will be in, and its name there.
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

/// The image that a temporary folder was made for.
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
        // The guest's memory is nobody else's business.
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
    // File systems without locks are no reason to refuse: it is a courtesy.
    let _ = folder.try_lock();
    Ok(folder)
}

/// A folder left by a process that was killed or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The folder.
    pub path: PathBuf,
    /// What is in it.
    pub state: LeftoverState,
}

/// What a leftover folder contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverState {
    /// A complete image that only lacks its name: rename it.
    Whole,
    /// A part of a guest's memory, received in postcopy; the rest is at the source.
    Postcopy,
    /// Nothing that the source does not have as well.
    Worthless,
}

/// Finds the leftover folders of images with this name. Folders that a process is
/// still writing are left out.
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

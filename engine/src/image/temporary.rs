//! The folder that an image is made in, before it has its name.
//!
//! It lies beside the image to be, so that one rename makes the image appear.
//! It is removed when the writer is dropped; a process that is killed leaves it,
//! and its name tells what it is. It is locked as long as somebody writes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::Error;

/// What is between an image's name and the number of the process.
const MARK: &str = ".incomplete-";

/// Most names that are tried: each that is taken is a run that was killed, in
/// a process of the same number.
const TRIES: u32 = 1000;

/// A folder that disappears unless it gets its name.
#[derive(Debug)]
pub(super) struct Temporary {
    out: PathBuf,
    parent: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    folder: File,
    named: bool,
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
            named: false,
        })
    }

    /// Where the folder is now.
    pub(super) fn path(&self) -> &Path {
        if self.named { &self.out } else { &self.path }
    }

    /// Gives the folder its name; everything in it has been synced.
    pub(super) fn name(&mut self) -> Result<(), Error> {
        let failed = Error::io("syncing the folder", &self.path);
        self.folder.sync_all().map_err(failed)?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, &self.out, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::Exists {
                    path: self.out.clone(),
                });
            }
            // A file system that cannot promise it. Renaming a folder replaces
            // at most an empty one.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::rename(&self.path, &self.out).map_err(Error::io("naming", &self.out))?;
            }
            Err(errno) => return Err(Error::io("naming", &self.out)(errno.into())),
        }
        self.named = true;
        let parent = File::open(&self.parent).and_then(|parent| parent.sync_all());
        parent.map_err(Error::io("syncing the folder", &self.parent))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
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

/// What runs that were killed have left of images of this name: folders that
/// may be deleted. Folders that somebody still writes are not among them.
pub fn leftovers(out: &Path) -> Vec<PathBuf> {
    let Ok((parent, name)) = split(out) else {
        return Vec::new();
    };
    let mut prefix = name.as_encoded_bytes().to_vec();
    prefix.extend(MARK.as_bytes());
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(&prefix))
        .map(|entry| entry.path())
        .filter(|path| File::open(path).is_ok_and(|folder| folder.try_lock().is_ok()))
        .collect();
    found.sort();
    found
}

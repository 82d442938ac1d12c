//! The file of a listening Unix socket: created, taken over from a dead process, removed.
//!
//! A process that is killed leaves its socket's file behind, and bind(2) keeps refusing the name.
//! Such a file is replaced if it is a socket of this user and no socket is bound to it any more:
//!
//! ```text
//!  bind NAME ── in use ──▶ is a socket bound to it? ── no ──▶ listen on .retpath-PID-N
//!                                                             exchange the two names
//!                                                             remove the old file, if it is still
//!                                                             the one that was examined; else
//!                                                             exchange them again, and fail
//! ```
//!
//! The probe must not connect to a process that waits for one migration, so it uses a datagram
//! socket: connecting it fails with EPROTOTYPE if a stream socket is bound, and with ECONNREFUSED
//! if none is.
//!
//! No other file is ever removed. Errors say what is in the way.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, RenameFlags, Stat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::unix_path::{UnixPath, open_folder};

/// Most connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The file of a socket. Dropping it removes the file, unless the name refers to another by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    folder: OwnedFd,
    name: OsString,
    id: Id,
}

/// Identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// Listens on a path.
///
/// # Errors
///
/// A system call failed; or the path is in use, with an error of kind [`ErrorKind::AddrInUse`].
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = open_folder(path)?;
    let socket = match listening(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => take_over(path, &folder, name)?,
        socket => socket?,
    };
    let id = id(&folder, name)?;
    let file = SocketFile {
        folder,
        name: name.to_owned(),
        id,
    };
    Ok((socket.into(), file))
}

/// A socket that listens on a new path.
fn listening(path: &Path) -> io::Result<OwnedFd> {
    let path = UnixPath::new(path)?;
    let socket = socket(SocketType::STREAM)?;
    rustix::net::bind(&socket, path.address())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(kind: SocketType) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Replaces the socket of a dead process.
fn take_over(path: &Path, folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(in_use(
            "the file there is not a socket; choose another path, or move it away",
        ));
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(in_use(
            "it is a socket of another user; choose another path",
        ));
    }
    let other = "another process has its socket there; choose another path, or end that process";
    if !is_abandoned(path)? {
        return Err(in_use(other));
    }
    let (socket, ours) = listening_beside(path)?;
    let swap = || renameat_with(folder, &ours, folder, name, RenameFlags::EXCHANGE);
    let taken = match swap() {
        Ok(()) if id(folder, &ours)? == Id::of(&found) => Ok(true),
        // Replaced after the check, by a process that listens there now.
        Ok(()) => swap().map(|()| false),
        // A file system that cannot exchange names.
        Err(Errno::INVAL | Errno::NOSYS) if id(folder, name)? == Id::of(&found) => {
            if let Err(error) = renameat(folder, &ours, folder, name) {
                let _ = unlinkat(folder, &ours, AtFlags::empty());
                return Err(error.into());
            }
            return Ok(socket);
        }
        Err(error) => Err(error),
    };
    // That name now refers to the abandoned socket or to our own.
    unlinkat(folder, &ours, AtFlags::empty())?;
    match taken? {
        true => Ok(socket),
        false => Err(in_use(other)),
    }
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, why)
}

/// Whether no socket is bound to this file. A process that has one bound does not notice.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    let path = UnixPath::new(path)?;
    match rustix::net::connect(&socket(SocketType::DGRAM)?, path.address()) {
        Err(Errno::CONNREFUSED) => Ok(true),
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Most names that are tried: each that is in use was left by a process with the same id.
const TRIES: u32 = 100;

/// A socket that listens in the same folder, and its name there.
fn listening_beside(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut tries = 0;
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".retpath-{}-{number}", process::id());
        match listening(&path.with_file_name(&name)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries < TRIES => tries += 1,
            socket => return Ok((socket?, name.into())),
        }
    }
}

fn id(folder: &OwnedFd, name: &OsStr) -> io::Result<Id> {
    Ok(Id::of(&statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id(&self.folder, &self.name).is_ok_and(|id| id == self.id) {
            // Best effort: the name may be gone already.
            let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    /// A folder with an abandoned socket.
    fn stale() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).expect("a new socket"));
        assert!(path.exists());
        (folder, path)
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).expect("ours").flatten();
        entries.map(|entry| entry.file_name()).collect()
    }

    #[test]
    fn replaces_the_socket_of_a_dead_process() {
        let (folder, path) = stale();
        let (listener, file) = listen(&path).expect("the path is free");
        assert_eq!(names(folder.path()), ["socket"]);
        let _near = UnixStream::connect(&path).expect("it listens");
        listener.accept().expect("a connection");
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn refuses_a_bound_socket_without_disturbing_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let other = UnixListener::bind(&path).expect("a new socket");
        other.set_nonblocking(true).expect("an option");
        let error = listen(&path).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another process"), "{error}");
        let none = other.accept().expect_err("it saw no connection");
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        assert!(path.exists());

        // A socket that does not listen yet counts, and so does a datagram socket.
        let early = folder.path().join("early");
        let socket = socket(SocketType::STREAM).expect("a socket");
        let path = UnixPath::new(&early).expect("short");
        rustix::net::bind(&socket, path.address()).expect("a new name");
        let datagram = folder.path().join("datagram");
        let _datagram = UnixDatagram::bind(&datagram).expect("a new socket");
        for path in [early, datagram] {
            let error = listen(&path).expect_err("in use");
            assert!(error.to_string().contains("another process"), "{error}");
        }
    }

    #[test]
    fn refuses_files_that_are_not_sockets() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_stale, target) = stale();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "x").expect("room");
        std::os::unix::fs::symlink(&target, &link).expect("ours");
        for path in [file, link, folder.path().to_owned()] {
            let error = listen(&path).expect_err("in use");
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(error.to_string().contains("not a socket"), "{error}");
            assert!(path.exists());
        }
    }

    #[test]
    fn removes_only_its_own_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let (_listener, file) = listen(&path).expect("new");
        fs::rename(&path, folder.path().join("moved")).expect("ours");
        let _other = UnixListener::bind(&path).expect("a new socket");
        drop(file);
        assert!(path.exists());
    }
}

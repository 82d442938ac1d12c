//! The file of a listening Unix socket: created, taken over from a dead process, removed.
//!
//! Its mode is 0600, whatever the umask: who may connect may read the guest's memory, or replace it.
//!
//! A process that is killed leaves its socket's file behind, and bind(2) keeps refusing the name.
//! Such a file is removed if it is a socket of this user and no socket is bound to it any more:
//!
//! ```text
//!  bind NAME ── in use ──▶ is a socket bound to it? ── no ──▶ rename it to .retpath-PID-N
//!                                                             remove it, if it is still the file
//!                                                             that was examined, and bind again;
//!                                                             else rename it back, and fail
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
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Stat};
use rustix::fs::{chmodat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind};

use super::unix_path::{open_folder, unix_address};

/// Most connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The file of a socket. Dropping it removes the file, unless the name refers to another by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    folder: OwnedFd,
    name: OsString,
    id: (u64, u64),
}

/// Listens on a path.
///
/// # Errors
///
/// A system call failed; or the path is in use, with an error of kind [`ErrorKind::AddrInUse`].
pub(super) fn listen(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = open_folder(path)?;
    let (address, _folder) = unix_address(path)?;
    let socket = socket(SocketType::STREAM)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            make_way(&address, &folder, name)?;
            bind(&socket, &address)?;
        }
        bound => bound?,
    }
    let file = SocketFile {
        id: id(&statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?),
        folder,
        name: name.to_owned(),
    };
    // Nobody can connect before the socket listens.
    let owner_only = Mode::RUSR | Mode::WUSR;
    chmodat(&file.folder, name, owner_only, AtFlags::empty())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket, file))
}

fn socket(kind: SocketType) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Removes the socket of a dead process.
fn make_way(address: &SocketAddrUnix, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let in_use = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why));
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return in_use("the file there is not a socket; choose another path, or move it away");
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return in_use("it is a socket of another user; choose another path");
    }
    let other = "another process has its socket there; choose another path, or end that process";
    if !is_abandoned(address)? {
        return in_use(other);
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Only a dead process with the same id can have left a file with this name.
    let aside = format!(".retpath-{}-{number}", process::id());
    renameat(folder, name, folder, &aside)?;
    if id(&statat(folder, &aside, AtFlags::SYMLINK_NOFOLLOW)?) == id(&found) {
        return Ok(unlinkat(folder, &aside, AtFlags::empty())?);
    }
    // It was replaced after the check, by a process that listens there now.
    renameat_with(folder, &aside, folder, name, RenameFlags::NOREPLACE)?;
    in_use(other)
}

/// Whether no socket is bound to this file. A process that has one bound does not notice.
fn is_abandoned(address: &SocketAddrUnix) -> io::Result<bool> {
    match rustix::net::connect(&socket(SocketType::DGRAM)?, address) {
        Err(Errno::CONNREFUSED) => Ok(true),
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Identity of a file: device and inode.
fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| id(&found) == self.id) {
            // Best effort: the name may be gone already.
            let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

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
    fn allows_only_the_owner_to_connect() {
        let (folder, abandoned) = stale();
        for path in [folder.path().join("new"), abandoned] {
            let (_listener, _file) = listen(&path).expect("the path is free");
            let about = fs::symlink_metadata(&path).expect("it exists");
            assert_eq!(about.permissions().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn replaces_the_socket_of_a_dead_process() {
        let (folder, path) = stale();
        let (listener, file) = listen(&path).expect("the path is free");
        assert_eq!(names(folder.path()), ["socket"]);
        let _near = UnixStream::connect(&path).expect("it listens");
        rustix::net::accept(&listener).expect("a connection");
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
        let (address, _folder) = unix_address(&early).expect("short");
        bind(&socket, &address).expect("a new name");
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

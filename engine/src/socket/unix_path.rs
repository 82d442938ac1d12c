//! Paths of Unix sockets, of any length.
//!
//! A socket address holds at most [`MOST`] bytes of path. A longer path is reached through its
//! folder, which is opened first:
//!
//! ```text
//!  /a/very/long/folder/vm.sock  →  /proc/self/fd/7/vm.sock
//! ```

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::SocketAddrUnix;

/// Most bytes of a path in a socket address; its NUL is one more.
const MOST: usize = 107;

/// The socket address of `path`, and the folder that it names, which stays open as long as the
/// address is used.
///
/// # Errors
///
/// The folder of a long path cannot be opened, or its last component is too long.
pub(super) fn unix_address(path: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    let len = path.as_os_str().as_bytes().len();
    if len <= MOST {
        return Ok((SocketAddrUnix::new(path)?, None));
    }
    let too_long = || {
        let why = format!(
            "the path has {len} bytes, and its last component is too long for a socket, whose \
             path has at most {MOST}: choose a shorter name"
        );
        io::Error::new(ErrorKind::InvalidInput, why)
    };
    let name = path.file_name().ok_or_else(too_long)?;
    let folder = open_folder(path)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    if short.as_os_str().as_bytes().len() > MOST {
        return Err(too_long());
    }
    Ok((SocketAddrUnix::new(&short)?, Some(folder)))
}

/// Opens the folder of `path` with `O_PATH`.
pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?)
}

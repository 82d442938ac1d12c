//! A folder of one's own for the socket, for as long as it is needed.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::random::mix;

/// A folder that only this user can enter; removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

/// Names that are tried.
const TRIES: u64 = 100;

impl Folder {
    /// Makes one where temporary files are kept.
    ///
    /// # Errors
    ///
    /// Which folder cannot be made, and why.
    pub(super) fn new() -> Result<Self, String> {
        let process = u64::from(std::process::id());
        let mut last = String::new();
        for number in 0..TRIES {
            // Unlikely to be taken, and harmless if it is.
            let name = format!("retpath-demo-{:012x}", mix(process << 16 | number) >> 16);
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) => {
                    last = format!("making the folder {}: {error}", path.display());
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Gone already, or full of somebody else's things: leave it be.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_new_private_and_gone_afterwards() {
        let (one, two) = (Folder::new().expect("one"), Folder::new().expect("two"));
        assert_ne!(one.path(), two.path());
        let mode = fs::metadata(one.path())
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
    }
}

//! Compares all files of an image with their digests.
//!
//! Verification changes nothing, and the image may be served at the same time. Differences are
//! collected rather than returned as errors, so that one run reports all of them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backing_file::BackingFile;
use super::digest::Digest;
use super::error::shown;
use super::folder::Folder;
use super::reader::{open_folder, read_state, read_sums};
use super::sums::Sums;
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, Manifest};

/// Maximum number of differences listed; all differing bytes are counted.
const LISTED: usize = 1000;

/// A difference between an image and its digests.
#[derive(Debug)]
pub enum Difference {
    /// Bytes of RAM differ.
    Bytes {
        /// The file.
        path: PathBuf,
        /// The differing bytes.
        range: Range<u64>,
    },
    /// A file is missing, has another length, cannot be read, or differs as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: Error,
    },
}

/// The result of [`verify()`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Verified {
    /// The identity of the image according to its manifest.
    pub id: Digest,
    /// Differences by file, with neighboring pieces merged; only the first 1000.
    pub differences: Vec<Difference>,
    /// Number of RAM bytes in pieces that differ.
    pub different: u64,
}

impl Verified {
    /// Whether the image is unchanged.
    pub fn is_whole(&self) -> bool {
        self.differences.is_empty()
    }

    fn add(&mut self, difference: Difference) {
        if self.differences.len() < LISTED {
            self.differences.push(difference);
        }
    }

    /// Adds a differing piece of RAM, and merges it with an adjacent one.
    fn add_piece(&mut self, path: PathBuf, piece: Range<u64>) {
        self.different += piece.end - piece.start;
        match self.differences.last_mut() {
            Some(Difference::Bytes { path: last, range })
                if *last == path && range.end == piece.start =>
            {
                range.end = piece.end;
            }
            _ => self.add(Difference::Bytes { path, range: piece }),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { path, range } => write!(
                f,
                "{}: the {} bytes at offset {:#x} differ from those stored when the image was made",
                shown(path),
                range.end - range.start,
                range.start
            ),
            Self::File { error, .. } => error.fmt(f),
        }
    }
}

/// Compares the image in a folder with its digests.
///
/// Calls `progress` with the number of RAM bytes compared and their total; returning `false` stops
/// the comparison.
///
/// # Errors
///
/// Fails if the manifest is unreadable or modified, and with [`Error::NoDigests`] or
/// [`Error::Stopped`].
pub fn verify(
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Verified, Error> {
    let (folder, manifest) = open_folder(folder)?;
    let Some(seal) = &manifest.seal else {
        return Err(Error::NoDigests {
            path: folder.path().to_owned(),
        });
    };
    let mut verifying = Verifying {
        folder: &folder,
        manifest: &manifest,
        found: Verified {
            id: seal.id,
            differences: Vec::new(),
            different: 0,
        },
        progress,
        done: 0,
    };
    for name in [DEVICE_STATE, EARLY_STATE, DESCRIPTION] {
        if let Err(error) = read_state(&folder, &manifest, name) {
            let path = folder.path().join(name);
            verifying.found.add(Difference::File { path, error });
        }
    }
    for block in 0..manifest.blocks.len() {
        verifying.block(block)?;
    }
    Ok(verifying.found)
}

struct Verifying<'a> {
    folder: &'a Arc<Folder>,
    manifest: &'a Manifest,
    found: Verified,
    progress: &'a mut dyn FnMut(u64, u64) -> bool,
    /// Number of RAM bytes compared.
    done: u64,
}

impl Verifying<'_> {
    /// Compares a RAM block.
    fn block(&mut self, block: usize) -> Result<(), Error> {
        let ram = &self.manifest.blocks[block];
        let path = self.folder.path().join(&ram.file);
        let opened = read_sums(self.folder, self.manifest, block)
            .and_then(|sums| Ok((sums, BackingFile::open(self.folder, &ram.file, ram.len)?)));
        let done = self.done + ram.len;
        match opened {
            Ok((Some(sums), file)) => match self.pieces(&sums, &file) {
                Ok(()) => {}
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => self.found.add(Difference::File { path, error }),
            },
            // An image with digests has them for every block.
            Ok((None, _)) => {}
            Err(error) => self.found.add(Difference::File { path, error }),
        }
        self.step(done)
    }

    fn pieces(&mut self, sums: &Sums, file: &BackingFile) -> Result<(), Error> {
        let (len, before) = (file.len(), self.done);
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < len {
            let data = sums.next_data(file, at)?.unwrap_or(len..len);
            for start in sums.nonzero(at..data.start) {
                self.add_piece(sums, file, start);
            }
            bytes.resize(usize::try_from(data.end - data.start).unwrap_or(0), 0);
            match file.read_at(data.start, &mut bytes) {
                Ok(()) => {
                    for start in sums.wrong(data.start, &bytes) {
                        self.add_piece(sums, file, start);
                    }
                }
                // Continue after a bad sector, to find later differences.
                Err(error @ Error::ReadAt { .. }) => {
                    let path = file.path();
                    self.found.add(Difference::File { path, error });
                }
                Err(error) => return Err(error),
            }
            at = data.end;
            self.step(before + at)?;
        }
        file.check()
    }

    fn add_piece(&mut self, sums: &Sums, file: &BackingFile, start: u64) {
        let end = (start + sums.piece).min(file.len());
        self.found.add_piece(file.path(), start..end);
    }

    fn step(&mut self, done: u64) -> Result<(), Error> {
        self.done = done;
        let all = self.manifest.blocks.iter().map(|block| block.len).sum();
        match (self.progress)(done, all) {
            true => Ok(()),
            false => Err(Error::Stopped),
        }
    }
}

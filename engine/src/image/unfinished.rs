//! What makes an unfinished image one that another process can finish.
//!
//! ```text
//!  NAME.incomplete-PID/
//!    unfinished.json       {"format": "retpath-unfinished", "version": 1,
//!                           "manifest": what manifest.json would say so far}
//!    received-000.bits     one file for each RAM block: bit n of byte n / 8 is
//!    received-001.bits     set if target page n has been received
//! ```
//!
//! `unfinished.json` is written once, when the device state is safe. The bits
//! follow the RAM files: a page is in its file before its bit is set, and a bit
//! that lags behind costs nothing but a page that is sent again. So a process
//! may be killed at any moment. Nothing is promised for a crash of the system.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::backing_file::open_as;
use super::manifest::Manifest;
use super::ram_file::create;
use super::{Error, UNFINISHED};
use crate::blocks::BlockId;
use crate::memory::wide;

/// What says that a file is one of these.
const FORMAT: &str = "retpath-unfinished";

/// Largest file that is read: as a manifest's.
const MAX_SIZE: u64 = 16 << 20;

/// Words that are turned into bytes at once.
const WORDS: usize = 8192;

/// The received bitmaps of an unfinished image.
#[derive(Debug)]
pub(super) struct Received {
    files: Vec<(PathBuf, File)>,
}

impl Received {
    /// Makes the files, of `blocks` blocks of which nothing is received.
    pub(super) fn new(folder: &Path, blocks: usize) -> Result<Self, Error> {
        let files = (0..blocks).map(|id| {
            let path = bits(folder, id);
            Ok((path.clone(), create(&path)?))
        });
        Ok(Self {
            files: files.collect::<Result<_, Error>>()?,
        })
    }

    /// Opens the files that another process has left.
    pub(super) fn open(folder: &Path, blocks: usize) -> Result<Self, Error> {
        let files = (0..blocks).map(|id| {
            let path = bits(folder, id);
            let file = open_as(&path, OFlags::RDWR)?;
            Ok((path, file))
        });
        Ok(Self {
            files: files.collect::<Result<_, Error>>()?,
        })
    }

    /// Sets the received target pages of a block, which are in its file.
    pub(super) fn set(&self, block: BlockId, words: &[u64]) -> Result<(), Error> {
        let (path, file) = self.files.get(block).ok_or(Error::Range)?;
        let mut bytes = Vec::new();
        for (at, words) in words.chunks(WORDS).enumerate() {
            bytes.clear();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            file.write_all_at(&bytes, wide(at * WORDS * size_of::<u64>()))
                .map_err(Error::io("writing", path))?;
        }
        Ok(())
    }

    /// The received target pages of a block of `pages` target pages. What the
    /// file lacks has not been received.
    pub(super) fn get(&self, block: BlockId, pages: u64) -> Result<Vec<u64>, Error> {
        let (path, file) = self.files.get(block).ok_or(Error::Range)?;
        let mut bytes = Vec::new();
        file.take(pages.div_ceil(64) * 8)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading", path))?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// Removes the files from a folder, which may have another name now: the
    /// image is finished.
    pub(super) fn remove(self, folder: &Path) -> Result<(), Error> {
        let bits = (0..self.files.len()).map(|id| bits(folder, id));
        for path in [folder.join(UNFINISHED)].into_iter().chain(bits) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("removing", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn bits(folder: &Path, block: BlockId) -> PathBuf {
    folder.join(format!("received-{block:03}.bits"))
}

/// The text of `unfinished.json`.
pub(super) fn text(manifest: &Manifest) -> String {
    let value = json!({
        "format": FORMAT,
        "version": super::VERSION,
        "manifest": manifest.to_json(),
    });
    format!("{value:#}\n")
}

/// Reads what another process has left in a folder.
pub(super) fn read(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join(UNFINISHED);
    if !path.exists() {
        return Err(Error::NotUnfinished {
            path: folder.into(),
        });
    }
    let mut text = Vec::new();
    open_as(&path, OFlags::RDONLY)?
        .take(MAX_SIZE)
        .read_to_end(&mut text)
        .map_err(Error::io("reading", &path))?;
    let wrong = |why: String| Error::Manifest {
        path: path.clone(),
        why,
    };
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
    if value["format"] != FORMAT {
        return Err(wrong(format!("\"format\" is not \"{FORMAT}\"")));
    }
    let manifest = value["manifest"].to_string();
    Manifest::parse(manifest.as_bytes(), &path)
}

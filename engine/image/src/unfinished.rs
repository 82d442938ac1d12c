//! Files that let another process finish an unfinished image.
//!
//! ```text
//!  NAME.incomplete-PID/
//!    unfinished.json       {"format": "retpath-unfinished", "version": 1,
//!                           "has_device_state": true,
//!                           "manifest": what manifest.json would say so far}
//!    received-000.bits     one file for each RAM block: bit n of byte n / 8 is
//!    received-001.bits     set if target page n has been received
//! ```
//!
//! `unfinished.json` is written when the source has stopped its guest, and again when
//! the device state is on disk: before that, another process can only give the guest
//! back to the source. The bitmaps are written after the RAM files: a page is in its
//! file before its bit is set, and a page without its bit is sent again. The process
//! may therefore be killed at any moment. A crash of the system is not covered.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::folder::Folder;
use super::manifest::Manifest;
use super::ram_file::RamData;
use super::state_file::StateFile;
use super::temporary::Temporary;
use super::writer::{Gathered, Writer};
use super::{DEVICE_STATE, EARLY_STATE, Error, UNFINISHED};
use retpath_engine::bits::Bits;
use retpath_engine::blocks::BlockId;
use retpath_engine::protocol::wide;

/// The member `format` of `unfinished.json`.
const FORMAT: &str = "retpath-unfinished";

/// Maximum size of `unfinished.json`, the same as that of a manifest.
const MAX_SIZE: u64 = 16 << 20;

/// Number of bitmap words converted to bytes at once.
const WORDS: usize = 8192;

/// Their size in bytes.
const PART: usize = WORDS * size_of::<u64>();

/// The received bitmaps of an unfinished image. Their files are open only while they are
/// used.
#[derive(Debug)]
pub(super) struct Received {
    folder: Arc<Folder>,
    blocks: usize,
    /// The parts of [`WORDS`] words that may not be holes, by block.
    written: BTreeSet<(BlockId, usize)>,
}

impl Received {
    /// Creates the files for `blocks` blocks with no page received.
    pub(super) fn new(folder: &Arc<Folder>, blocks: usize) -> Result<Self, Error> {
        for id in 0..blocks {
            folder.create(&bits(id))?;
        }
        Ok(Self {
            folder: Arc::clone(folder),
            blocks,
            written: BTreeSet::new(),
        })
    }

    /// Finds the files that another process left behind.
    pub(super) fn open(folder: &Arc<Folder>, blocks: usize) -> Result<Self, Error> {
        let mut written = BTreeSet::new();
        for id in 0..blocks {
            let (_, size) = folder.file_and_size(&bits(id))?;
            let parts = usize::try_from(size).unwrap_or(0).div_ceil(PART);
            written.extend((0..parts).map(|part| (id, part)));
        }
        Ok(Self {
            folder: Arc::clone(folder),
            blocks,
            written,
        })
    }

    /// Writes the bitmap of a block, without parts that are and were empty; its pages are already
    /// in its RAM file.
    pub(super) fn set(&mut self, block: BlockId, received: &Bits) -> Result<(), Error> {
        let name = self.name(block)?;
        let file = self.folder.file(&name, OFlags::RDWR)?;
        let words = usize::try_from(received.len().div_ceil(64)).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        for (part, first) in (0..words).step_by(WORDS).enumerate() {
            let pages = (wide(first) * 64, wide(WORDS) * 64);
            let is_empty = received.next_in(pages.0, pages.1).is_none();
            if is_empty && !self.written.contains(&(block, part)) {
                continue;
            }
            bytes.clear();
            let end = words.min(first + WORDS);
            bytes.extend((first..end).flat_map(|at| received.word(at).to_le_bytes()));
            file.write_all_at(&bytes, wide(part * PART))
                .map_err(Error::io("writing", &self.folder.path().join(&name)))?;
            self.written.insert((block, part));
        }
        Ok(())
    }

    /// Reads the bitmap of a block of `pages` target pages. Bits beyond the end of the
    /// file are clear.
    pub(super) fn get(&self, block: BlockId, pages: u64) -> Result<Vec<u64>, Error> {
        let name = self.name(block)?;
        let mut bytes = Vec::new();
        self.folder
            .file(&name, OFlags::RDONLY)?
            .take(pages.div_ceil(64) * 8)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading", &self.folder.path().join(&name)))?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// Removes the files of a finished image.
    pub(super) fn remove(self) -> Result<(), Error> {
        self.folder.remove(UNFINISHED)?;
        (0..self.blocks).try_for_each(|id| self.folder.remove(&bits(id)))
    }

    fn name(&self, block: BlockId) -> Result<String, Error> {
        let known = block < self.blocks;
        known.then(|| bits(block)).ok_or(Error::Range)
    }
}

/// Returns the name of a block's bitmap.
fn bits(block: BlockId) -> String {
    format!("received-{block:03}.bits")
}

impl Writer {
    /// Continues an image that another process left in the folder `path` after
    /// [`Writer::make_resumable`].
    ///
    /// The final name is `out`, or the name the image was started with. Also returns the
    /// known facts about the source.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotUnfinished`], [`Error::InUse`] or [`Error::Exists`], or if the
    /// folder's files do not match its `unfinished.json`.
    pub fn resume(path: &Path, out: Option<&Path>) -> Result<(Self, Unfinished), Error> {
        let temporary = Temporary::adopt(path, out)?;
        let folder = temporary.folder();
        let unfinished = read(folder)?;
        let manifest = &unfinished.facts;
        let blocks = manifest.checked_blocks(&folder.path().join(UNFINISHED))?;
        let files = manifest
            .blocks
            .iter()
            .map(|block| RamData::open(folder, block));
        let writer = Self {
            device_state: StateFile::open(folder, DEVICE_STATE, manifest.device_state)?,
            early_state: StateFile::open(folder, EARLY_STATE, manifest.early_state)?,
            description: None,
            files: files.collect::<Result<_, _>>()?,
            received: Some(Received::open(folder, blocks.len())?),
            blocks: Some(blocks),
            gathered: Gathered::default(),
            seal: None,
            temporary,
        };
        Ok((writer, unfinished))
    }

    /// Prepares the folder so that another process can give the guest back to the source.
    ///
    /// From now on, dropping the writer keeps the folder. Call this when the source has
    /// stopped its guest.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]. Even then, dropping the writer keeps the folder.
    pub fn make_returnable(&mut self, facts: Manifest) -> Result<(), Error> {
        self.temporary.set_stays(true);
        self.leave(facts, false)
    }

    /// Prepares the folder so that another process can continue with it
    /// ([`Writer::resume`]).
    ///
    /// From now on, dropping the writer keeps the folder. Call this when the device state
    /// is complete, before reporting that to the source.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]. Even then, dropping the writer keeps the folder.
    pub fn make_resumable(&mut self, facts: Manifest) -> Result<(), Error> {
        self.temporary.set_stays(true);
        self.sync_device_state()?;
        self.leave(facts, true)
    }

    fn leave(&mut self, facts: Manifest, has_device_state: bool) -> Result<(), Error> {
        let folder = self.temporary.folder();
        let received = match self.received.take() {
            Some(received) => received,
            None => Received::new(folder, self.files.len())?,
        };
        let unfinished = Unfinished {
            facts: self.manifest(facts),
            has_device_state,
        };
        folder.replace(UNFINISHED, unfinished.text().as_bytes())?;
        self.received = Some(received);
        Ok(())
    }

    /// Whether another process can continue with the folder or give the guest back.
    pub fn is_resumable(&self) -> bool {
        self.received.is_some()
    }

    /// Writes the received bitmaps after flushing the pages. Every page whose bit is set must
    /// have been written to this writer.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn checkpoint<'a>(
        &mut self,
        received: impl IntoIterator<Item = &'a Bits>,
    ) -> Result<(), Error> {
        self.flush()?;
        let Some(files) = &mut self.received else {
            return Ok(());
        };
        for (id, received) in received.into_iter().enumerate() {
            files.set(id, received)?;
        }
        Ok(())
    }

    /// Returns the bitmap of the pages that the previous process received.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn received(&self, block: BlockId) -> Result<Vec<u64>, Error> {
        match (&self.received, &self.blocks) {
            (Some(files), Some(blocks)) => files.get(block, blocks.target_pages(block)),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the device sections received before RAM, and those after it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn states(&self) -> Result<[Vec<u8>; 2], Error> {
        Ok([self.early_state.read()?, self.device_state.read()?])
    }
}

/// The content of `unfinished.json`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// The known facts about the source.
    pub facts: Manifest,
    /// Whether the device state is complete.
    pub has_device_state: bool,
}

impl Unfinished {
    fn text(&self) -> String {
        let value = json!({
            "format": FORMAT,
            "version": super::VERSION,
            "has_device_state": self.has_device_state,
            "manifest": self.facts.to_json(),
        });
        format!("{value:#}\n")
    }
}

/// Reads the `unfinished.json` of a folder.
fn read(folder: &Folder) -> Result<Unfinished, Error> {
    let path = folder.path().join(UNFINISHED);
    if !folder.has(UNFINISHED) {
        return Err(Error::NotUnfinished {
            path: folder.path().into(),
        });
    }
    let mut text = Vec::new();
    folder
        .file(UNFINISHED, OFlags::RDONLY)?
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
    let Some(has_device_state) = value["has_device_state"].as_bool() else {
        return Err(wrong("\"has_device_state\" must be true or false".into()));
    };
    let manifest = value["manifest"].to_string();
    Ok(Unfinished {
        facts: Manifest::parse(manifest.as_bytes(), &path)?,
        has_device_state,
    })
}

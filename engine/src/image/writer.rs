//! Makes an image.
//!
//! Pages come in any order and may come again. Neighbours are gathered, so that
//! a stream that goes through memory in order is written in large pieces; pages
//! of zeros become holes. No error leaves anything of the image's name; what was
//! written goes when the writer is dropped.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, RamFile};
use super::ram_file::{RamData, create};
use super::temporary::Temporary;
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, MANIFEST};
use crate::blocks::{Block, BlockId, Blocks};
use crate::destination::Tail;
use crate::memory::wide;

/// Neighbouring pages that are written at once, in bytes.
const GATHER: usize = 1 << 20;

/// An image that is being made.
#[derive(Debug)]
pub struct Writer {
    temporary: Temporary,
    /// None before the first block, whose stream says the target page size.
    blocks: Option<Blocks>,
    files: Vec<RamData>,
    gathered: Gathered,
    device_state: StateFile,
    early_state: StateFile,
    description: Option<StateFile>,
}

/// Bytes that belong in a row and are not written yet.
#[derive(Debug, Default)]
struct Gathered {
    block: BlockId,
    offset: u64,
    bytes: Vec<u8>,
}

/// A file that grows at its end.
#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Writer {
    /// Begins an image that will be at `out`, where nothing may be.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], [`Error::Name`] and [`Error::Io`].
    pub fn new(out: &Path) -> Result<Self, Error> {
        let temporary = Temporary::new(out)?;
        let folder = temporary.path();
        Ok(Self {
            device_state: StateFile::new(folder, DEVICE_STATE)?,
            early_state: StateFile::new(folder, EARLY_STATE)?,
            description: None,
            blocks: None,
            files: Vec::new(),
            gathered: Gathered::default(),
            temporary,
        })
    }

    /// Where the image is now: under a temporary name until it is finished.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Adds a RAM block that is all zeros, of a machine with target pages of
    /// `target` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Block`] and [`Error::Io`].
    pub fn block(&mut self, block: &Block, target: u64) -> Result<BlockId, Error> {
        let wrong = |error| Error::Block {
            name: block.name.clone(),
            error,
        };
        let blocks = match &mut self.blocks {
            Some(blocks) => blocks,
            none => none.insert(Blocks::new(target).map_err(wrong)?),
        };
        let id = blocks.add(block.clone()).map_err(wrong)?;
        let ram = RamData::new(self.temporary.path(), id, block)?;
        self.files.push(ram);
        Ok(id)
    }

    /// Puts bytes into a block.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] and [`Error::Io`], which may be about bytes that came
    /// before.
    pub fn write(&mut self, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let len = wide(bytes.len());
        self.check(block, offset, len)?;
        let row = &self.gathered;
        let follows = row.block == block && row.end() == offset;
        if !follows || row.bytes.len() + bytes.len() > GATHER {
            self.flush()?;
            self.gathered.block = block;
            self.gathered.offset = offset;
        }
        self.gathered.bytes.extend(bytes);
        Ok(())
    }

    /// Puts zeros into a block, without using room for them.
    ///
    /// # Errors
    ///
    /// As [`Writer::write`].
    pub fn zero(&mut self, block: BlockId, offset: u64, len: u64) -> Result<(), Error> {
        self.check(block, offset, len)?;
        let row = &self.gathered;
        let apart = row.block != block || row.end() <= offset || offset + len <= row.offset;
        if !apart {
            self.flush()?;
        }
        self.files[block].zero(offset, len)
    }

    fn check(&self, block: BlockId, offset: u64, len: u64) -> Result<(), Error> {
        let blocks = self.blocks.as_ref().ok_or(Error::Range)?;
        let whole = blocks.block(block).map_err(|_| Error::Range)?.len;
        let end = offset.checked_add(len);
        end.filter(|&end| end <= whole).ok_or(Error::Range)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let row = &mut self.gathered;
        if let Some(file) = self.files.get_mut(row.block) {
            file.write(row.offset, &row.bytes)?;
        }
        row.bytes.clear();
        Ok(())
    }

    /// Appends to the devices' sections.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn device_state(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.device_state.append(bytes)
    }

    /// Appends to the sections in front of the first page.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn early_state(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.early_state.append(bytes)
    }

    /// Appends to the description of the device state.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn description(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = match &mut self.description {
            Some(file) => file,
            none => none.insert(StateFile::new(self.temporary.path(), DESCRIPTION)?),
        };
        file.append(bytes)
    }

    /// Forgets the description, of which not all has come.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn forget_description(&mut self) -> Result<(), Error> {
        match self.description.take() {
            Some(file) => {
                std::fs::remove_file(&file.path).map_err(Error::io("removing", &file.path))
            }
            None => Ok(()),
        }
    }

    /// Takes what follows the device state in a stream without footers off its
    /// end: see [`tail`](super::tail). Says what the end looks like, and leaves
    /// everything as it is where there is none, or one that is not proven and
    /// not to be accepted.
    pub(super) fn split_device_state(&mut self, accept_unproven: bool) -> Result<Tail, Error> {
        let all = self.device_state.read()?;
        let Some(split) = super::tail::split(&all) else {
            return Ok(Tail::Open);
        };
        if split.proven || accept_unproven {
            self.device_state.truncate(wide(split.len))?;
            if let Some(description) = split.description {
                self.description(description)?;
            }
        }
        Ok(split.tail())
    }

    /// What the end of the device state looks like so far.
    pub(super) fn device_state_tail(&self) -> Result<Tail, Error> {
        Ok(super::tail::look(&self.device_state.read()?))
    }

    /// Puts the device state where a crash cannot reach it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync_device_state(&mut self) -> Result<(), Error> {
        self.early_state.sync()?;
        self.device_state.sync()
    }

    /// Puts everything that came so far where a crash cannot reach it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        for ram in &self.files {
            ram.sync()?;
        }
        self.sync_device_state()
    }

    /// Finishes the image and gives it its name. `facts` is what is known of
    /// the source; what the writer knows itself is put into it.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], if somebody was faster, [`Error::CutShort`] without a
    /// RAM block, as no machine is, and [`Error::Io`]. The image is not there.
    pub fn finish(mut self, facts: Manifest) -> Result<Manifest, Error> {
        if self.files.is_empty() {
            return Err(Error::CutShort {
                why: "it ends before the first RAM block",
            });
        }
        self.sync()?;
        if let Some(description) = &self.description {
            description.sync()?;
        }
        if self.early_state.len == 0 {
            let path = &self.early_state.path;
            std::fs::remove_file(path).map_err(Error::io("removing", path))?;
        }
        let blocks = self.blocks.iter().flat_map(Blocks::iter).zip(&self.files);
        let blocks = blocks.map(|(block, ram)| RamFile {
            name: block.name.clone(),
            len: block.len,
            page: block.page,
            file: ram.name.clone(),
        });
        let manifest = Manifest {
            blocks: blocks.collect(),
            target_page: self
                .blocks
                .as_ref()
                .map_or(facts.target_page, Blocks::target),
            device_state: self.device_state.len,
            early_state: self.early_state.len,
            description: self.description.as_ref().map(|file| file.len),
            ..facts
        };
        let mut file = StateFile::new(self.temporary.path(), MANIFEST)?;
        file.append(format!("{:#}\n", manifest.to_json()).as_bytes())?;
        file.sync()?;
        // Nobody writes any more; who opens the image locks them, shared.
        self.files.clear();
        self.temporary.name()?;
        Ok(manifest)
    }
}

impl Gathered {
    fn end(&self) -> u64 {
        self.offset + wide(self.bytes.len())
    }
}

impl StateFile {
    fn new(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name);
        let file = create(&path)?;
        Ok(Self { path, file, len: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = Error::io("writing", &self.path);
        self.file.write_all(bytes).map_err(failed)?;
        self.len += wide(bytes.len());
        Ok(())
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        std::fs::read(&self.path).map_err(Error::io("reading", &self.path))
    }

    fn truncate(&mut self, len: u64) -> Result<(), Error> {
        let done = self
            .file
            .set_len(len)
            .and_then(|()| io::Seek::seek(&mut self.file, io::SeekFrom::Start(len)));
        done.map_err(Error::io("cutting", &self.path))?;
        self.len = len;
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        let failed = Error::io("syncing", &self.path);
        self.file.sync_all().map_err(failed)
    }
}

//! Creates an image.
//!
//! Pages may arrive in any order and repeatedly. Adjacent pages are gathered into large
//! writes; zero pages become holes. After an error, nothing exists under the image's
//! name. Dropping the writer removes what was written, unless the image is complete or
//! may be the only copy of a guest: see [`Writer::make_resumable`].

use std::path::{Path, PathBuf};

use super::digest::Seal;
use super::folder::MAX_HELD;
use super::manifest::{Manifest, RamFile};
use super::ram_file::RamData;
use super::state_file::StateFile;
use super::temporary::Temporary;
use super::unfinished::Received;
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, MANIFEST, MAX_DEVICE_STATE, digest};
use retpath_engine::blocks::{Block, BlockId, Blocks};
use retpath_engine::destination::Tail;
use retpath_engine::protocol::wide;

/// Maximum size of a gathered write, in bytes.
const GATHER: usize = 1 << 20;

/// An image under construction.
#[derive(Debug)]
pub struct Writer {
    pub(super) temporary: Temporary,
    /// `None` before the first block, because the stream sets the target page size.
    pub(super) blocks: Option<Blocks>,
    pub(super) files: Vec<RamData>,
    pub(super) gathered: Gathered,
    pub(super) device_state: StateFile,
    pub(super) early_state: StateFile,
    pub(super) description: Option<StateFile>,
    /// Received bitmaps that let another process continue.
    pub(super) received: Option<Received>,
    /// Digests, once the image is sealed.
    pub(super) seal: Option<Seal>,
}

/// Contiguous bytes not written yet.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    block: BlockId,
    offset: u64,
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts an image that will be at `out`, which must not exist.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Exists`], [`Error::Name`] or [`Error::Io`].
    pub fn new(out: &Path) -> Result<Self, Error> {
        let temporary = Temporary::new(out)?;
        let folder = temporary.folder();
        Ok(Self {
            device_state: StateFile::new(folder, DEVICE_STATE)?,
            early_state: StateFile::new(folder, EARLY_STATE)?,
            description: None,
            blocks: None,
            files: Vec::new(),
            gathered: Gathered::default(),
            received: None,
            seal: None,
            temporary,
        })
    }

    /// Returns the folder's current path, which is temporary until the image is finished.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Returns the RAM blocks, once there is one.
    pub fn blocks(&self) -> Option<&Blocks> {
        self.blocks.as_ref()
    }

    /// Removes everything written; use this when the source can run its guest.
    pub fn discard(mut self) {
        self.temporary.set_stays(false);
    }

    /// Keeps the folder under its temporary name, because it may be the only copy.
    pub fn keep(mut self) {
        self.temporary.set_stays(true);
    }

    /// Adds a RAM block filled with zeros, for a machine with target pages of `target`
    /// bytes.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Block`] or [`Error::Io`].
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
        let ram = RamData::new(self.temporary.folder(), id, block)?;
        self.files.push(ram);
        Ok(id)
    }

    /// Writes bytes to a block.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Range`], or with [`Error::Io`], which may concern bytes of an earlier
    /// call.
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

    /// Writes zeros to a block without allocating disk space for them.
    ///
    /// # Errors
    ///
    /// Fails as [`Writer::write`] does.
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

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let row = &mut self.gathered;
        if let Some(file) = self.files.get_mut(row.block) {
            file.write(row.offset, &row.bytes)?;
        }
        row.bytes.clear();
        Ok(())
    }

    /// Lowers the maximum size of the device state and of the early state, each, in bytes.
    pub fn limit_state(&mut self, limit: u64) {
        for file in [&mut self.device_state, &mut self.early_state] {
            file.limit = limit.min(MAX_DEVICE_STATE);
        }
    }

    /// Appends to the device sections.
    ///
    /// # Errors
    ///
    /// [`Error::StateLimit`] or [`Error::Io`].
    pub fn device_state(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.device_state.append(bytes)
    }

    /// Appends to the device sections received before the first page.
    ///
    /// # Errors
    ///
    /// [`Error::StateLimit`] or [`Error::Io`].
    pub fn early_state(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.early_state.append(bytes)
    }

    /// Appends to the description of the device state.
    ///
    /// # Errors
    ///
    /// [`Error::StateLimit`] or [`Error::Io`].
    pub fn description(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = match &mut self.description {
            Some(file) => file,
            none => none.insert(StateFile::new(self.temporary.folder(), DESCRIPTION)?),
        };
        file.append(bytes)
    }

    /// Whether a description was started.
    pub fn has_description(&self) -> bool {
        self.description.is_some()
    }

    /// Discards an incomplete description.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn forget_description(&mut self) -> Result<(), Error> {
        match self.description.take() {
            Some(_) => self.temporary.folder().remove(DESCRIPTION),
            None => Ok(()),
        }
    }

    /// Removes the end mark and the description that follow the device state in a stream
    /// without footers (see [`tail`](super::tail)), and returns the kind of end. Changes
    /// nothing if there is no end, or one that is neither proven nor accepted.
    pub(super) fn split_device_state(&mut self, accept_unproven: bool) -> Result<Tail, Error> {
        let Some(split) = self.device_state.split()? else {
            return Ok(Tail::Open);
        };
        let tail = split.tail();
        if tail == Tail::Whole || accept_unproven {
            self.device_state.truncate(split.len)?;
            if let Some(description) = &split.description {
                self.description(description)?;
            }
        }
        Ok(tail)
    }

    /// Classifies the end of the device state received so far.
    pub(super) fn device_state_tail(&self) -> Result<Tail, Error> {
        let split = self.device_state.split()?;
        Ok(split.map_or(Tail::Open, |split| split.tail()))
    }

    /// Syncs the device state to disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync_device_state(&mut self) -> Result<(), Error> {
        self.early_state.sync()?;
        self.device_state.sync()
    }

    /// Syncs everything received so far to disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        // A flush of the disk for each of thousands of files takes longer than all other work.
        match self.files.len() > MAX_HELD {
            true => self.temporary.folder().sync_file_system()?,
            false => self.files.iter().try_for_each(RamData::sync)?,
        }
        self.sync_device_state()
    }

    /// Completes the image and syncs it to disk; only its final name is missing then.
    ///
    /// `facts` describes the source; the writer adds its own facts. After success, dropping
    /// the writer keeps the folder.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::CutShort`] if there is no RAM block, or with [`Error::Io`]. The image
    /// is then incomplete.
    pub fn seal(&mut self, facts: Manifest) -> Result<Manifest, Error> {
        if self.files.is_empty() {
            return Err(Error::CutShort {
                why: "it ends before the first RAM block",
            });
        }
        self.sync()?;
        if let Some(description) = &self.description {
            description.sync()?;
        }
        let mut manifest = self.manifest(facts);
        manifest.seal = self.seal.take();
        let manifest = digest::seal(self.temporary.folder(), manifest)?;
        self.seal = manifest.seal.clone();
        let text = format!("{:#}\n", manifest.to_json());
        self.temporary.folder().replace(MANIFEST, text.as_bytes())?;
        self.temporary.sync()?;
        self.temporary.set_stays(true);
        Ok(manifest)
    }

    /// Renames a sealed image to its final name. The image stays on disk even if that
    /// fails.
    pub fn name(mut self) -> Finished {
        // Release the exclusive locks: readers take shared ones.
        self.files.clear();
        let trouble = self.temporary.name().err();
        // Remove the resume files last: until the image has its name, another process must be
        // able to continue. Readers ignore files that the manifest does not name.
        if self.early_state.len == 0 {
            let _ = self.temporary.folder().remove(EARLY_STATE);
        }
        if let Some(received) = self.received.take() {
            let _ = received.remove();
        }
        Finished {
            path: self.temporary.path().to_owned(),
            has_name: self.temporary.has_name(),
            trouble,
        }
    }

    /// Seals and names the image: [`Writer::seal`], then [`Writer::name`].
    ///
    /// # Errors
    ///
    /// Fails as those do. An image that lacks only its final name is kept under another.
    pub fn finish(mut self, facts: Manifest) -> Result<Manifest, Error> {
        let manifest = self.seal(facts)?;
        match self.name().trouble {
            Some(error) => Err(error),
            None => Ok(manifest),
        }
    }

    pub(super) fn manifest(&self, facts: Manifest) -> Manifest {
        let blocks = self.blocks.iter().flat_map(Blocks::iter).zip(&self.files);
        let blocks = blocks.map(|(block, ram)| RamFile {
            name: block.name.clone(),
            len: block.len,
            page: block.page,
            file: ram.name().to_owned(),
        });
        Manifest {
            blocks: blocks.collect(),
            target_page: self
                .blocks
                .as_ref()
                .map_or(facts.target_page, Blocks::target),
            device_state: self.device_state.len,
            early_state: self.early_state.len,
            description: self.description.as_ref().map(|file| file.len),
            ..facts
        }
    }
}

/// The location of a complete image.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished {
    /// The folder.
    pub path: PathBuf,
    /// Whether it has the requested name.
    pub has_name: bool,
    /// Why it does not have the requested name, or why a system crash could still undo the
    /// rename.
    pub trouble: Option<Error>,
}

impl Gathered {
    fn end(&self) -> u64 {
        self.offset + wide(self.bytes.len())
    }
}

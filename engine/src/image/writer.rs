//! Makes an image.
//!
//! Pages come in any order and may come again. Neighbours are gathered, so that
//! a stream that goes through memory in order is written in large pieces; pages
//! of zeros become holes. No error leaves anything of the image's name; what was
//! written goes when the writer is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use retpath_codec::BlockName;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::manifest::{Manifest, RamFile};
use super::temporary::Temporary;
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, MANIFEST};
use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks};
use crate::zero::is_zero;

/// Neighbouring pages that are written at once, in bytes.
const GATHER: usize = 1 << 20;

/// What zeros are judged and holes are made by, in bytes: what file systems
/// allocate.
const PIECE: usize = 4096;

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

/// A block's file.
#[derive(Debug)]
struct RamData {
    name: String,
    path: PathBuf,
    file: File,
    /// Which pieces may be something else than holes.
    written: Bits,
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
        let name = file_name(id, block.name.name().as_bytes());
        let path = self.temporary.path().join(&name);
        let file = create(&path)?;
        // File systems without locks are no reason to refuse: it is a courtesy.
        let _ = file.try_lock();
        file.set_len(block.len)
            .map_err(Error::io("making room in", &path))?;
        let pieces = block.len.div_ceil(crate::memory::wide(PIECE));
        self.files.push(RamData {
            name,
            path,
            file,
            written: Bits::new(pieces),
        });
        Ok(id)
    }

    /// Puts bytes into a block.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] and [`Error::Io`], which may be about bytes that came
    /// before.
    pub fn write(&mut self, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let len = crate::memory::wide(bytes.len());
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

    /// Appends to the sections in front of RAM.
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
    /// end: see [`tail`](super::tail).
    pub(super) fn split_device_state(&mut self) -> Result<bool, Error> {
        let state = &mut self.device_state;
        let failed = |error| Error::io("reading", &state.path)(error);
        let all = std::fs::read(&state.path).map_err(failed)?;
        let Some((len, description)) = super::tail::split(&all) else {
            return Ok(false);
        };
        state.truncate(crate::memory::wide(len))?;
        if let Some(description) = description {
            self.description(description)?;
        }
        Ok(true)
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
            ram.file
                .sync_all()
                .map_err(Error::io("syncing", &ram.path))?;
        }
        self.sync_device_state()
    }

    /// Finishes the image and gives it its name. `facts` is what is known of
    /// the source; what the writer knows itself is put into it.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], if somebody was faster, and [`Error::Io`]. The image
    /// is not there.
    pub fn finish(mut self, facts: Manifest) -> Result<Manifest, Error> {
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
        self.offset + crate::memory::wide(self.bytes.len())
    }
}

impl RamData {
    /// Writes pieces that are not zero, in rows, and clears the others.
    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let zero = is_zero(first_piece(offset, bytes));
            let mut len = 0;
            while len < bytes.len() {
                let at = offset + crate::memory::wide(len);
                let piece = first_piece(at, &bytes[len..]);
                if is_zero(piece) != zero {
                    break;
                }
                len += piece.len();
            }
            let (row, rest) = bytes.split_at(len);
            let size = crate::memory::wide(len);
            if zero {
                self.zero(offset, size)?;
            } else {
                let failed = Error::io("writing", &self.path);
                self.file.write_all_at(row, offset).map_err(failed)?;
                let (first, count) = pieces(offset, size);
                self.written.set_range(first, count);
            }
            offset += size;
            bytes = rest;
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), Error> {
        let (first, count) = pieces(offset, len);
        if self.written.count_range(first, count) == 0 {
            return Ok(());
        }
        let piece = crate::memory::wide(PIECE);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, hole, offset, len) {
            Ok(()) => {}
            // A file system without holes: zeros take their room.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = [0; PIECE];
                let end = offset + len;
                let mut at = offset;
                while at < end {
                    let size = (end - at).min(piece);
                    let size = usize::try_from(size).unwrap_or(PIECE);
                    self.file
                        .write_all_at(&zeros[..size], at)
                        .map_err(Error::io("writing", &self.path))?;
                    at += crate::memory::wide(size);
                }
            }
            Err(errno) => return Err(Error::io("making a hole in", &self.path)(errno.into())),
        }
        // Those at the ends may hold something else, too.
        if offset.is_multiple_of(piece) && len.is_multiple_of(piece) {
            self.written.clear_range(first, count);
        }
        Ok(())
    }
}

/// What of `bytes` lies in the same piece as their first one.
fn first_piece(offset: u64, bytes: &[u8]) -> &[u8] {
    let inside = usize::try_from(offset % crate::memory::wide(PIECE)).unwrap_or(0);
    &bytes[..bytes.len().min(PIECE - inside)]
}

/// The pieces that a range touches: the first one, and how many.
fn pieces(offset: u64, len: u64) -> (u64, u64) {
    let piece = crate::memory::wide(PIECE);
    let first = offset / piece;
    (first, (offset + len).div_ceil(piece) - first)
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
        self.len += crate::memory::wide(bytes.len());
        Ok(())
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

/// A new file, to be read and written.
fn create(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.open(path).map_err(Error::io("making", path))
}

/// The name of a block's file: its number, which no other has, and what of its
/// name every file system takes.
fn file_name(id: BlockId, name: &[u8]) -> String {
    /// Characters of the block's name; it may have 255.
    const MOST: usize = 100;
    let plain = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(*byte),
        _ => '_',
    };
    let name: String = name.iter().map(plain).take(MOST).collect();
    format!("ram-{id:03}-{}.raw", name.trim_start_matches('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_so_that_every_file_system_takes_them() {
        for (id, name, want) in [
            (0, &b"pc.ram"[..], "ram-000-pc.ram.raw"),
            (
                1,
                b"/rom@etc/acpi/tables",
                "ram-001-rom_etc_acpi_tables.raw",
            ),
            (12, b"..", "ram-012-...raw"),
            (1000, b"/\xff\n", "ram-1000-.raw"),
        ] {
            assert_eq!(file_name(id, name), want);
        }
        assert!(file_name(0, &[b'x'; 255]).len() < 120);
    }
}

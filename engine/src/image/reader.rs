//! Opens an image.
//!
//! Everything that the manifest says is compared with what is there before
//! anything is served; RAM is mapped, not read, so that an image larger than
//! memory can be served, and several processes share what they read of it.
//!
//! Nothing of an image is changed. Its files stay locked, shared, while it is
//! open; see [`Frozen::map`] for what that asks of others.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::manifest::{Manifest, RamFile};
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, MANIFEST};
use crate::blocks::{Block, BlockId, Blocks};
use crate::memory::Frozen;
use crate::source::PageSource;
use crate::virtio_mem::{Devices, Unplugged};

/// Largest manifest, in bytes: room for the most RAM blocks that there can be.
const MAX_MANIFEST: u64 = 16 << 20;

/// Largest device state, and largest description, in bytes.
const MAX_STATE: u64 = 4 << 30;

/// An image that is open.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    manifest: Manifest,
    blocks: Blocks,
    ram: Vec<Frozen>,
    device_state: Vec<u8>,
    early_state: Vec<u8>,
    description: Option<Vec<u8>>,
}

impl Image {
    /// Opens the image in the folder `path`.
    ///
    /// # Errors
    ///
    /// It is no image, it is one of another version, or its files are not what
    /// its manifest says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let manifest = read_manifest(path)?;
        let place = path.join(MANIFEST);
        let wrong = |why: String| Error::Manifest {
            path: place.clone(),
            why,
        };
        let mut blocks =
            Blocks::new(manifest.target_page).map_err(|error| wrong(error.to_string()))?;
        for file in &manifest.blocks {
            let block = Block {
                name: file.name.clone(),
                len: file.len,
                page: file.page,
            };
            let added = blocks.add(block);
            added.map_err(|error| wrong(format!("RAM block {}: {error}", file.name)))?;
        }
        let ram = manifest.blocks.iter().map(|file| map(path, file));
        let ram = ram.collect::<Result<_, _>>()?;
        let early_state = match manifest.early_state {
            0 => Vec::new(),
            len => read_state(path, EARLY_STATE, len)?,
        };
        let description = manifest
            .description
            .map(|len| read_state(path, DESCRIPTION, len));
        Ok(Self {
            device_state: read_state(path, DEVICE_STATE, manifest.device_state)?,
            early_state,
            description: description.transpose()?,
            path: path.to_owned(),
            manifest,
            blocks,
            ram,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The RAM blocks, numbered as for [`PageSource`].
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The devices' sections as they stood in the stream, with their heads and
    /// footers.
    pub fn device_state(&self) -> &[u8] {
        &self.device_state
    }

    /// The sections that stood in front of the first page.
    pub fn early_state(&self) -> &[u8] {
        &self.early_state
    }

    /// The description of the device state, JSON, if there is one.
    pub fn description(&self) -> Option<&[u8]> {
        self.description.as_deref()
    }

    /// Memory of virtio-mem devices that is not plugged, as the devices' states
    /// say. It reads as zeros, and is nothing to serve.
    pub fn unplugged(&self) -> Vec<Unplugged> {
        let states = [self.early_state(), self.device_state()];
        let devices = Devices::in_sections(u64::MAX, &states);
        devices.unplugged(&self.blocks).collect()
    }

    /// Bytes of a block that are in its file, those of holes not counted.
    pub fn stored(&self, block: BlockId) -> u64 {
        self.ram.get(block).map_or(0, Frozen::stored)
    }
}

impl PageSource for Image {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self
            .lend(block, offset, out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        self.ram.get(block)?.page(offset, len)
    }

    fn check(&self, block: BlockId) -> io::Result<()> {
        let ram = self.ram.get(block).ok_or(io::ErrorKind::NotFound)?;
        ram.check().map_err(io::Error::other)
    }

    fn is_hole(&self, block: BlockId, offset: u64, len: u64) -> bool {
        self.ram
            .get(block)
            .is_some_and(|ram| ram.is_hole(offset, len))
    }
}

/// Maps a block's file.
fn map(folder: &Path, block: &RamFile) -> Result<Frozen, Error> {
    let path = folder.join(&block.file);
    let file = open(&path)?;
    let size = size_of(&file, &path)?;
    if size > block.len {
        let why = format!(
            "the file has {size} bytes, but RAM block {} has {}: it has been changed",
            block.name, block.len
        );
        return Err(Error::File { path, why });
    }
    Frozen::map(file, block.len).map_err(|error| Error::Map { path, error })
}

fn read_manifest(folder: &Path) -> Result<Manifest, Error> {
    let about = fs::metadata(folder).map_err(Error::io("opening", folder))?;
    let path = folder.join(MANIFEST);
    if !about.is_dir() || fs::symlink_metadata(&path).is_err() {
        return Err(Error::NoManifest {
            path: folder.to_owned(),
        });
    }
    let file = open(&path)?;
    let size = size_of(&file, &path)?;
    if size > MAX_MANIFEST {
        let why = format!("{size} bytes are too many for a manifest");
        return Err(Error::Manifest { path, why });
    }
    let mut text = Vec::new();
    file.take(MAX_MANIFEST)
        .read_to_end(&mut text)
        .map_err(Error::io("reading", &path))?;
    Manifest::parse(&text, &path)
}

fn read_state(folder: &Path, name: &str, len: u64) -> Result<Vec<u8>, Error> {
    let path = folder.join(name);
    let file = open(&path)?;
    let size = size_of(&file, &path)?;
    let why = if size != len {
        format!("the file has {size} bytes, but the manifest says {len}: it has been changed")
    } else if size > MAX_STATE {
        format!("{size} bytes are too many for the state of devices")
    } else {
        let mut bytes = Vec::new();
        file.take(size)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading", &path))?;
        return Ok(bytes);
    };
    Err(Error::File { path, why })
}

/// Opens a file of the image: no link to somewhere else, and nothing that blocks.
fn open(path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(fd.into()),
        Err(Errno::LOOP) => Err(Error::File {
            path: path.to_owned(),
            why: "a symbolic link; an image holds its own files".into(),
        }),
        Err(Errno::NOENT) => Err(Error::File {
            path: path.to_owned(),
            why: "the file is missing, but the manifest names it".into(),
        }),
        Err(errno) => Err(Error::io("opening", path)(errno.into())),
    }
}

fn size_of(file: &File, path: &Path) -> Result<u64, Error> {
    let about = file.metadata().map_err(Error::io("looking at", path))?;
    if !about.is_file() {
        return Err(Error::File {
            path: path.to_owned(),
            why: "no ordinary file".into(),
        });
    }
    Ok(about.len())
}

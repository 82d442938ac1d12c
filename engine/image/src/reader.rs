//! Opens an image for reading.
//!
//! Opening compares everything the manifest states with the files. Device state is
//! read and verified at once. RAM is read on demand, so that images larger than memory
//! can be served, and each piece is verified when it is read.
//!
//! Reading never modifies an image. The RAM files that are held open carry the shared lock.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::digest::{Digest, identity};
use super::folder::Folder;
use super::manifest::Manifest;
use super::ram_reader::RamReader;
use super::sums::Sums;
use super::{DESCRIPTION, DEVICE_STATE, EARLY_STATE, Error, MANIFEST, MAX_DEVICE_STATE};
use retpath_engine::blocks::{BlockId, Blocks, Span};
use retpath_engine::source::PageSource;
use retpath_engine::virtio_mem::Devices;

/// Maximum manifest size in bytes, enough for the maximum number of RAM blocks.
const MAX_MANIFEST: u64 = 16 << 20;

/// An open image.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    manifest: Manifest,
    blocks: Blocks,
    ram: Vec<RamReader>,
    device_state: Vec<u8>,
    early_state: Vec<u8>,
    description: Option<Vec<u8>>,
}

impl Image {
    /// Opens the image in the folder `path`.
    ///
    /// # Errors
    ///
    /// Fails if the folder is not an image, has another format version, or if its files
    /// do not match the manifest.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, true)
    }

    /// Opens the image without verifying RAM when it is read.
    ///
    /// Use this for an image that [`verify()`](super::verify()) has just checked and that
    /// cannot have changed since.
    ///
    /// # Errors
    ///
    /// Fails as [`Image::open`] does.
    pub fn open_unverified(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, false)
    }

    fn open_with(path: &Path, verified: bool) -> Result<Self, Error> {
        let (folder, manifest) = open_folder(path)?;
        let blocks = manifest.checked_blocks(&path.join(MANIFEST))?;
        let mut ram = Vec::new();
        for (at, block) in manifest.blocks.iter().enumerate() {
            let sums = match verified {
                true => read_sums(&folder, &manifest, at)?,
                false => None,
            };
            ram.push(RamReader::open(&folder, &block.file, block.len, sums)?);
        }
        let state = |name| read_state(&folder, &manifest, name);
        Ok(Self {
            device_state: state(DEVICE_STATE)?.unwrap_or_default(),
            early_state: state(EARLY_STATE)?.unwrap_or_default(),
            description: state(DESCRIPTION)?,
            path: path.to_owned(),
            manifest,
            blocks,
            ram,
        })
    }

    /// Returns the image's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the image's identity; `None` for images created without one.
    pub fn id(&self) -> Option<Digest> {
        self.manifest.seal.as_ref().map(|seal| seal.id)
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the RAM blocks; their indices are the block numbers of [`PageSource`].
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Returns the device sections as encoded in the stream, with headers and
    /// footers.
    pub fn device_state(&self) -> &[u8] {
        &self.device_state
    }

    /// Returns the device sections received before the first page.
    pub fn early_state(&self) -> &[u8] {
        &self.early_state
    }

    /// Returns the description of the device state in JSON, if present.
    pub fn description(&self) -> Option<&[u8]> {
        self.description.as_deref()
    }

    /// Returns the unplugged memory of virtio-mem devices, according to their state. It
    /// reads as zeros and is not served.
    pub fn unplugged(&self) -> Vec<Span> {
        let states = [self.early_state(), self.device_state()];
        let devices = Devices::in_sections(u64::MAX, &states);
        devices.unplugged(&self.blocks).collect()
    }

    /// Returns the number of bytes allocated for a block, without holes.
    pub fn stored(&self, block: BlockId) -> u64 {
        self.ram.get(block).map_or(0, RamReader::stored)
    }
}

impl PageSource for Image {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let ram = self.ram.get(block).ok_or(io::ErrorKind::NotFound)?;
        ram.read(offset, out).map_err(io::Error::other)
    }

    fn is_hole(&self, block: BlockId, offset: u64, len: u64) -> io::Result<bool> {
        let ram = self.ram.get(block).ok_or(io::ErrorKind::NotFound)?;
        ram.is_hole(offset, len).map_err(io::Error::other)
    }
}

/// Opens an image's folder and reads its manifest.
pub(super) fn open_folder(path: &Path) -> Result<(Arc<Folder>, Manifest), Error> {
    let missing = || Error::NoManifest {
        path: path.to_owned(),
    };
    let folder = Folder::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => missing(),
        _ => Error::io("opening", path)(error),
    })?;
    // Any other failure to find it is an error of its own: it may exist.
    if folder.lacks(MANIFEST) {
        return Err(missing());
    }
    let manifest = read_manifest(&folder)?;
    Ok((Arc::new(folder), manifest))
}

/// Reads the manifest and verifies the image's identity.
fn read_manifest(folder: &Folder) -> Result<Manifest, Error> {
    let path = folder.path().join(MANIFEST);
    let (file, size) = folder.file_and_size(MANIFEST)?;
    let wrong = |why| Error::Manifest {
        path: path.clone(),
        why,
    };
    if size > MAX_MANIFEST {
        return Err(wrong(format!("{size} bytes are too many for a manifest")));
    }
    let mut text = Vec::new();
    file.take(MAX_MANIFEST)
        .read_to_end(&mut text)
        .map_err(Error::io("reading", &path))?;
    let manifest = Manifest::parse(&text, &path)?;
    if let Some(seal) = &manifest.seal {
        let value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let (id, found) = (seal.id, identity(&value));
        if id != found {
            return Err(wrong(format!(
                "the image's id is {id}, but the manifest's content has the id {found}: it has \
                 been changed"
            )));
        }
    }
    Ok(manifest)
}

/// Reads the digests of a block's pieces; `None` if the image has no digests.
pub(super) fn read_sums(
    folder: &Folder,
    manifest: &Manifest,
    block: usize,
) -> Result<Option<Sums>, Error> {
    let ram = manifest.blocks.get(block);
    let seal = manifest.seal.as_ref();
    let sums = seal.and_then(|seal| Some((seal, seal.ram.get(block)?)));
    let (Some(ram), Some((seal, sums))) = (ram, sums) else {
        return Ok(None);
    };
    let bytes = match sums {
        None => Vec::new(),
        Some(sums) => {
            let lengths = Sums::file_len(seal.format, seal.piece, ram.len);
            read_whole(folder, &sums.file, lengths, Some(sums.digest))?
        }
    };
    let parsed = Sums::parse(&bytes, seal.format, seal.piece, ram.len);
    parsed.map(Some).ok_or_else(|| {
        let path = folder
            .path()
            .join(sums.as_ref().map_or("", |sums| &sums.file));
        let why = "its digests are not those of a block of this length".into();
        Error::File { path, why }
    })
}

/// Reads one of the state files; `None` if the image does not have it.
pub(super) fn read_state(
    folder: &Folder,
    manifest: &Manifest,
    name: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let seal = manifest.seal.as_ref();
    let (len, digest) = match name {
        DEVICE_STATE => (
            Some(manifest.device_state),
            seal.map(|seal| seal.device_state),
        ),
        EARLY_STATE => (
            Some(manifest.early_state).filter(|&len| len > 0),
            seal.and_then(|seal| seal.early_state),
        ),
        _ => (manifest.description, seal.and_then(|seal| seal.description)),
    };
    let Some(len) = len else {
        return Ok(None);
    };
    if len > MAX_DEVICE_STATE {
        return Err(Error::StateLimit {
            path: folder.path().join(name),
            limit: MAX_DEVICE_STATE,
        });
    }
    read_whole(folder, name, len..=len, digest).map(Some)
}

/// Reads a whole file and verifies its length and digest.
fn read_whole(
    folder: &Folder,
    name: &str,
    lengths: RangeInclusive<u64>,
    digest: Option<Digest>,
) -> Result<Vec<u8>, Error> {
    let path = folder.path().join(name);
    let (file, size) = folder.file_and_size(name)?;
    if !lengths.contains(&size) {
        let (least, most) = lengths.into_inner();
        let limit = match least == most {
            true => format!("the manifest says {most}"),
            false => format!("{least} to {most} are possible"),
        };
        let why = format!("the file has {size} bytes, but {limit}: it has been changed");
        return Err(Error::File { path, why });
    }
    let mut bytes = Vec::new();
    file.take(size)
        .read_to_end(&mut bytes)
        .map_err(Error::io("reading", &path))?;
    if digest.is_some_and(|digest| digest != Digest::of(&bytes)) {
        return Err(Error::Damaged {
            path,
            offset: 0,
            len: size,
        });
    }
    Ok(bytes)
}

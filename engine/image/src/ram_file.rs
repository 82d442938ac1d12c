//! The sparse file of a RAM block, with holes for zeros.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use retpath_codec::BlockName;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::Error;
use super::backing_file::open_as;
use super::manifest::RamFile;
use retpath_engine::bits::Bits;
use retpath_engine::blocks::{Block, BlockId};
use retpath_engine::protocol::wide;
use retpath_engine::zero::is_zero;

/// Unit of zero detection and of holes, in bytes: the usual allocation unit of file
/// systems.
const PIECE: usize = 4096;

/// A block's file.
#[derive(Debug)]
pub(super) struct RamData {
    /// The file's name in the folder.
    pub(super) name: String,
    path: PathBuf,
    file: File,
    /// Pieces that may not be holes.
    written: Bits,
}

impl RamData {
    /// Creates the file of a block filled with zeros.
    pub(super) fn new(folder: &Path, id: BlockId, block: &Block) -> Result<Self, Error> {
        let name = file_name(id, block.name.name().as_bytes());
        let path = folder.join(&name);
        let file = create(&path)?;
        // The lock is advisory: accept file systems without locks.
        let _ = file.try_lock();
        file.set_len(block.len)
            .map_err(Error::io("making room in", &path))?;
        Ok(Self {
            name,
            path,
            file,
            written: Bits::new(block.len.div_ceil(wide(PIECE))),
        })
    }

    /// Opens the file that another process left for a block.
    pub(super) fn open(folder: &Path, block: &RamFile) -> Result<Self, Error> {
        let path = folder.join(&block.file);
        let file = open_as(&path, OFlags::RDWR)?;
        // The lock is advisory: accept file systems without locks.
        let _ = file.try_lock();
        file.set_len(block.len)
            .map_err(Error::io("making room in", &path))?;
        Ok(Self {
            name: block.file.clone(),
            path,
            file,
            written: Bits::full(block.len.div_ceil(wide(PIECE))),
        })
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        let failed = Error::io("syncing", &self.path);
        self.file.sync_all().map_err(failed)
    }

    /// Writes runs of nonzero pieces and punches holes for the others.
    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let zero = is_zero(first_piece(offset, bytes));
            let mut len = 0;
            while len < bytes.len() {
                let at = offset + wide(len);
                let piece = first_piece(at, &bytes[len..]);
                if is_zero(piece) != zero {
                    break;
                }
                len += piece.len();
            }
            let (row, rest) = bytes.split_at(len);
            let size = wide(len);
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

    /// Punches a hole, unless the range is one.
    pub(super) fn zero(&mut self, offset: u64, len: u64) -> Result<(), Error> {
        let (first, count) = pieces(offset, len);
        if self.written.count_range(first, count) == 0 {
            return Ok(());
        }
        let piece = wide(PIECE);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, hole, offset, len) {
            Ok(()) => {}
            // The file system has no holes: write zeros.
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
                    at += wide(size);
                }
            }
            Err(errno) => return Err(Error::io("making a hole in", &self.path)(errno.into())),
        }
        // Pieces at the ends may also hold other data.
        if offset.is_multiple_of(piece) && len.is_multiple_of(piece) {
            self.written.clear_range(first, count);
        }
        Ok(())
    }
}

/// Returns the part of `bytes` in the same piece as their first byte.
fn first_piece(offset: u64, bytes: &[u8]) -> &[u8] {
    let inside = usize::try_from(offset % wide(PIECE)).unwrap_or(0);
    &bytes[..bytes.len().min(PIECE - inside)]
}

/// Returns the first piece that a range overlaps, and the number of pieces.
fn pieces(offset: u64, len: u64) -> (u64, u64) {
    let piece = wide(PIECE);
    let first = offset / piece;
    (first, (offset + len).div_ceil(piece) - first)
}

/// Creates a new file for reading and writing.
pub(super) fn create(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.open(path).map_err(Error::io("making", path))
}

/// Returns the name of a block's file: its unique number, and those characters of the
/// block name that every file system accepts.
fn file_name(id: BlockId, name: &[u8]) -> String {
    /// Maximum number of characters of the block name, which may have 255.
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

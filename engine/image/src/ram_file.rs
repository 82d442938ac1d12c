//! The sparse file of a RAM block, with holes for zeros.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use retpath_codec::BlockName;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::Error;
use super::folder::{Folder, FolderFile};
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
    file: FolderFile,
    /// Pieces that may not be holes.
    written: Bits,
}

impl RamData {
    /// Creates the file of a block filled with zeros.
    pub(super) fn new(folder: &Arc<Folder>, id: BlockId, block: &Block) -> Result<Self, Error> {
        let name = file_name(id, block.name.name().as_bytes());
        let written = Bits::new(block.len.div_ceil(wide(PIECE)));
        Self::over(FolderFile::create(folder, &name)?, block.len, written)
    }

    /// Opens the file that another process left for a block.
    pub(super) fn open(folder: &Arc<Folder>, block: &RamFile) -> Result<Self, Error> {
        let file = FolderFile::open(folder, &block.file, OFlags::RDWR)?;
        let mut written = Bits::new(block.len.div_ceil(wide(PIECE)));
        let mut data = file.data_from(0, block.len)?;
        while !data.is_empty() {
            let (first, count) = pieces(data.start, data.end - data.start);
            written.set_range(first, count);
            data = file.data_from(data.end, block.len)?;
        }
        Self::over(file, block.len, written)
    }

    fn over(file: FolderFile, len: u64, written: Bits) -> Result<Self, Error> {
        let opened = file.get()?;
        // The lock is advisory: accept file systems without locks.
        let _ = opened.try_lock();
        let room = opened.set_len(len);
        drop(opened);
        room.map_err(Error::io("making room in", &file.path()))?;
        Ok(Self { file, written })
    }

    /// The file's name in the folder.
    pub(super) fn name(&self) -> &str {
        self.file.name()
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = self.file.get()?.sync_all();
        synced.map_err(Error::io("syncing", &self.file.path()))
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
                let written = self.file.get()?.write_all_at(row, offset);
                written.map_err(Error::io("writing", &self.file.path()))?;
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
        if self.written.next_in(first, count).is_none() {
            return Ok(());
        }
        let piece = wide(PIECE);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let file = self.file.get()?;
        match rustix::fs::fallocate(&*file, hole, offset, len) {
            Ok(()) => {}
            // The file system has no holes: write zeros.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = [0; PIECE];
                let end = offset + len;
                let mut at = offset;
                while at < end {
                    let size = (end - at).min(piece);
                    let size = usize::try_from(size).unwrap_or(PIECE);
                    file.write_all_at(&zeros[..size], at)
                        .map_err(Error::io("writing", &self.file.path()))?;
                    at += wide(size);
                }
            }
            Err(errno) => {
                let path = self.file.path();
                return Err(Error::io("making a hole in", &path)(errno.into()));
            }
        }
        drop(file);
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

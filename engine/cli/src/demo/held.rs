//! The source's memory: a memfd that the source fills and seals, and that both
//! processes map. One serves it, the other compares with it.
//!
//! The blocks lie in it one after the other. The seal is what makes it safe to
//! lend its bytes: nobody can write or shorten it any more.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use rustix::fs::{MemfdFlags, SealFlags};

use super::content::Content;
use super::{TARGET, TARGET_BYTES};
use retpath_engine::blocks::{BlockId, Blocks};
use retpath_engine::memory::SealedMemory;
use retpath_engine::source::PageSource;

/// Memory that nobody can change.
#[derive(Debug)]
pub(super) struct Held {
    bytes: SealedMemory,
    /// Where each block begins, and its length.
    blocks: Vec<(u64, u64)>,
}

/// Bytes that are written at once.
const CHUNK: u64 = 1 << 20;

/// Fills a memfd for `blocks` with content and seals it; says how many target
/// pages are zero.
pub(super) fn fill(blocks: &Blocks, content: &Content) -> io::Result<(File, u64)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("retpath-demo", flags)?);
    file.set_len(blocks.iter().map(|block| block.len).sum())?;
    let mut chunks = Vec::new();
    for ((start, len), block) in places(blocks).into_iter().zip(0..) {
        let offsets = (0..len).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX));
        chunks.extend(offsets.map(|at| (block, start, at, CHUNK.min(len - at))));
    }
    let (next, zeros) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let at = usize::try_from(next.fetch_add(1, Relaxed)).unwrap_or(usize::MAX);
            let Some((block, start, offset, len)) = chunks.get(at).copied() else {
                return Ok(());
            };
            bytes.resize(usize::try_from(len).unwrap_or(0), 0);
            for (page, number) in bytes.chunks_mut(TARGET_BYTES).zip(offset / TARGET..) {
                let zero = content.write(block, number, page);
                zeros.fetch_add(u64::from(zero), Relaxed);
            }
            file.write_all_at(&bytes, start + offset)?;
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        // This thread works, too: it only takes longer where none can be started.
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..workers).map_while(start).collect();
        work()?;
        others.into_iter().try_for_each(|worker| {
            let done = worker.join();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok((file, zeros.into_inner()))
}

impl Held {
    /// Maps what [`fill`] made.
    ///
    /// # Errors
    ///
    /// It is not sealed or too short, or cannot be mapped.
    pub(super) fn map(file: &File, blocks: &Blocks) -> Result<Self, String> {
        let len = blocks.iter().map(|block| block.len).sum();
        let bytes = SealedMemory::from_memfd(file, len).map_err(|error| error.to_string())?;
        let blocks = places(blocks);
        Ok(Self { bytes, blocks })
    }
}

impl PageSource for Held {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self
            .lend(block, offset, out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        let (start, size) = *self.blocks.get(block)?;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        if end > size {
            return None;
        }
        self.bytes.page(start + offset, len)
    }
}

/// Start and length of each block in the memfd.
fn places(blocks: &Blocks) -> Vec<(u64, u64)> {
    let mut next = 0;
    let place = |block: &retpath_engine::blocks::Block| {
        let start = next;
        next += block.len;
        (start, block.len)
    };
    blocks.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use retpath_codec::NameBuf;

    use super::*;
    use retpath_engine::blocks::Block;

    fn blocks(lens: &[u64]) -> Blocks {
        let mut blocks = Blocks::new(TARGET).expect("4 KiB");
        for (number, len) in lens.iter().enumerate() {
            let name = NameBuf::new(format!("b{number}")).expect("good");
            let page = TARGET;
            let len = len * TARGET;
            blocks.add(Block { name, len, page }).expect("good");
        }
        blocks
    }

    #[test]
    fn holds_the_content_of_each_block() {
        let blocks = blocks(&[1, 300, 257]);
        let content = Content::new(3, TARGET);
        let (file, zeros) = fill(&blocks, &content).expect("filled");
        let held = Held::map(&file, &blocks).expect("sealed");
        let mut want = vec![0; TARGET_BYTES];
        let mut found = 0;
        for (block, pages) in [(0, 1), (1, 300), (2, 257)] {
            for number in 0..pages {
                found += u64::from(content.write(block, number, &mut want));
                let got = held.lend(block, number * TARGET, TARGET_BYTES);
                assert!(got == Some(&want[..]), "page {number} of block {block}");
            }
            let end = pages * TARGET;
            assert!(held.lend(block, end, 1).is_none());
            assert!(held.lend(block, end - 1, 2).is_none());
            assert!(held.lend(block, u64::MAX, 2).is_none());
        }
        assert_eq!(found, zeros);
        assert!(held.lend(3, 0, 1).is_none());
    }

    #[test]
    fn cannot_be_changed_any_more() {
        let blocks = blocks(&[4]);
        let (file, _) = fill(&blocks, &Content::new(1, TARGET)).expect("filled");
        assert!(file.write_at(&[1], 0).is_err());
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn refuses_memory_that_somebody_can_write() {
        let blocks = blocks(&[4]);
        let open = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).expect("a memfd");
        let open = File::from(open);
        open.set_len(4 * TARGET).expect("room");
        assert!(Held::map(&open, &blocks).is_err());
    }
}

//! The memory that a source serves.

use std::io;

use crate::blocks::BlockId;
use crate::memory::Memory;

/// Memory of all blocks, as far as sending needs it.
///
/// Memory that nobody changes any more lends its bytes; memory that may change
/// while it is sent, as before the switch, must be copied, so that a page is
/// looked at and sent in one state. Implementations are asked from several
/// threads at a time.
pub trait PageSource: Send + Sync {
    /// Copies bytes of a block to `out`.
    ///
    /// # Errors
    ///
    /// The block or the range is invalid, or the memory cannot be read or has
    /// changed. The migration cannot continue; nothing of `out` is sent.
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Lends bytes of a block, if the memory is one that lends.
    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        let _ = (block, offset, len);
        None
    }

    /// Whether bytes of a block are known to be zero without being read, as in a
    /// hole of a file: reading would bring them into memory.
    ///
    /// # Errors
    ///
    /// The memory has changed. The migration cannot continue.
    fn is_hole(&self, block: BlockId, offset: u64, len: u64) -> io::Result<bool> {
        let _ = (block, offset, len);
        Ok(false)
    }

    /// The bytes of a block: lent, or else copied to the front of `scratch`,
    /// which grows to `len` bytes when it is shorter.
    ///
    /// # Errors
    ///
    /// As [`PageSource::read`].
    fn bytes<'a>(
        &'a self,
        block: BlockId,
        offset: u64,
        len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        if let Some(bytes) = self.lend(block, offset, len) {
            return Ok(bytes);
        }
        scratch.resize(scratch.len().max(len), 0);
        let out = &mut scratch[..len];
        self.read(block, offset, out)?;
        Ok(out)
    }
}

/// Blocks that nobody changes, such as
/// [`Frozen`](crate::memory::Frozen) ones, in order of their numbers.
impl<B: AsRef<[u8]> + Send + Sync> PageSource for Vec<B> {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self
            .lend(block, offset, out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get(block)?
            .as_ref()
            .get(start..start.checked_add(len)?)
    }
}

/// Blocks that may change at any moment, in order of their numbers.
impl PageSource for Vec<Memory> {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let memory = self.get(block).ok_or(io::ErrorKind::NotFound)?;
        memory.read(offset, out).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Backing;

    #[test]
    fn lends_what_can_be_lent_and_copies_the_rest() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut scratch = Vec::new();
        let lending = vec![&bytes[..], &bytes[10..]];
        let lent = lending
            .bytes(1, 5, 7, &mut scratch)
            .expect("inside the block");
        assert_eq!(lent, &bytes[15..22]);
        assert!(scratch.is_empty());
        let hole = lending.is_hole(1, 5, 7).expect("memory");
        assert!(!hole, "unknown without reading");
        let live = Memory::new(Backing::Anonymous, 1 << 16).expect("some memory");
        live.write(0, &bytes).expect("inside the block");
        let copied = vec![live];
        let copied = copied
            .bytes(0, 200, 40, &mut scratch)
            .expect("inside the block");
        assert_eq!(copied, &bytes[200..240]);
        assert_eq!(scratch.len(), 40);
    }

    #[test]
    fn refuses_ranges_that_pass_the_end() {
        let mut scratch = Vec::new();
        let memory = vec![vec![0; 100]];
        for (block, offset, len) in [(0, 100, 1), (0, u64::MAX, 2), (1, 0, 1), (0, 1, usize::MAX)] {
            assert!(memory.lend(block, offset, len).is_none());
        }
        assert!(memory.read(0, 99, &mut [0; 2]).is_err());
        let live = Memory::new(Backing::Anonymous, 1 << 16).expect("some memory");
        let live = vec![live];
        assert!(live.lend(0, 0, 1).is_none(), "it may change");
        assert!(live.bytes(0, 0xffff, 2, &mut scratch).is_err());
        assert!(live.bytes(1, 0, 1, &mut scratch).is_err());
    }
}

//! Content of the source's memory, derived from the seed.
//!
//! A quarter of the host pages is zero. The others consist of target pages of four kinds:
//!
//! | kind  | share | bytes                                   | exercises                 |
//! |-------|-------|-----------------------------------------|---------------------------|
//! | zero  | 1/8   | all zero (larger host pages only)       | zeros inside host pages   |
//! | speck | 1/8   | all zero but one byte                   | zero detection            |
//! | alike | 1/4   | equal in all pages but for one byte     | pages that are mixed up   |
//! | noise | rest  | random                                  | everything else           |
//!
//! The first host page of a block is never zero, so every block has something to send.

use fastrand::Rng;

use super::{TARGET, TARGET_BYTES};
use retpath_engine::blocks::Blocks;
use retpath_engine::memory::{self, Backing, Memory, SealedMemory};

/// The memory that the source serves, read-only.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) memory: Vec<SealedMemory>,
    /// Target pages that are zero.
    pub(super) zero: u64,
}

impl Content {
    /// Allocates and fills memory for `blocks`.
    ///
    /// # Errors
    ///
    /// The kernel refuses the memory.
    pub(super) fn new(blocks: &Blocks, random: &mut Rng) -> Result<Self, memory::Error> {
        let mut content = Self {
            memory: Vec::new(),
            zero: 0,
        };
        let mut page = [0; TARGET_BYTES];
        for block in blocks.iter() {
            let memory = Memory::new(Backing::Anonymous, block.len)?;
            let pieces = block.page / TARGET;
            let mut is_zero_host = false;
            for number in 0..block.len / TARGET {
                if number % pieces == 0 {
                    is_zero_host = number > 0 && random.u8(..4) == 0;
                }
                if is_zero_host || !fill(random, pieces > 1, &mut page) {
                    content.zero += 1;
                } else {
                    memory.write(number * TARGET, &page)?;
                }
            }
            content.memory.push(memory.seal()?);
        }
        Ok(content)
    }

    /// Bytes of the pages that are not zero.
    pub(super) fn bytes_to_send(&self) -> u64 {
        let total: u64 = self.memory.iter().map(SealedMemory::len).sum();
        total - self.zero * TARGET
    }
}

/// Byte of which pages of the kind `alike` consist.
const ALIKE: u8 = 0x5a;

/// Fills a page whose host page is not zero; returns `false` if it is zero all the same, which is
/// one in eight if `may_be_zero`.
fn fill(random: &mut Rng, may_be_zero: bool, page: &mut [u8; TARGET_BYTES]) -> bool {
    let of_page = match random.u8(..8) {
        0 if may_be_zero => return false,
        1 => 0,
        2 | 3 => ALIKE,
        _ => {
            random.fill(page);
            return true;
        }
    };
    page.fill(of_page);
    // Never 0, so the byte always changes.
    page[random.usize(..TARGET_BYTES)] ^= random.u8(1..);
    true
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The pages of a content, by host page.
    fn pages(options: &[&str], seed: u64) -> (Content, usize) {
        let args = super::super::test_args(options);
        let blocks = args.layout().expect("good");
        let content = Content::new(&blocks, &mut Rng::with_seed(seed)).expect("memory");
        let zero = content
            .memory
            .iter()
            .flat_map(|memory| memory.bytes().chunks(TARGET_BYTES));
        let zero = zero
            .filter(|page| page.iter().all(|byte| *byte == 0))
            .count();
        (content, zero)
    }

    #[test]
    fn makes_pages_of_each_kind_and_no_two_equal_but_zero_ones() {
        let (content, zero) = pages(&["--size", "32M", "--blocks", "2"], 1);
        assert_eq!(content.zero, zero as u64);
        let mut seen = HashSet::new();
        let (mut speck, mut alike) = (0, 0);
        for page in content
            .memory
            .iter()
            .flat_map(|memory| memory.bytes().chunks(TARGET_BYTES))
        {
            let odd = |byte: u8| page.iter().filter(|b| **b != byte).count();
            match (odd(0), odd(ALIKE)) {
                (0, _) => {}
                (1, _) => speck += 1,
                (_, 1) => alike += 1,
                _ => assert!(seen.insert(page), "two pages are equal"),
            }
        }
        for (count, share) in [(zero, 2048), (speck, 768), (alike, 1536)] {
            assert!((share * 4 / 5..share * 6 / 5).contains(&count), "{count}");
        }
    }

    #[test]
    fn makes_zero_host_pages_and_zeros_inside_others() {
        const PIECES: usize = 16;
        let (content, zero) = pages(&["--size", "64M", "--page-size", "64K"], 1);
        assert_eq!(content.zero, zero as u64);
        let (mut whole, mut part) = (0, 0);
        for (number, host) in content.memory[0]
            .bytes()
            .chunks(PIECES * TARGET_BYTES)
            .enumerate()
        {
            let is_zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
            let zeros = host.chunks(TARGET_BYTES).filter(is_zero).count();
            whole += u32::from(zeros == PIECES);
            part += u32::from((1..PIECES).contains(&zeros));
            assert!(number > 0 || zeros < PIECES);
        }
        assert!((200..320).contains(&whole), "{whole}");
        assert!((500..800).contains(&part), "{part}");
    }

    #[test]
    fn follows_from_the_seed() {
        let of = |seed| pages(&["--size", "3M", "--blocks", "3"], seed).0;
        let (one, again, other) = (of(3), of(3), of(4));
        for id in 0..3 {
            assert!(one.memory[id].bytes() == again.memory[id].bytes());
            assert!(one.memory[id].bytes() != other.memory[id].bytes());
        }
    }
}

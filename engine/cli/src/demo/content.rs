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

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::{TARGET, TARGET_BYTES};
use retpath_engine::blocks::Blocks;
use retpath_engine::memory::{self, Backing, Memory, SealedMemory};

/// A sequence of pseudorandom numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// SplitMix64's increment: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's mixer; a bijection.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Random {
    /// The sequence for a seed; each `purpose` has a sequence of its own.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose.wrapping_add(STEP))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, or 0 if `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // Biased by at most end / 2^64, which does not matter here.
        let scaled = u128::from(self.next()) * u128::from(end);
        u64::try_from(scaled >> 64).unwrap_or_default()
    }

    /// The numbers below `len` in random order; `None` without memory for them.
    pub(super) fn order(&mut self, len: u64) -> Option<Vec<u64>> {
        let index = |number| usize::try_from(number).ok();
        let mut order = Vec::new();
        order.try_reserve_exact(index(len)?).ok()?;
        order.extend(0..len);
        for end in (2..=len).rev() {
            order.swap(index(end - 1)?, index(self.below(end))?);
        }
        Some(order)
    }
}

/// Bytes of a block that each thread fills at once.
const CHUNK: u64 = 1 << 20;

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
    pub(super) fn new(blocks: &Blocks, seed: u64) -> Result<Self, memory::Error> {
        let allocate = |len| Memory::new(Backing::Anonymous, len);
        let memory: Result<Vec<_>, _> = blocks.iter().map(|block| allocate(block.len)).collect();
        let memory = memory?;
        let mut chunks = Vec::new();
        for (id, block) in blocks.iter().enumerate() {
            let pieces = (block.page / TARGET).max(1);
            let offsets = (0..block.len.div_ceil(CHUNK)).map(|number| number * CHUNK);
            chunks.extend(offsets.map(|at| (id, pieces, at, CHUNK.min(block.len - at))));
        }
        let (next, zero) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = || -> Result<(), memory::Error> {
            let mut page = [0; TARGET_BYTES];
            while let Some(&(id, pieces, at, len)) = chunks.get(next.fetch_add(1, Relaxed)) {
                for number in at / TARGET..(at + len) / TARGET {
                    let is_zero = write_page(seed, pieces, (id, number), &mut page);
                    zero.fetch_add(u64::from(is_zero), Relaxed);
                    if !is_zero {
                        memory[id].write(number * TARGET, &page)?;
                    }
                }
            }
            Ok(())
        };
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            // This thread works, too, so a thread that cannot be started only costs time.
            let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(start).collect();
            work()?;
            others.into_iter().try_for_each(|other| {
                let done = other.join();
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        Ok(Self {
            memory: memory
                .into_iter()
                .map(Memory::seal)
                .collect::<Result<_, _>>()?,
            zero: zero.into_inner(),
        })
    }

    /// Bytes of the pages that are not zero.
    pub(super) fn bytes_to_send(&self) -> u64 {
        let total: u64 = self.memory.iter().map(SealedMemory::len).sum();
        total - self.zero * TARGET
    }
}

/// Byte of which pages of the kind `alike` consist.
const ALIKE: u8 = 0x5a;

/// Fills `out` with target page `number` of a block whose host pages have `pieces` target pages;
/// returns whether it is zero.
fn write_page(seed: u64, pieces: u64, (block, number): (usize, u64), out: &mut [u8]) -> bool {
    let random = |number: u64, purpose| {
        let block = u64::try_from(block).unwrap_or(u64::MAX);
        Random::new(seed ^ mix(number ^ mix(!block)), purpose)
    };
    let host = number / pieces;
    let mut random_of_page = random(number, 2);
    let kind = random_of_page.below(8);
    let is_zero = host > 0 && random(host, 3).below(4) == 0 || kind == 0 && pieces > 1;
    match kind {
        kind if is_zero || kind == 1 => out.fill(0),
        2 | 3 => out.fill(ALIKE),
        _ => {
            for bytes in out.chunks_mut(8) {
                bytes.copy_from_slice(&random_of_page.next().to_ne_bytes()[..bytes.len()]);
            }
        }
    }
    if !is_zero && matches!(kind, 1..=3) {
        let at = usize::try_from(random_of_page.below(TARGET)).unwrap_or(0);
        // Never 0, so the byte always changes.
        let change = 1 + random_of_page.below(255).to_le_bytes()[0];
        if let Some(byte) = out.get_mut(at) {
            *byte ^= change;
        }
    }
    is_zero
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn page(seed: u64, pieces: u64, place: (usize, u64)) -> Vec<u8> {
        let mut out = vec![0xff; TARGET_BYTES];
        let is_zero = write_page(seed, pieces, place, &mut out);
        assert_eq!(is_zero, out.iter().all(|byte| *byte == 0));
        out
    }

    #[test]
    fn makes_pages_of_each_kind_and_no_two_equal_but_zero_ones() {
        let mut seen = HashSet::new();
        let (mut zero, mut speck, mut alike) = (0, 0, 0);
        for place in (0..2).flat_map(|block| (0..4000).map(move |number| (block, number))) {
            let page = page(1, 1, place);
            let odd = |byte: u8| page.iter().filter(|b| **b != byte).count();
            match (odd(0), odd(ALIKE)) {
                (0, _) => zero += 1,
                (1, _) => speck += 1,
                (_, 1) => alike += 1,
                _ => assert!(seen.insert(page), "{place:?}"),
            }
        }
        for (count, share) in [(zero, 2000), (speck, 750), (alike, 1500)] {
            assert!((share * 4 / 5..share * 6 / 5).contains(&count), "{count}");
        }
    }

    #[test]
    fn makes_zero_host_pages_and_zeros_inside_others() {
        let (mut whole, mut part) = (0, 0);
        for host in 0..1000 {
            let is_zero = |number: &u64| page(1, 8, (0, *number)).iter().all(|b| *b == 0);
            let zeros = (host * 8..host * 8 + 8).filter(is_zero).count();
            whole += u32::from(zeros == 8);
            part += u32::from((1..8).contains(&zeros));
            assert!(host > 0 || zeros < 8);
        }
        assert!((150..350).contains(&whole), "{whole}");
        assert!((300..700).contains(&part), "{part}");
    }

    #[test]
    fn fills_every_block_with_the_pages_of_its_seed() {
        let blocks = super::super::test_args(&["--size", "3M", "--blocks", "3"]);
        let blocks = blocks.layout().expect("good");
        let content = Content::new(&blocks, 3).expect("memory");
        let mut zero = 0;
        for (id, block) in blocks.iter().enumerate() {
            let got = content.memory[id].bytes().chunks(TARGET_BYTES);
            assert_eq!(got.len() as u64 * TARGET, block.len);
            for (got, number) in got.zip(0..) {
                assert!(got == page(3, 1, (id, number)), "page {number} of {id}");
                assert!(got != page(4, 1, (id, number)) || got == [0; TARGET_BYTES]);
                zero += u64::from(got == [0; TARGET_BYTES]);
            }
        }
        assert_eq!(content.zero, zero);
    }

    #[test]
    fn orders_every_number_once() {
        for len in [0, 1, 2, 3, 64, 1000, 4097] {
            let mut order = Random::new(len, 1).order(len).expect("memory");
            let kept = order.windows(2).filter(|w| w[0] + 1 == w[1]).count();
            assert!(kept < 100, "{kept} neighbours of {len} stay neighbours");
            order.sort_unstable();
            assert!(order.into_iter().eq(0..len), "{len}");
        }
        assert_eq!(Random::new(1, 1).order(u64::MAX), None);
    }
}

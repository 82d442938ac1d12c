//! What the memory holds that is moved: bytes that follow from the seed.
//!
//! A quarter of the host pages is zero. The others are made of target pages of
//! four kinds:
//!
//! | kind  | share | bytes                                    | shows                   |
//! |-------|-------|------------------------------------------|-------------------------|
//! | zero  | 1/8   | all zero (larger host pages only)        | zeros inside host pages |
//! | speck | 1/8   | all zero but one byte                    | zero detection          |
//! | alike | 1/4   | the same as all others but for one byte  | pages mixed up          |
//! | noise | rest  | random                                   | everything else         |
//!
//! The first host page of a block is never zero, so there is always something
//! to move.

use super::TARGET;
use super::random::{Random, mix};

/// Content by seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    seed: u64,
    /// Target pages of a host page.
    pieces: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zero,
    Speck,
    Alike,
    Noise,
}

/// What pages that are alike are made of.
const ALIKE: u8 = 0x5a;

impl Content {
    /// For host pages of `page` bytes.
    pub(super) fn new(seed: u64, page: u64) -> Self {
        let pieces = (page / TARGET).max(1);
        Self { seed, pieces }
    }

    /// Fills `out` with a target page; says whether it is zero.
    pub(super) fn write(&self, block: usize, number: u64, out: &mut [u8]) -> bool {
        let mut random = self.random(block, number, 2);
        let kind = self.kind(block, number, &mut random);
        match kind {
            Kind::Zero | Kind::Speck => out.fill(0),
            Kind::Alike => out.fill(ALIKE),
            Kind::Noise => {
                for bytes in out.chunks_mut(8) {
                    bytes.copy_from_slice(&random.next().to_ne_bytes()[..bytes.len()]);
                }
            }
        }
        if matches!(kind, Kind::Speck | Kind::Alike) {
            let len = u64::try_from(out.len()).unwrap_or(u64::MAX);
            let at = usize::try_from(random.below(len)).unwrap_or(0);
            // Any change will do, and 1..=255 is one.
            let change = 1 + random.below(255).to_le_bytes()[0];
            if let Some(byte) = out.get_mut(at) {
                *byte ^= change;
            }
        }
        kind == Kind::Zero
    }

    fn kind(&self, block: usize, number: u64, random: &mut Random) -> Kind {
        let host = number / self.pieces;
        if host > 0 && self.random(block, host, 3).below(4) == 0 {
            return Kind::Zero;
        }
        match random.below(8) {
            0 if self.pieces > 1 => Kind::Zero,
            1 => Kind::Speck,
            2 | 3 => Kind::Alike,
            _ => Kind::Noise,
        }
    }

    fn random(&self, block: usize, number: u64, purpose: u64) -> Random {
        let block = u64::try_from(block).unwrap_or(u64::MAX);
        Random::new(self.seed ^ mix(number ^ mix(!block)), purpose)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn page(content: &Content, block: usize, number: u64) -> Vec<u8> {
        let mut out = vec![0xff; TARGET as usize];
        let zero = content.write(block, number, &mut out);
        assert_eq!(zero, out.iter().all(|byte| *byte == 0));
        out
    }

    #[test]
    fn makes_no_two_pages_alike_but_zero_ones() {
        let content = Content::new(1, TARGET);
        let mut seen = HashSet::new();
        let (mut zero, mut speck, mut alike) = (0, 0, 0);
        for (block, number) in (0..2).flat_map(|block| (0..4000).map(move |n| (block, n))) {
            let page = page(&content, block, number);
            let odd = |byte: u8| page.iter().filter(|b| **b != byte).count();
            match (odd(0), odd(ALIKE)) {
                (0, _) => zero += 1,
                (1, _) => speck += 1,
                (_, 1) => alike += 1,
                _ => assert!(seen.insert(page), "page {number} of block {block}"),
            }
        }
        for (count, share) in [(zero, 2000), (speck, 750), (alike, 1500)] {
            assert!((share * 4 / 5..share * 6 / 5).contains(&count), "{count}");
        }
    }

    #[test]
    fn follows_from_the_seed() {
        let pages = |seed| {
            let content = Content::new(seed, 1 << 16);
            let pages = (0..64).map(|number| page(&content, 0, number));
            pages.collect::<Vec<_>>()
        };
        assert_eq!(pages(5), pages(5));
        assert_ne!(pages(5), pages(6));
    }

    #[test]
    fn has_zero_host_pages_and_zeros_inside_others() {
        let content = Content::new(1, 8 * TARGET);
        let (mut whole, mut part) = (0, 0);
        for host in 0..1000 {
            let zeros = (host * 8..host * 8 + 8)
                .filter(|number| page(&content, 0, *number).iter().all(|b| *b == 0))
                .count();
            whole += u32::from(zeros == 8);
            part += u32::from((1..8).contains(&zeros));
            assert!(host > 0 || zeros < 8);
        }
        assert!((150..350).contains(&whole), "{whole}");
        assert!((300..700).contains(&part), "{part}");
    }
}

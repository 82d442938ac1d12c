//! Numbers that look random and follow from a seed.

/// Weyl's constant for 64 bits: the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Turns every bit of `x` into a matter of chance (the mixer of SplitMix64);
/// different numbers stay different.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A sequence of such numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The sequence of a seed, of which each `purpose` has its own.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose.wrapping_add(STEP))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`; 0 if that is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // The bias is end / 2^64: nobody's business here.
        let scaled = u128::from(self.next()) * u128::from(end);
        u64::try_from(scaled >> 64).unwrap_or_default()
    }
}

/// The numbers below `len` in an order that looks random.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shuffle {
    len: u64,
    mask: u64,
    shift: u32,
    factor: u64,
    add: u64,
}

impl Shuffle {
    /// An order that follows from the seed.
    pub(super) fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - len.leading_zeros();
        let mut random = Random::new(seed, 1);
        Self {
            len,
            mask: u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0),
            shift: (bits / 2).max(1),
            factor: random.next() | 1,
            add: random.next(),
        }
    }

    /// The number at place `at`, which is below `len`: each number is at one
    /// place.
    pub(super) fn number(&self, at: u64) -> u64 {
        let mut x = at;
        loop {
            // Every line can be undone, so no two places share a number; and
            // a walk from a place below `len` comes back below it.
            for _ in 0..3 {
                x = x.wrapping_mul(self.factor).wrapping_add(self.add) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.len {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_every_number_to_one_place() {
        for len in [1, 2, 3, 5, 64, 1000, 4097] {
            for seed in 0..5 {
                let order = Shuffle::new(len, seed);
                let mut seen: Vec<u64> = (0..len).map(|at| order.number(at)).collect();
                if len >= 1000 {
                    let kept = seen.windows(2).filter(|w| w[0] + 1 == w[1]).count();
                    assert!(kept < 100, "{kept} neighbours of {len} stay neighbours");
                }
                seen.sort_unstable();
                assert!(seen.iter().copied().eq(0..len), "{len}, seed {seed}");
            }
        }
    }

    #[test]
    fn stays_below_the_end() {
        let mut random = Random::new(7, 0);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }
}

//! Decision source for tests: numbers read from fuzzer bytes or drawn from a seed.

use std::borrow::Cow;

use retpath_random::Random;

/// A deterministic sequence of decisions.
///
/// The same bytes, or the same seed, yield the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    bytes: Cow<'a, [u8]>,
    /// How many of them have been used.
    used: usize,
    /// Supplies numbers once the bytes are used up.
    random: Random,
    endless: bool,
}

impl<'a> Choices<'a> {
    /// Takes numbers from the front of `bytes`, so that a fuzzer controls them;
    /// continues with pseudo-random numbers once the bytes are used up.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            used: 0,
            random: Random::new(0),
            endless: false,
        }
    }

    /// Draws an unlimited sequence from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self {
            bytes: Cow::Borrowed(&[]),
            used: 0,
            random: Random::new(seed),
            endless: true,
        }
    }

    /// The same sequence, which borrows nothing.
    pub fn into_owned(self) -> Choices<'static> {
        let bytes = Cow::Owned(self.bytes.into_owned());
        Choices { bytes, ..self }
    }

    /// Whether the bytes are used up; always false for a seeded sequence.
    pub fn is_empty(&self) -> bool {
        !self.endless && self.used == self.bytes.len()
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Consume only the bytes the bound needs, so that short inputs decide much.
        let last = bound.saturating_sub(1);
        let size = (u64::BITS - last.leading_zeros()).div_ceil(8);
        self.number(size).checked_rem(bound).unwrap_or(0)
    }

    /// Returns any `u64`.
    pub fn any(&mut self) -> u64 {
        self.number(8)
    }

    /// Returns an index below `bound`.
    pub fn index(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("usize has at most 64 bits");
        usize::try_from(self.below(bound)).expect("below a usize bound")
    }

    /// Returns any byte.
    pub fn byte(&mut self) -> u8 {
        self.number(1).to_be_bytes()[7]
    }

    /// Returns true with a probability of one in `count`.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Picks one of `from`, or `None` if it is empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.index(from.len())).copied()
    }

    /// Reads a number of `size` bytes.
    fn number(&mut self, size: u32) -> u64 {
        let size = usize::try_from(size).expect("at most 8");
        let left = &self.bytes[self.used..];
        if size > 0
            && let Some(bytes) = left.get(..size)
        {
            self.used += size;
            return bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        }
        self.used = self.bytes.len();
        self.random.any()
    }
}

//! What decides in a test: numbers from bytes, or from a seed.

use retpath_random::Random;

/// Numbers that say what happens next. The same bytes, or the same seed, give
/// the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    bytes: &'a [u8],
    /// Goes on where the bytes end.
    random: Random,
    endless: bool,
}

impl<'a> Choices<'a> {
    /// Numbers from the front of `bytes`, so that a fuzzer decides; when they
    /// have been used up, any numbers.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            random: Random::new(0),
            endless: false,
        }
    }

    /// As many numbers as are wanted.
    pub fn seeded(seed: u64) -> Self {
        Self {
            bytes: &[],
            random: Random::new(seed),
            endless: true,
        }
    }

    /// Whether the bytes have been used up; never with a seed.
    pub fn is_empty(&self) -> bool {
        !self.endless && self.bytes.is_empty()
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // No more bytes than the number needs, so that few bytes decide much.
        let last = bound.saturating_sub(1);
        let size = (u64::BITS - last.leading_zeros()).div_ceil(8);
        self.number(size).checked_rem(bound).unwrap_or(0)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.number(8)
    }

    /// An index below `bound`.
    pub fn index(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("usize has at most 64 bits");
        usize::try_from(self.below(bound)).expect("below a usize")
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number(1).to_be_bytes()[7]
    }

    /// Whether something happens that happens once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// One of them, if there is one.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.index(from.len())).copied()
    }

    /// A number of `size` bytes.
    fn number(&mut self, size: u32) -> u64 {
        if let Some((bytes, rest)) = usize::try_from(size)
            .ok()
            .and_then(|size| self.bytes.split_at_checked(size))
            && size > 0
        {
            self.bytes = rest;
            return bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        }
        self.bytes = &[];
        self.random.any()
    }
}

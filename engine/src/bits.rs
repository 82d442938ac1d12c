//! A fixed-size set of small numbers, one bit each.
//!
//! Ranges are checked by the callers, who know blocks and pages; a bit beyond
//! the end reads as 0 and cannot be set. Bits beyond the end are always 0, so
//! that words can be handed out as they are.

/// A set of the numbers below a fixed bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: u64,
    count: u64,
}

impl Bits {
    /// The empty set of numbers below `len`.
    ///
    /// # Panics
    ///
    /// If `len` bits do not fit the address space.
    pub fn new(len: u64) -> Self {
        let words = usize::try_from(len.div_ceil(64)).expect("bits fit the address space");
        Self {
            words: vec![0; words],
            len,
            count: 0,
        }
    }

    /// The set of all numbers below `len`.
    pub fn full(len: u64) -> Self {
        let mut bits = Self::new(len);
        bits.set_range(0, len);
        bits
    }

    /// The bound.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether every number below the bound is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Whether `at` is in the set.
    pub fn test(&self, at: u64) -> bool {
        match self.words.get(word(at)) {
            Some(word) => word & mask(at) != 0,
            None => false,
        }
    }

    /// Adds `at`; says whether it is new.
    pub fn set(&mut self, at: u64) -> bool {
        if at >= self.len || self.test(at) {
            return false;
        }
        self.words[word(at)] |= mask(at);
        self.count += 1;
        true
    }

    /// Takes `at` out; says whether it was there.
    pub fn clear(&mut self, at: u64) -> bool {
        if !self.test(at) {
            return false;
        }
        self.words[word(at)] &= !mask(at);
        self.count -= 1;
        true
    }

    /// Adds `start..start + len`, as far as it is below the bound; says how
    /// many numbers are new.
    pub fn set_range(&mut self, start: u64, len: u64) -> u64 {
        self.range(start, len, |word, mask| word | mask)
    }

    /// Takes `start..start + len` out; says how many numbers were there.
    pub fn clear_range(&mut self, start: u64, len: u64) -> u64 {
        self.range(start, len, |word, mask| word & !mask)
    }

    /// How many of `start..start + len` are in the set.
    pub fn count_range(&self, start: u64, len: u64) -> u64 {
        let end = start.saturating_add(len).min(self.len);
        let mut at = start;
        let mut count = 0;
        while at < end {
            let (span, mask) = span(at, end);
            count += u64::from((self.words[word(at)] & mask).count_ones());
            at += span;
        }
        count
    }

    /// The first number from `from` on that is in the set.
    pub fn next(&self, from: u64) -> Option<u64> {
        self.seek(from, |word| word)
    }

    /// The first number from `from` on, below the bound, that is not.
    pub fn next_gap(&self, from: u64) -> Option<u64> {
        self.seek(from, |word| !word).filter(|at| *at < self.len)
    }

    /// The runs of neighbouring numbers in the set: start and length of each.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at)?;
            at = self.next_gap(start).unwrap_or(self.len);
            Some((start, at - start))
        })
    }

    /// The set as words; number `i` is bit `i % 64` of word `i / 64`.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    fn range(&mut self, start: u64, len: u64, change: impl Fn(u64, u64) -> u64) -> u64 {
        let end = start.saturating_add(len).min(self.len);
        let before = self.count;
        let mut at = start;
        while at < end {
            let (span, mask) = span(at, end);
            let word = &mut self.words[word(at)];
            let old = u64::from(word.count_ones());
            *word = change(*word, mask);
            self.count = self.count - old + u64::from(word.count_ones());
            at += span;
        }
        self.count.abs_diff(before)
    }

    fn seek(&self, from: u64, view: impl Fn(u64) -> u64) -> Option<u64> {
        let first = word(from);
        let mut mask = u64::MAX << (from % 64);
        for (i, word) in self.words.iter().enumerate().skip(first) {
            let found = view(*word) & mask;
            if found != 0 {
                return Some(i as u64 * 64 + u64::from(found.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }
}

fn word(at: u64) -> usize {
    usize::try_from(at / 64).unwrap_or(usize::MAX)
}

fn mask(at: u64) -> u64 {
    1 << (at % 64)
}

/// How many numbers from `at` on share its word and lie below `end`, and their
/// mask in that word.
fn span(at: u64, end: u64) -> (u64, u64) {
    let span = (64 - at % 64).min(end - at);
    (span, (u64::MAX >> (64 - span)) << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set too simple to be wrong.
    fn naive(bits: &Bits) -> Vec<bool> {
        (0..bits.len()).map(|at| bits.test(at)).collect()
    }

    #[test]
    fn agrees_with_a_vector_of_booleans() {
        for len in [0, 1, 63, 64, 65, 130] {
            for start in 0..len + 2 {
                for size in [0, 1, 2, 63, 64, 65, len, u64::MAX] {
                    let mut bits = Bits::new(len);
                    let added = bits.set_range(start, size);
                    let want: Vec<bool> = (0..len)
                        .map(|at| at >= start && at < start.saturating_add(size))
                        .collect();
                    assert_eq!(naive(&bits), want);
                    assert_eq!(added, bits.count());
                    assert_eq!(bits.count(), want.iter().filter(|x| **x).count() as u64);
                    assert_eq!(bits.next(0), want.iter().position(|x| *x).map(|x| x as u64));
                    assert_eq!(
                        bits.next_gap(0),
                        want.iter().position(|x| !*x).map(|x| x as u64)
                    );
                    assert_eq!(bits.count_range(0, len), bits.count());
                    let runs: Vec<_> = bits.runs().collect();
                    assert_eq!(runs.len(), usize::from(bits.count() > 0));
                    assert_eq!(bits.clear_range(start, size), added);
                    assert!(bits.is_empty());
                }
            }
        }
    }

    #[test]
    fn keeps_its_count_when_nothing_changes() {
        let mut bits = Bits::new(70);
        assert!(bits.set(69));
        assert!(!bits.set(69));
        assert!(!bits.set(70), "beyond the bound");
        assert_eq!(bits.count(), 1);
        assert!(bits.clear(69));
        assert!(!bits.clear(69));
        assert!(bits.is_empty());
        assert!(Bits::full(70).is_full());
        assert_eq!(Bits::full(70).words()[1], 0x3f, "no bits beyond the bound");
    }
}

//! A bitmap of fixed size, which takes memory where it has members.
//!
//! Callers check ranges, because they know blocks and pages. A bit past the end reads as
//! 0 and cannot be set, so the words can be exported as they are.

use crate::protocol::wide;

/// Words that are allocated together.
const CHUNK: usize = 64;

/// A set of numbers below a fixed bound, one bit each.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    /// [`CHUNK`] words each, the last one fewer; empty before the first member in it.
    chunks: Vec<Box<[u64]>>,
    len: u64,
    count: u64,
}

impl Bits {
    /// Makes the empty set of numbers below `len`.
    ///
    /// # Panics
    ///
    /// If `len` bits exceed the address space.
    pub fn new(len: u64) -> Self {
        assert!(usize::try_from(len.div_ceil(64)).is_ok());
        Self {
            len,
            ..Self::default()
        }
    }

    /// Makes the set of all numbers below `len`.
    pub fn full(len: u64) -> Self {
        let mut bits = Self::new(len);
        bits.set_range(0, len);
        bits
    }

    /// The bound.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of members.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether every number below the bound is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Whether `at` is in the set.
    pub fn test(&self, at: u64) -> bool {
        index(at).is_some_and(|word| self.word(word) & 1 << (at % 64) != 0)
    }

    /// Adds `at`; returns whether it is new.
    pub fn set(&mut self, at: u64) -> bool {
        self.set_range(at, 1) == 1
    }

    /// Removes `at`; returns whether it was a member.
    pub fn clear(&mut self, at: u64) -> bool {
        self.clear_range(at, 1) == 1
    }

    /// Adds the part of `start..start + len` below the bound; returns how many numbers
    /// are new.
    pub fn set_range(&mut self, start: u64, len: u64) -> u64 {
        self.change(start, len, |_, word, mask| word | mask)
    }

    /// Removes `start..start + len`; returns how many numbers were members.
    pub fn clear_range(&mut self, start: u64, len: u64) -> u64 {
        self.change(start, len, |_, word, mask| word & !mask)
    }

    /// The first member at or after `from`.
    pub fn next(&self, from: u64) -> Option<u64> {
        self.next_in(from, u64::MAX)
    }

    /// The first number at or after `from` and below the bound that is not a member.
    pub fn next_gap(&self, from: u64) -> Option<u64> {
        self.next_gap_in(from, u64::MAX)
    }

    /// The first member in `start..start + len`. Scans no further than the range.
    pub fn next_in(&self, start: u64, len: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        spans(start, len, self.len).find_map(|(at, mask)| first(at, self.word(at) & mask))
    }

    /// The first number in `start..start + len` and below the bound that is not a
    /// member. Scans no further than the range.
    pub fn next_gap_in(&self, start: u64, len: u64) -> Option<u64> {
        spans(start, len, self.len).find_map(|(at, mask)| first(at, !self.word(at) & mask))
    }

    /// Adds the members of `other` in `start..start + len` that are below the bound;
    /// returns how many are new.
    pub fn add_common(&mut self, other: &Bits, start: u64, len: u64) -> u64 {
        self.change(start, len, |at, word, mask| word | other.word(at) & mask)
    }

    /// Removes every member that is not in `other`.
    pub fn keep_common(&mut self, other: &Bits) {
        self.change(0, u64::MAX, |at, word, _| word & other.word(at));
    }

    /// Replaces the set: number `i` is bit `i % 64` of word `i / 64`. Missing words
    /// are 0; bits past the bound are dropped.
    pub fn assign(&mut self, words: impl IntoIterator<Item = u64>) {
        let mut words = words.into_iter();
        self.change(0, u64::MAX, |_, _, mask| words.next().unwrap_or(0) & mask);
    }

    /// The runs of adjacent members: start and length of each.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs_in(0, u64::MAX)
    }

    /// The runs of adjacent members in `start..start + len`.
    pub fn runs_in(&self, start: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = start.saturating_add(len).min(self.len);
        let mut at = start;
        std::iter::from_fn(move || {
            let first = self.next_in(at, end.saturating_sub(at))?;
            at = self.next_gap_in(first, end - first).unwrap_or(end);
            Some((first, at - first))
        })
    }

    /// The set as words; number `i` is bit `i % 64` of word `i / 64`.
    pub fn words(&self) -> Vec<u64> {
        (0..self.word_count()).map(|at| self.word(at)).collect()
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        let words: usize = self.chunks.iter().map(|chunk| chunk.len()).sum();
        words * size_of::<u64>() + self.chunks.capacity() * size_of::<Box<[u64]>>()
    }

    fn word_count(&self) -> usize {
        index(self.len.next_multiple_of(64)).unwrap_or(usize::MAX)
    }

    /// Word `at` of [`Bits::words`]; 0 past the end.
    pub fn word(&self, at: usize) -> u64 {
        let chunk = self.chunks.get(at / CHUNK);
        let word = chunk.and_then(|chunk| chunk.get(at % CHUNK));
        word.copied().unwrap_or(0)
    }

    /// Changes the words of a range: their numbers, values and the mask of the range in them.
    /// Returns by how much the count changes.
    fn change(
        &mut self,
        start: u64,
        len: u64,
        mut change: impl FnMut(usize, u64, u64) -> u64,
    ) -> u64 {
        let before = self.count;
        for (at, mask) in spans(start, len, self.len) {
            let old = self.word(at);
            let new = change(at, old, mask);
            if new == old {
                continue;
            }
            let words = self.word_count();
            if self.chunks.is_empty() {
                self.chunks = vec![Box::default(); words.div_ceil(CHUNK)];
            }
            let chunk = &mut self.chunks[at / CHUNK];
            if chunk.is_empty() {
                *chunk = vec![0; CHUNK.min(words - at / CHUNK * CHUNK)].into();
            }
            chunk[at % CHUNK] = new;
            self.count = self.count + u64::from(new.count_ones()) - u64::from(old.count_ones());
        }
        self.count.abs_diff(before)
    }
}

/// The number of the word with bit `at`.
fn index(at: u64) -> Option<usize> {
    usize::try_from(at / 64).ok()
}

/// The lowest bit of `word`, which is word number `at`.
fn first(at: usize, word: u64) -> Option<u64> {
    (word != 0).then(|| wide(at) * 64 + u64::from(word.trailing_zeros()))
}

/// The words of the part of `start..start + len` below `bound`: the number of each, and the mask
/// of the part in it.
fn spans(start: u64, len: u64, bound: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = start.saturating_add(len).min(bound);
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let span = (64 - at % 64).min(end - at);
        let mask = (u64::MAX >> (64 - span)) << (at % 64);
        let word = index(at)?;
        at += span;
        Some((word, mask))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits as booleans.
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
                    for from in [0, 1, start, start.saturating_add(size), len] {
                        let first = bits.next(from);
                        assert_eq!(bits.next_in(from, u64::MAX), first);
                        let near = first.filter(|at| at - from < 3);
                        assert_eq!(bits.next_in(from, 3), near);
                    }
                    let runs: Vec<_> = bits.runs().collect();
                    assert_eq!(runs.len(), usize::from(bits.count() > 0));
                    for (from, most) in [(0, u64::MAX), (start, size), (1, 64), (start + 1, 3)] {
                        let runs: Vec<_> = bits.runs_in(from, most).collect();
                        let end = from.saturating_add(most).min(len);
                        let members = (from..end.max(from)).filter(|at| bits.test(*at));
                        let count = members.count() as u64;
                        assert_eq!(runs.len(), usize::from(count > 0));
                        assert_eq!(runs.iter().map(|run| run.1).sum::<u64>(), count);
                        assert!(runs.iter().all(|run| bits.test(run.0) && run.0 >= from));
                    }
                    assert_eq!(bits.clear_range(start, size), added);
                    assert!(bits.is_empty());
                }
            }
        }
    }

    #[test]
    fn scans_no_further_than_the_range() {
        let mut bits = Bits::new(200);
        for at in [3, 64, 130, 199] {
            bits.set(at);
        }
        for start in 0..202_u64 {
            for len in [0, 1, 63, 64, 65, 200, u64::MAX] {
                let range = start..start.saturating_add(len).min(200);
                let want = range.clone().find(|at| bits.test(*at));
                assert_eq!(bits.next_in(start, len), want);
                let want = range.clone().find(|at| !bits.test(*at));
                assert_eq!(bits.next_gap_in(start, len), want);
            }
        }
    }

    #[test]
    fn combines_sets_of_any_size() {
        let thirds = |len| {
            let mut bits = Bits::new(len);
            bits.assign((0..9).map(|word| {
                (0..64)
                    .filter(|bit| (word * 64 + bit) % 3 == 0)
                    .fold(0, |w, bit| w | 1 << bit)
            }));
            bits
        };
        for (len, other) in [(130, 130), (130, 64), (70, 200), (1, 1)] {
            let other = thirds(other);
            assert!((0..other.len()).all(|at| other.test(at) == (at % 3 == 0)));
            assert_eq!(other.count(), other.len().div_ceil(3));
            for (start, span) in [(0, u64::MAX), (1, 66), (64, 64), (500, 3)] {
                let mut bits = Bits::new(len);
                bits.set_range(10, 7);
                let before = naive(&bits);
                let new = bits.add_common(&other, start, span);
                let end = start.saturating_add(span);
                let want = |at| before[at as usize] || (at >= start && at < end && other.test(at));
                assert!((0..len).all(|at| bits.test(at) == want(at)));
                assert_eq!(
                    bits.count(),
                    naive(&bits).iter().filter(|x| **x).count() as u64
                );
                assert_eq!(
                    new,
                    bits.count() - before.iter().filter(|x| **x).count() as u64
                );
                let before = naive(&bits);
                bits.keep_common(&other);
                assert!(
                    (0..len).all(|at| bits.test(at) == (before[at as usize] && other.test(at)))
                );
                assert_eq!(
                    bits.count(),
                    naive(&bits).iter().filter(|x| **x).count() as u64
                );
            }
        }
        let mut bits = Bits::full(70);
        bits.assign([u64::MAX, u64::MAX]);
        assert_eq!(bits.words()[1], 0x3f, "no bits past the bound");
        bits.assign([]);
        assert!(bits.is_empty());
    }

    #[test]
    fn keeps_its_count_when_nothing_changes() {
        let mut bits = Bits::new(70);
        assert!(bits.set(69));
        assert!(!bits.set(69));
        assert!(!bits.set(70), "past the bound");
        assert_eq!(bits.count(), 1);
        assert!(bits.clear(69));
        assert!(!bits.clear(69));
        assert!(bits.is_empty());
        assert!(Bits::full(70).is_full());
        assert_eq!(Bits::full(70).words()[1], 0x3f, "no bits past the bound");
    }
}

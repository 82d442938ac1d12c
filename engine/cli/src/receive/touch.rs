//! Touches missing memory, as a guest would.
//!
//! A few threads share the touches, as a guest's processors would. A touch reads one byte; if its
//! page is missing, the thread waits for it in the kernel. The pages are drawn at random from those
//! that the source announced for the time after the switch; each is drawn once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use retpath_engine::blocks::BlockId;
use retpath_engine::memory::Memory;

/// Set when the threads are to end.
type Stop = Arc<AtomicBool>;

fn is_set(stop: &Stop) -> bool {
    stop.load(Ordering::Acquire)
}

/// Number of threads.
const THREADS: usize = 4;

/// The threads.
#[derive(Debug, Default)]
pub(super) struct Touchers {
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
    touched: Arc<AtomicU64>,
}

impl Touchers {
    /// Starts to touch `count` pages in these ranges. `pages` are the blocks' page sizes in bytes.
    ///
    /// # Errors
    ///
    /// A thread cannot be started, so its pages are not touched.
    pub(super) fn start(
        &mut self,
        memory: Vec<Arc<Memory>>,
        ranges: &[(BlockId, Range<u64>)],
        pages: &[u64],
        count: u64,
    ) -> io::Result<()> {
        let drawn = draw(ranges, pages, count, &mut Random::new());
        let memory = Arc::new(memory);
        for share in 0..THREADS.min(drawn.len()) {
            let mine: Vec<_> = drawn.iter().skip(share).step_by(THREADS).copied().collect();
            let (memory, stop) = (Arc::clone(&memory), Arc::clone(&self.stop));
            let touched = Arc::clone(&self.touched);
            let touch = move || {
                for (block, offset) in mine {
                    if is_set(&stop) {
                        return;
                    }
                    let done = memory.get(block).map(|memory| memory.touch(offset));
                    if matches!(done, Some(Ok(_))) {
                        touched.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            self.threads.push(thread::Builder::new().spawn(touch)?);
        }
        Ok(())
    }

    /// Waits until all pages have been touched. Every page must have been placed.
    pub(super) fn finish(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    /// Asks the threads to end, which they do once no page blocks them.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Number of pages touched so far.
    pub(super) fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }
}

/// Draws pages, each at most once, in the order in which they are touched.
fn draw(
    ranges: &[(BlockId, Range<u64>)],
    pages: &[u64],
    count: u64,
    random: &mut Random,
) -> Vec<(BlockId, u64)> {
    let page = |block: BlockId| pages.get(block).map_or(4096, |page| *page);
    // The number of each range's first page.
    let mut total = 0;
    let starts: Vec<u64> = ranges
        .iter()
        .map(|(block, range)| {
            let start = total;
            total += (range.end - range.start) / page(*block);
            start
        })
        .collect();
    let count = count.min(total);
    let mut taken = HashSet::new();
    let mut drawn = Vec::new();
    // Floyd's algorithm: `count` draws, however large a part of all pages that is.
    for last in total - count..total {
        let number = random.below(last + 1);
        let number = if taken.insert(number) { number } else { last };
        taken.insert(number);
        let at = starts.partition_point(|start| *start <= number) - 1;
        let (block, range) = &ranges[at];
        drawn.push((*block, range.start + (number - starts[at]) * page(*block)));
    }
    // The draws are biased towards the end: shuffle.
    for at in (1..drawn.len()).rev() {
        let other = random.below(at as u64 + 1);
        drawn.swap(at, usize::try_from(other).unwrap_or(at));
    }
    drawn
}

/// A xorshift generator, sufficient to scatter touches.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(RandomState::new().hash_one(0_u64) | 1)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_whole_pages_of_each_block() {
        let drawn = draw(
            &[(0, 0..8192), (1, 0..4 << 20)],
            &[4096, 2 << 20],
            9,
            &mut Random(7),
        );
        let mut drawn: Vec<_> = drawn.into_iter().collect();
        drawn.sort_unstable();
        assert_eq!(drawn, [(0, 0), (0, 4096), (1, 0), (1, 2 << 20)]);
    }

    #[test]
    fn draws_each_page_at_most_once_and_only_from_the_ranges() {
        let ranges = [(0, 0..8192), (2, 4096..40960), (1, 4096..4096)];
        let pages = [4096, 4096, 4096];
        for count in [0, 1, 5, 11, 50] {
            let drawn = draw(&ranges, &pages, count, &mut Random(count + 1));
            let all: HashSet<_> = drawn.iter().collect();
            assert_eq!(all.len(), drawn.len());
            assert_eq!(drawn.len(), usize::try_from(count.min(11)).expect("small"));
            for (block, offset) in drawn {
                let inside =
                    |(id, range): &(BlockId, Range<u64>)| *id == block && range.contains(&offset);
                assert!(ranges.iter().any(inside), "{block} {offset}");
                assert_eq!(offset % 4096, 0);
            }
        }
    }
}

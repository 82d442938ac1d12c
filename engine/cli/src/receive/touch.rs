//! Touches missing memory, as a guest would.
//!
//! A few threads share the touches, as a guest's processors would. A touch reads one byte; if its
//! page is missing, the thread waits for it in the kernel. The pages are drawn at random from those
//! that the source announced for the time after the switch; each is drawn once.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use fastrand::Rng;
use retpath_engine::bits::Bits;
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
    /// Starts to touch `count` pages of these sets, one for each block. `pages` are the blocks' page
    /// sizes in bytes.
    ///
    /// # Errors
    ///
    /// A thread cannot be started, so its pages are not touched.
    pub(super) fn start(
        &mut self,
        memory: Vec<Arc<Memory>>,
        sets: &[Bits],
        pages: &[u64],
        count: u64,
    ) -> io::Result<()> {
        let drawn = draw(sets, pages, count, &mut Rng::new());
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
fn draw(sets: &[Bits], pages: &[u64], count: u64, random: &mut Rng) -> Vec<(BlockId, u64)> {
    let total: u64 = sets.iter().map(Bits::count).sum();
    let count = count.min(total);
    let mut taken = BTreeSet::new();
    // Floyd's algorithm: `count` draws, however large a part of all pages that is.
    for last in total - count..total {
        if !taken.insert(random.u64(..=last)) {
            taken.insert(last);
        }
    }
    let mut drawn = Vec::new();
    let mut numbers = taken.into_iter().peekable();
    let mut start = 0;
    for ((block, set), page) in sets.iter().enumerate().zip(pages) {
        for (first, len) in set.runs() {
            while let Some(number) = numbers.next_if(|number| *number < start + len) {
                drawn.push((block, (first + number - start) * page));
            }
            start += len;
        }
    }
    // They are in order: shuffle.
    random.shuffle(&mut drawn);
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ops::Range;

    use super::*;

    /// The pages of a block of 100 pages in a range of page numbers.
    fn pages(range: Range<u64>) -> Bits {
        let mut bits = Bits::new(100);
        bits.set_range(range.start, range.end - range.start);
        bits
    }

    #[test]
    fn draws_whole_pages_of_each_block() {
        let drawn = draw(
            &[pages(0..2), pages(0..2)],
            &[4096, 2 << 20],
            9,
            &mut Rng::with_seed(7),
        );
        let mut drawn: Vec<_> = drawn.into_iter().collect();
        drawn.sort_unstable();
        assert_eq!(drawn, [(0, 0), (0, 4096), (1, 0), (1, 2 << 20)]);
    }

    #[test]
    fn draws_each_page_at_most_once_and_only_from_the_ranges() {
        let mut last = pages(1..10);
        last.clear(4);
        let sets = [pages(0..2), pages(1..1), last];
        for count in [0, 1, 5, 10, 50] {
            let drawn = draw(&sets, &[4096; 3], count, &mut Rng::with_seed(count));
            let all: HashSet<_> = drawn.iter().collect();
            assert_eq!(all.len(), drawn.len());
            assert_eq!(drawn.len(), usize::try_from(count.min(10)).expect("small"));
            for (block, offset) in drawn {
                assert!(sets[block].test(offset / 4096), "{block} {offset}");
                assert_eq!(offset % 4096, 0);
            }
        }
    }
}

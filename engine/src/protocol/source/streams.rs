//! Predicts which pages are requested next, from the order of requests; a policy without
//! a clock or I/O.
//!
//! A guest that goes through its memory in order stops at every page until it has been
//! sent. Three requests at equal distances are taken for a *stream*, and the pages that
//! continue it are sent before the guest needs them:
//!
//! ```text
//!  requests     p   p+s  p+2s
//!  predicted                   p+3s  p+4s  p+5s            the window: as many pages as
//!  request                                      p+6s       the stream has passed
//!  predicted                                          p+7s  p+8s  …  p+12s
//! ```
//!
//! A predicted page that arrives in time is never requested, so a hit shows later, in the
//! next request of the stream. That is the first page behind the predicted ones that has
//! not been sent, or a predicted page that crossed its request on the wire. Either
//! confirms the pages before it. The window is as long as the way that the stream has
//! come, up to [`WINDOW`] bytes: pages that were predicted in vain are at most as many as
//! those that the guest used.
//!
//! Without a confirmation a stream sends nothing more, and its place is taken over by
//! another stream in the end. If its first window was in vain, the next streams must be
//! longer before anything is predicted, until one of them is confirmed.
//!
//! Memory is constant, and so is the time of a request: at most [`STREAMS`] streams are
//! followed, and [`RECENT`] requests searched for the beginning of one. Nothing here fails
//! or panics.

use std::collections::VecDeque;

use crate::bits::Bits;
use crate::blocks::{BlockId, Span};
use crate::protocol::page_set::PageSet;

/// Streams that are followed at once: one for each virtual CPU of a small guest.
const STREAMS: usize = 16;

/// Requests that are searched for the beginning of a stream: two of each stream.
const RECENT: usize = 2 * STREAMS;

/// Longest stride in pages. Among any pages of a small set, some lie at equal distances.
const MAX_STRIDE: u64 = 64;

/// Maximum bytes that are sent ahead of a stream without a confirmation.
pub(super) const WINDOW: u64 = 1 << 20;

/// Maximum pages between the prediction and the next request of a stream: pages that the
/// background sweep has sent.
const GAP: u64 = 1024;

/// By how many powers of two the first window of a stream is shortened at most.
const MAX_DOUBT: u32 = 3;

/// The streams of requests of one link.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The last one that was confirmed first.
    streams: VecDeque<Stream>,
    /// Requests that continue no stream: block and page number, the last one first.
    recent: VecDeque<(BlockId, u64)>,
    /// By how many powers of two a first window is shortened.
    doubt: u32,
}

/// One stream; all distances are in pages, or in strides as "steps".
#[derive(Debug)]
struct Stream {
    block: BlockId,
    stride: i64,
    /// The last request.
    last: u64,
    /// Steps from it to the first page that has not been predicted.
    ahead: u64,
    /// Steps from it to the last page that may be predicted.
    window: u64,
    /// Predicted pages that have not been confirmed.
    unconfirmed: u64,
    /// Steps from the beginning of the stream to the last request.
    length: u64,
    /// Whether predicted pages have been confirmed before.
    proven: bool,
}

impl Streams {
    /// Handles the request of a host page. Returns how many predicted pages it confirms.
    pub(super) fn request(&mut self, block: BlockId, page: u64, dirty: &PageSet) -> u64 {
        let expected = self.streams.iter().enumerate();
        let expected = expected
            .filter(|(_, stream)| stream.block == block)
            .find_map(|(at, stream)| Some((at, stream.steps_to(page, dirty)?)));
        if let Some((at, steps)) = expected
            && let Some(mut stream) = self.streams.remove(at)
        {
            let confirmed = stream.confirm(page, steps);
            if confirmed > 0 && !stream.proven {
                stream.proven = true;
                self.doubt = self.doubt.saturating_sub(1);
            }
            stream.open_window(self.doubt, dirty.unit(block));
            self.streams.push_front(stream);
            return confirmed;
        }
        match self.stride(block, page) {
            Some(stride) => self.begin(block, page, stride, dirty.unit(block)),
            None => {
                self.recent.truncate(RECENT - 1);
                self.recent.push_front((block, page));
            }
        }
        0
    }

    /// Whether a window is open: there may be pages to send ahead.
    pub(super) fn is_open(&self) -> bool {
        let open = |stream: &Stream| stream.ahead <= stream.window;
        self.streams.iter().any(open)
    }

    /// Returns the next pages to send ahead: a run of pages in `dirty` of at most `most`
    /// bytes. They count as sent.
    pub(super) fn take(&mut self, dirty: &PageSet, most: u64) -> Option<Span> {
        loop {
            // The least served first: a stream that has just been confirmed is next, and
            // equals take turns.
            let open = self.streams.iter_mut();
            let open = open.filter(|stream| stream.ahead <= stream.window);
            let stream = open.min_by_key(|stream| stream.unconfirmed)?;
            if let Some(span) = stream.take(dirty, most) {
                return Some(span);
            }
        }
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.streams.capacity() * size_of::<Stream>()
            + self.recent.capacity() * size_of::<(BlockId, u64)>()
    }

    /// The stride of a stream whose third request is `page`.
    fn stride(&self, block: BlockId, page: u64) -> Option<i64> {
        let recent = self.recent.iter().enumerate();
        recent
            .filter(|(_, (at, _))| *at == block)
            .find_map(|(age, (_, second))| {
                let stride = distance(*second, page)?;
                if stride == 0 || stride.unsigned_abs() > MAX_STRIDE {
                    return None;
                }
                let first = (block, second.checked_add_signed(-stride)?);
                let mut older = self.recent.iter().skip(age + 1);
                older.any(|request| *request == first).then_some(stride)
            })
    }

    fn begin(&mut self, block: BlockId, page: u64, stride: i64, unit: u64) {
        if self.streams.len() == STREAMS
            && let Some(old) = self.streams.pop_back()
            && old.unconfirmed > 0
            && !old.proven
        {
            self.doubt = MAX_DOUBT.min(self.doubt + 1);
        }
        let mut stream = Stream {
            block,
            stride,
            last: page,
            ahead: 1,
            window: 0,
            unconfirmed: 0,
            length: 3,
            proven: false,
        };
        stream.open_window(self.doubt, unit);
        self.streams.push_front(stream);
    }
}

impl Stream {
    /// The steps from the last request to `page`, if this stream expects it: no page in
    /// between is missing at the destination.
    fn steps_to(&self, page: u64, dirty: &PageSet) -> Option<u64> {
        let distance = distance(self.last, page)?;
        let steps = distance / self.stride;
        if steps <= 0 || steps * self.stride != distance {
            return None;
        }
        let steps = steps.unsigned_abs();
        if steps > self.ahead + GAP {
            return None;
        }
        let unit = dirty.unit(self.block);
        let missing = |steps| {
            let page = self.page(steps);
            page.is_some_and(|page| dirty.contains(self.block, page * unit))
        };
        (!(self.ahead..steps).any(missing)).then_some(steps)
    }

    /// Handles a request that this stream expects; returns how many predicted pages it
    /// confirms.
    fn confirm(&mut self, page: u64, steps: u64) -> u64 {
        // Those beyond the request remain unconfirmed.
        let beyond = self.ahead.saturating_sub(steps + 1);
        let confirmed = self.unconfirmed.saturating_sub(beyond);
        self.unconfirmed -= confirmed;
        self.ahead = beyond + 1;
        self.last = page;
        self.length = self.length.saturating_add(steps);
        confirmed
    }

    fn open_window(&mut self, doubt: u32, unit: u64) {
        let doubt = if self.proven { 0 } else { doubt };
        self.window = (self.length >> doubt).min(WINDOW / unit);
    }

    /// The page `steps` after the last request.
    fn page(&self, steps: u64) -> Option<u64> {
        let distance = self.stride.checked_mul(i64::try_from(steps).ok()?)?;
        self.last.checked_add_signed(distance)
    }

    /// The next pages in the window that are in `dirty`: at most `most` bytes, in one run.
    fn take(&mut self, dirty: &PageSet, most: u64) -> Option<Span> {
        let unit = dirty.unit(self.block);
        let adjacent = self.stride.unsigned_abs() == 1;
        while self.ahead <= self.window {
            let left = self.window - self.ahead + 1;
            let count = if adjacent {
                left.min(most / unit).max(1)
            } else {
                1
            };
            let pages = dirty.bits(self.block).map_or(0, Bits::len);
            let Some(next) = self.page(self.ahead).filter(|page| *page < pages) else {
                break;
            };
            let forward = self.stride > 0;
            let first = if forward {
                next
            } else {
                (next + 1).saturating_sub(count)
            };
            let (block, offset) = (self.block, first * unit);
            let count = if forward { count } else { next + 1 - first };
            let len = count * unit;
            let mut runs = dirty.runs_in(Span { block, offset, len });
            let run = if forward { runs.next() } else { runs.last() };
            let Some(run) = run else {
                self.ahead += count;
                continue;
            };
            let (first, pages) = (run.offset / unit, run.len / unit);
            let reached = if forward { first + pages - 1 } else { first };
            self.ahead = reached.abs_diff(self.last) / self.stride.unsigned_abs() + 1;
            self.unconfirmed += pages;
            return Some(run);
        }
        self.window = 0;
        None
    }
}

/// How far `to` lies after `from`; page numbers are far below 2^63.
fn distance(from: u64, to: u64) -> Option<i64> {
    Some(i64::try_from(to).ok()? - i64::try_from(from).ok()?)
}

#[cfg(test)]
mod tests {
    use retpath_random::Random;

    use super::super::testing::blocks;
    use super::*;
    use crate::blocks::Blocks;

    const RUN: u64 = 64 << 10;
    const PAGE: u64 = 4096;

    /// A source that sends every predicted page at once, and a guest that requests the pages
    /// that it does not have.
    struct Rig {
        streams: Streams,
        dirty: PageSet,
        requests: u64,
        predicted: u64,
        confirmed: u64,
    }

    impl Rig {
        fn new(blocks: &Blocks) -> Self {
            let mut dirty = PageSet::all(blocks);
            dirty.fold(blocks);
            Self {
                streams: Streams::default(),
                dirty,
                requests: 0,
                predicted: 0,
                confirmed: 0,
            }
        }

        fn touch(&mut self, block: BlockId, page: u64) {
            if self.dirty.contains(block, page * PAGE) {
                self.request(block, page);
                while self.take().is_some() {}
            }
        }

        fn request(&mut self, block: BlockId, page: u64) {
            self.requests += 1;
            self.confirmed += self.streams.request(block, page, &self.dirty);
            self.dirty.remove(pages(block, page, 1));
            let open = |stream: &Stream| stream.window.min(WINDOW / PAGE);
            let most: u64 = self.streams.streams.iter().map(open).sum();
            assert!(most <= STREAMS as u64 * WINDOW / PAGE);
            assert!(self.streams.recent.len() <= RECENT);
        }

        fn take(&mut self) -> Option<(BlockId, u64, u64)> {
            let span = self.streams.take(&self.dirty, RUN)?;
            assert!((PAGE..=RUN).contains(&span.len), "{span:?}");
            let pages = span.len / PAGE;
            assert_eq!(self.dirty.remove(span), pages, "all of {span:?} is dirty");
            self.predicted += pages;
            Some((span.block, span.offset / PAGE, pages))
        }

        fn takes(&mut self) -> Vec<(u64, u64)> {
            let mut all = Vec::new();
            while let Some((_, first, pages)) = self.take() {
                all.push((first, pages));
            }
            all
        }
    }

    fn pages(block: BlockId, first: u64, count: u64) -> Span {
        let (offset, len) = (first * PAGE, count * PAGE);
        Span { block, offset, len }
    }

    fn rig(pages: u64) -> Rig {
        Rig::new(&blocks(&[(pages, PAGE)]))
    }

    #[test]
    fn asks_seldom_for_what_comes_in_order() {
        const PAGES: u64 = 8192;
        for stride in [1, 2, 3, 7, 16, 64] {
            for forward in [true, false] {
                let mut rig = rig(PAGES);
                let touched = PAGES / stride;
                for step in 0..touched {
                    let at = step * stride;
                    rig.touch(0, if forward { at } else { PAGES - 1 - at });
                }
                let name = format!("stride {stride}, forward: {forward}");
                let windows = touched.div_ceil(WINDOW / PAGE);
                assert!(rig.requests <= windows + 12, "{name}: {}", rig.requests);
                assert!(rig.predicted <= touched, "{name}: {}", rig.predicted);
                let last = WINDOW / PAGE;
                assert!(rig.confirmed + last >= rig.predicted, "{name}");
            }
        }
    }

    #[test]
    fn window_is_as_long_as_the_stream() {
        let mut rig = rig(10_000);
        let mut windows = Vec::new();
        for page in 100..2000 {
            let before = rig.predicted;
            rig.touch(0, page);
            windows.push(rig.predicted - before);
        }
        windows.retain(|&window| window > 0);
        assert_eq!(windows[..8], [3, 7, 15, 31, 63, 127, 255, 256]);
        assert_eq!(windows[8..], [256; 5]);
    }

    #[test]
    fn follows_several_streams_in_any_interleaving() {
        let mut rig = Rig::new(&blocks(&[(1 << 16, PAGE), (1 << 16, PAGE)]));
        let mut random = Random::new(3);
        let mut at: Vec<u64> = (0..STREAMS as u64).map(|cpu| cpu * 8000 + 500).collect();
        let mut touches = 0;
        for _ in 0..400 {
            for _ in 0..STREAMS {
                let cpu = random.index(STREAMS);
                // Half of them in each block, half of those backward.
                let (block, stride) = (cpu % 2, 1 + cpu as u64 / 4);
                rig.touch(block, at[cpu] % (1 << 16));
                at[cpu] = match cpu / 2 % 2 {
                    0 => at[cpu] + stride,
                    _ => at[cpu].saturating_sub(stride),
                };
                touches += 1;
            }
        }
        assert!(rig.requests <= touches / 8, "{} of {touches}", rig.requests);
    }

    #[test]
    fn turns_between_streams_that_are_served() {
        let mut rig = rig(10_000);
        for page in 0..40 {
            rig.touch(0, page);
            rig.touch(0, 5000 + page);
        }
        // Each has been sent up to page 60, and is confirmed there.
        for page in [61, 5061] {
            rig.dirty.remove(pages(0, page - 21, 21));
            rig.request(0, page);
        }
        let runs = rig.takes();
        let firsts = runs.iter().map(|(first, _)| *first);
        let want = [5062, 62, 5078, 78, 5094, 94, 5110, 110];
        assert!(firsts.eq(want), "{runs:?}");
    }

    #[test]
    fn random_requests_begin_hardly_any_stream() {
        let mut random = Random::new(5);
        for (touched, most) in [(1 << 16, 0.01), (1 << 13, 0.05)] {
            let mut rig = rig(1 << 16);
            let first = random.below((1 << 16) - touched + 1);
            let mut order: Vec<u64> = (first..first + touched).collect();
            (1..order.len()).for_each(|at| order.swap(at, random.index(at + 1)));
            for page in &order[..order.len() / 2] {
                rig.touch(0, *page);
            }
            let share = rig.predicted as f64 / rig.requests as f64;
            assert!(share <= most, "{touched} pages: {share}");
        }
    }

    #[test]
    fn doubts_streams_after_short_ones_until_one_is_confirmed() {
        let mut rig = rig(1 << 16);
        let mut in_vain = Vec::new();
        for object in 0..100 {
            let before = rig.predicted;
            // Four pages in order, at places that are far apart.
            (0..4).for_each(|page| rig.touch(0, object * 601 + page));
            in_vain.push(rig.predicted - before);
        }
        assert_eq!(in_vain[..STREAMS], [3; STREAMS]);
        assert_eq!(in_vain[STREAMS + 1], 1);
        assert_eq!(in_vain[2 * STREAMS + 3..], [0; 65], "{in_vain:?}");
        assert!(rig.predicted * 6 < rig.requests, "{}", rig.predicted);
        let before = rig.requests;
        (0..2000).for_each(|page| rig.touch(0, 62_000 + page));
        assert!(rig.requests - before <= 24, "{}", rig.requests - before);
    }

    #[test]
    fn a_request_that_crosses_its_page_confirms_the_stream() {
        let mut rig = rig(1000);
        for page in [10, 11, 12] {
            rig.request(0, page);
        }
        assert_eq!(rig.takes(), [(13, 3)]);
        rig.request(0, 13);
        assert_eq!(rig.confirmed, 1);
        assert_eq!(rig.takes(), [(16, 2)], "a window of 4 behind page 13");
        rig.request(0, 18);
        assert_eq!(rig.confirmed, 5);
        assert_eq!(rig.takes(), [(19, 9)]);
    }

    #[test]
    fn leaves_out_pages_that_have_been_sent() {
        let mut rig = rig(1000);
        rig.dirty.remove(pages(0, 14, 500));
        for page in [10, 11, 12] {
            rig.request(0, page);
        }
        assert_eq!(rig.takes(), [(13, 1)]);
        // The sweep has sent the pages in between.
        rig.request(0, 514);
        assert_eq!(rig.confirmed, 1);
        assert_eq!(rig.takes()[0], (515, 16));
        // A page in between is missing: the guest has not been there.
        let before = rig.predicted;
        rig.request(0, 998);
        assert!(rig.takes().is_empty() && rig.predicted == before);
    }

    #[test]
    fn stops_at_both_ends_of_a_block() {
        let mut forward = rig(20);
        (14..20).for_each(|page| forward.touch(0, page));
        let mut backward = rig(20);
        (0..6).rev().for_each(|page| backward.touch(0, page));
        for rig in [forward, backward] {
            assert_eq!((rig.requests, rig.predicted), (3, 3));
            assert_eq!(rig.dirty.pages(), 14);
        }
    }

    #[test]
    fn does_not_predict_pages_larger_than_a_window() {
        let blocks = blocks(&[(8, 2 * WINDOW)]);
        let mut dirty = PageSet::all(&blocks);
        dirty.fold(&blocks);
        let mut streams = Streams::default();
        for page in 0..6 {
            streams.request(0, page, &dirty);
            assert_eq!(streams.take(&dirty, RUN), None);
        }
    }

    #[test]
    fn memory_is_constant() {
        let mut random = Random::new(9);
        let mut rig = Rig::new(&blocks(&[(1 << 12, PAGE); 40]));
        for _ in 0..2000 {
            let (block, first) = (random.index(40), random.below(1 << 12));
            let stride = 1 + random.below(9);
            for step in 0..random.below(9) {
                rig.request(block, first + step * stride);
                if random.below(2) == 0 {
                    rig.takes();
                }
            }
        }
        assert_eq!(rig.streams.streams.len(), STREAMS);
        assert!(rig.streams.memory() < 4096, "{}", rig.streams.memory());
    }
}

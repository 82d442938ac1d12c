//! Working sets: the order in which a guest first needs its pages.
//!
//! A source records that order in one migration ([`Config::record`]), with the background
//! sweep held back meanwhile so that it does not hide what the guest needs ([`Hold`]), and
//! sends pages in that order in the next one ([`Config::order`]). A guest that is started
//! again from the same memory needs mostly the same pages, so it finds them there.
//!
//! Nothing depends on the order being right: requested pages come first in any case, and
//! every page is sent once.

use crate::Channel;
use crate::blocks::{Blocks, Span};
use crate::protocol::page_set::PageSet;

use super::pages::PageRun;
use super::state::Rest;
use super::{Config, Source};

/// Maximum number of ranges that are recorded: 32 MiB.
pub const MAX_RECORDED: usize = 1 << 20;

/// How long the background sweep is held back after the switch, in nanoseconds; not at all
/// by default. Requested pages and [`Config::order`] are not held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// Until there has been no request for this long.
    pub quiet: u64,
    /// At most this long.
    pub most: u64,
}

setters!(Hold {
    quiet: u64,
    most: u64
});

/// Adjacent host pages that the destination requested for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstRequest {
    /// The pages.
    pub span: Span,
    /// How many ranges of [`Config::order`] had been sent or begun when the first of these
    /// pages was requested.
    pub ordered: usize,
}

/// How far the pages of [`Config::order`] have been sent over a link. After a cut they are
/// examined from the start: what was lost is dirty again.
#[derive(Debug, Default)]
pub(super) struct OrderCursor {
    /// Ranges that have been sent or begun.
    begun: usize,
    /// End of what was sent of the last one; `None` if nothing is left of it.
    at: Option<u64>,
}

impl OrderCursor {
    /// The next dirty pages in the order: at most `most` bytes, but at least one page.
    fn next(&mut self, order: &[Span], dirty: &PageSet, most: u64) -> Option<Span> {
        loop {
            let (mut span, offset) = match self.at {
                Some(offset) => (*order.get(self.begun - 1)?, offset),
                None => {
                    let span = *order.get(self.begun)?;
                    self.begun += 1;
                    (span, span.offset)
                }
            };
            span.len = span.end() - offset;
            span.offset = offset;
            let Some(mut run) = dirty.runs_in(span).next() else {
                self.at = None;
                continue;
            };
            let unit = dirty.unit(run.block);
            run.len = run.len.min((most / unit).max(1) * unit);
            self.at = Some(run.end()).filter(|&end| end < span.end());
            return Some(run);
        }
    }
}

/// Records which pages are requested first.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Host pages that have not been requested.
    unseen: PageSet,
    /// How far [`Config::order`] has been sent at most: after a cut it is examined from its
    /// start.
    ordered: usize,
    list: Vec<FirstRequest>,
}

impl Recorder {
    pub(super) fn new(blocks: &Blocks) -> Self {
        let mut unseen = PageSet::all(blocks);
        unseen.fold(blocks);
        Self {
            unseen,
            ordered: 0,
            list: Vec::new(),
        }
    }

    /// Records the pages of a request that are new.
    fn request(&mut self, span: Span, ordered: usize) {
        self.ordered = self.ordered.max(ordered);
        let ordered = self.ordered;
        let follows =
            |last: Span, span: Span| last.block == span.block && last.end() == span.offset;
        for span in self.unseen.runs_in(span) {
            let has_room = self.list.len() < MAX_RECORDED;
            match self.list.last_mut() {
                Some(last) if follows(last.span, span) => last.span.len += span.len,
                _ if has_room => self.list.push(FirstRequest { span, ordered }),
                _ => return,
            }
        }
        self.unseen.remove(span);
    }

    pub(super) fn memory(&self) -> usize {
        self.unseen.memory() + self.list.capacity() * size_of::<FirstRequest>()
    }
}

/// Adds first requests to the order in which these migrations sent pages, for
/// [`Config::order`] of the next one.
///
/// A page that was requested goes to where the migration was in the order by then, unless
/// it was sent before. Destinations take turns. A page that was not requested stays: it may
/// have been there in time. At most [`MAX_RECORDED`] ranges are kept.
pub fn merge_order(blocks: &Blocks, order: &[Span], recorded: &[&[FirstRequest]]) -> Vec<Span> {
    let turns = recorded.iter().flat_map(|list| list.iter().enumerate());
    let mut requests: Vec<_> = turns.collect();
    requests.sort_by_key(|(turn, request)| (request.ordered, *turn));
    let mut requests = requests.into_iter().map(|(_, request)| request).peekable();
    let mut merged = Recorder::new(blocks);
    for (at, span) in order.iter().enumerate() {
        while let Some(request) = requests.next_if(|request| request.ordered <= at) {
            merged.request(request.span, 0);
        }
        merged.request(*span, 0);
    }
    requests.for_each(|request| merged.request(request.span, 0));
    merged.list.iter().map(|request| request.span).collect()
}

/// Decides when the sweep may begin.
#[derive(Debug, Default)]
pub(super) struct HoldTimer {
    /// When it was held back for the first time.
    since: Option<u64>,
    /// When the guest last showed that it runs.
    active: u64,
    is_over: bool,
}

impl HoldTimer {
    /// Whether the sweep may go on; otherwise the time at which it may.
    fn ready(&mut self, hold: Hold, now: u64, is_loaded: bool) -> Result<(), u64> {
        let since = *self.since.get_or_insert(now);
        let last = since.saturating_add(hold.most);
        let quiet = match is_loaded {
            true => self.active.max(since).saturating_add(hold.quiet),
            false => last,
        };
        let until = quiet.min(last);
        self.is_over |= now >= until;
        if self.is_over { Ok(()) } else { Err(until) }
    }
}

impl Source {
    /// The pages that the destination has requested so far, each once, in the order of
    /// their first requests; empty without [`Config::record`]. At most [`MAX_RECORDED`]
    /// ranges are recorded.
    pub fn first_requests(&self) -> &[FirstRequest] {
        self.recorder
            .as_ref()
            .map_or(&[], |recorder| &recorder.list)
    }

    /// As [`Source::first_requests`], once the migration is over.
    pub fn into_first_requests(self) -> Vec<FirstRequest> {
        self.recorder
            .map_or_else(Vec::new, |recorder| recorder.list)
    }

    /// Records a request for host pages.
    pub(super) fn record(&mut self, span: Span, now: u64) {
        self.hold.active = now;
        if let Some(recorder) = &mut self.recorder {
            recorder.request(span, self.link.ordered.begun);
        }
    }

    /// The guest runs: from now on the sweep waits for its requests.
    pub(super) fn guest_runs(&mut self, now: u64) {
        self.hold.active = now;
    }

    /// Whether the background sweep may go on; otherwise the time at which it may.
    pub(super) fn held(&mut self, now: u64) -> Result<(), u64> {
        let is_loaded = self.is_loaded() || !self.config.ping_loaded;
        self.hold.ready(self.config.hold, now, is_loaded)
    }

    /// The next run of [`Config::order`], ahead of the sweep. The bandwidth limit does not
    /// apply to it: requests would come for these pages otherwise, and are not limited. It
    /// does apply to the rest of a page that is larger than a run.
    pub(super) fn ordered(&mut self, now: u64, out: &mut Vec<u8>) -> Option<PageRun> {
        let Config { order, run, .. } = &self.config;
        let span = self.link.ordered.next(order, &self.dirty, *run)?;
        self.dirty.remove(span);
        self.queue.wanted.remove(span);
        self.stats.sweep += span.len / self.dirty.unit(span.block);
        // What is left of a page that is larger than a run goes at the sweep's pace: requests
        // overtake it.
        let urgent = false;
        Some(self.cut(Channel::Main, Rest { span, urgent }, now, out))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::blocks;
    use super::*;

    const PAGE: u64 = 4096;

    fn pages(block: usize, first: u64, count: u64) -> Span {
        let (offset, len) = (first * PAGE, count * PAGE);
        Span { block, offset, len }
    }

    fn taken(order: &[Span], dirty: &mut PageSet, most: u64) -> Vec<Span> {
        let mut cursor = OrderCursor::default();
        let next = || {
            let run = cursor.next(order, dirty, most)?;
            dirty.remove(run);
            Some(run)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn sends_dirty_pages_of_the_order_in_runs() {
        let blocks = blocks(&[(40, PAGE), (4, PAGE)]);
        let mut dirty = PageSet::all(&blocks);
        dirty.remove(pages(0, 12, 1));
        dirty.remove(pages(0, 30, 2));
        let order = [
            pages(1, 2, 1),
            pages(0, 10, 7),
            pages(0, 30, 2),
            pages(1, 1, 2),
            pages(0, 0, 1),
        ];
        let want = [
            pages(1, 2, 1),
            pages(0, 10, 2),
            pages(0, 13, 3),
            pages(0, 16, 1),
            pages(1, 1, 1),
            pages(0, 0, 1),
        ];
        assert_eq!(taken(&order, &mut dirty, 3 * PAGE), want);
        assert_eq!(taken(&order, &mut dirty, 3 * PAGE), []);
    }

    #[test]
    fn takes_one_page_if_a_run_is_smaller() {
        let blocks = blocks(&[(4, 16 * PAGE)]);
        let mut dirty = PageSet::all(&blocks);
        dirty.fold(&blocks);
        let order = [pages(0, 0, 32)];
        let want = [pages(0, 0, 16), pages(0, 16, 16)];
        assert_eq!(taken(&order, &mut dirty, PAGE), want);
    }

    #[test]
    fn records_each_page_once_and_joins_neighbours() {
        let mut recorder = Recorder::new(&blocks(&[(64, PAGE), (64, PAGE)]));
        for (span, ordered) in [
            (pages(0, 9, 1), 0),
            (pages(0, 10, 1), 1),
            (pages(0, 9, 1), 1),
            (pages(1, 11, 1), 2),
            (pages(0, 8, 4), 3),
            (pages(0, 0, 64), 4),
            // After a cut the order is examined from its start.
            (pages(1, 20, 1), 1),
        ] {
            recorder.request(span, ordered);
        }
        let list = recorder.list.iter();
        let found: Vec<_> = list.map(|one| (one.span, one.ordered)).collect();
        let want = [
            (pages(0, 9, 2), 0),
            (pages(1, 11, 1), 2),
            (pages(0, 8, 1), 3),
            (pages(0, 11, 1), 3),
            (pages(0, 0, 8), 4),
            (pages(0, 12, 52), 4),
            (pages(1, 20, 1), 4),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn records_a_bounded_number_of_ranges() {
        let all = 2 * MAX_RECORDED as u64 + 100;
        let mut recorder = Recorder::new(&blocks(&[(all, PAGE)]));
        for _ in 0..2 {
            for page in (0..all).step_by(2) {
                recorder.request(pages(0, page, 1), 0);
            }
        }
        assert_eq!(recorder.list.len(), MAX_RECORDED);
        let bits = usize::try_from(all / 8).expect("fits in usize");
        assert!(recorder.memory() < (32 << 20) + bits + bits / 16);
    }

    #[test]
    fn merges_requests_where_the_migration_was_in_the_order() {
        let blocks = blocks(&[(64, PAGE), (64, PAGE)]);
        let request = |span, ordered| FirstRequest { span, ordered };
        let learned = [
            request(pages(0, 5, 1), 0),
            request(pages(1, 9, 1), 0),
            request(pages(0, 6, 1), 0),
        ];
        let other = [request(pages(1, 9, 2), 0), request(pages(0, 30, 1), 0)];
        let order = merge_order(&blocks, &[], &[&learned, &other]);
        let want = [
            pages(0, 5, 1),
            pages(1, 9, 2),
            pages(0, 30, 1),
            pages(0, 6, 1),
        ];
        assert_eq!(order, want);
        // Late, then sent before, then at the front, then after everything.
        let second = [
            request(pages(0, 63, 1), 0),
            request(pages(0, 6, 1), 2),
            request(pages(1, 10, 1), 3),
            request(pages(1, 0, 1), 4),
        ];
        let order = merge_order(&blocks, &order, &[&second]);
        let want = [
            pages(0, 63, 1),
            pages(0, 5, 1),
            pages(1, 9, 2),
            pages(0, 6, 1),
            pages(0, 30, 1),
            pages(1, 0, 1),
        ];
        assert_eq!(order, want);
        assert_eq!(merge_order(&blocks, &order, &[]), want, "nothing new");
    }

    const HOLD: Hold = Hold {
        quiet: 10,
        most: 100,
    };

    #[test]
    fn holds_the_sweep_until_requests_end() {
        let mut timer = HoldTimer::default();
        assert_eq!(timer.ready(HOLD, 1000, true), Err(1010));
        timer.active = 1007;
        assert_eq!(timer.ready(HOLD, 1009, true), Err(1017));
        assert_eq!(timer.ready(HOLD, 1017, true), Ok(()));
        timer.active = 1018;
        assert_eq!(timer.ready(HOLD, 1019, true), Ok(()), "not a second time");
    }

    #[test]
    fn holds_the_sweep_for_a_bounded_time() {
        let mut timer = HoldTimer::default();
        assert_eq!(timer.ready(HOLD, 1000, false), Err(1100), "not loaded yet");
        timer.active = 1095;
        assert_eq!(timer.ready(HOLD, 1095, true), Err(1100));
        assert_eq!(timer.ready(HOLD, 1100, true), Ok(()));
        let mut timer = HoldTimer::default();
        assert_eq!(timer.ready(Hold::default(), 0, false), Ok(()));
        let mut timer = HoldTimer::default();
        assert_eq!(timer.ready(Hold::default(), u64::MAX, true), Ok(()));
    }
}

//! Compares random migrations with a naive model of the source.
//!
//! The model holds the dirty pages as a set and the requests as a list. Every
//! run that the source hands out must be the one the model predicts.

use std::collections::{BTreeSet, VecDeque};

use retpath_engine::Channel;
use retpath_engine::blocks::Span;

use super::peer::at;
use super::rig::Rig;
use super::{TARGET, blocks_of};
use crate::choices::Choices;
use retpath_engine::source::{Config, Next, PageRun, Preempt, SourcePhase};

/// A host page: block and page number.
type Host = (usize, u64);

struct Model {
    sizes: Vec<(u64, u64)>,
    run: u64,
    preempt: bool,
    dirty: BTreeSet<Host>,
    queue: VecDeque<Host>,
    /// Whether a request for several pages may precede a later request for a
    /// lost page: a page keeps the queue position of its range.
    loose: bool,
    /// What is left of the configured order: pages, and the number of their range.
    order: VecDeque<(Host, usize)>,
    whole_order: VecDeque<(Host, usize)>,
    /// Where the background sweep continues.
    cursor: Host,
    /// The first page requested since the sweep last chose a page.
    hint: Option<Host>,
    /// A partly sent host page and the offset of its next piece, by channel.
    open: [Option<(Host, u64)>; 2],
}

impl Model {
    fn new(rig: &Rig, sizes: &[(u64, u64)], config: &Config) -> Self {
        let mut model = Self {
            sizes: sizes.to_vec(),
            run: config.run,
            preempt: config.preempt.is_some(),
            dirty: BTreeSet::new(),
            queue: VecDeque::new(),
            loose: false,
            order: VecDeque::new(),
            whole_order: VecDeque::new(),
            cursor: (0, 0),
            hint: None,
            open: [None; 2],
        };
        for (range, span) in config.order.iter().enumerate() {
            let size = sizes[span.block].1;
            let pages = span.offset / size..span.end() / size;
            let pages = pages.map(|page| ((span.block, page), range));
            model.whole_order.extend(pages);
        }
        model.order = model.whole_order.clone();
        let discarded = rig.peer.discarded.iter();
        model.dirty = discarded.map(|page| model.host(page.0, page.1)).collect();
        model
    }

    fn host(&self, block: usize, offset: u64) -> Host {
        (block, offset / self.sizes[block].1)
    }

    fn ask(&mut self, host: Host) {
        if self.dirty.contains(&host) && !self.queue.contains(&host) {
            self.queue.push_back(host);
        }
    }

    /// Resets the model after a recovery.
    fn recovered(&mut self, dirty: BTreeSet<Host>) {
        self.dirty = dirty;
        let dirty = &self.dirty;
        self.queue.retain(|host| dirty.contains(host));
        self.order = self.whole_order.clone();
        self.cursor = (0, 0);
        self.hint = None;
        self.open = [None; 2];
    }

    /// Checks what a channel sends next.
    fn check(&mut self, channel: Channel, next: Next) {
        let run = match next {
            Next::Urgent(run) | Next::Sweep(run) => run,
            _ => {
                assert!(
                    self.open[at(channel)].is_none(),
                    "a host page was sent only in part"
                );
                let idle = match (channel, self.preempt) {
                    (Channel::Main, _) => self.dirty.is_empty(),
                    (Channel::Preempt, true) => self.queue.is_empty(),
                    (Channel::Preempt, false) => true,
                };
                return assert!(idle, "{channel} is idle: {next:?}");
            }
        };
        assert_eq!(run.channel, channel);
        if let Some((host, offset)) = self.open[at(channel)] {
            return self.piece(run, host, offset);
        }
        let size = self.sizes[run.block].1;
        let asks_here = channel == Channel::Preempt || !self.preempt;
        if asks_here && let Some(mut host) = self.queue.pop_front() {
            let got = self.host(run.block, run.offset);
            if self.loose
                && let Some(at) = self.queue.iter().position(|host| *host == got)
            {
                self.queue[at] = host;
                host = got;
            }
            assert!(matches!(next, Next::Urgent(_)));
            self.dirty.remove(&host);
            let end = (host.0, host.1 + 1);
            match self.preempt {
                true => self.hint = self.hint.or(Some(end)),
                false => self.hint = Some(end),
            }
            return self.piece(run, host, host.1 * self.sizes[host.0].1);
        }
        assert!(
            matches!(next, Next::Sweep(_)),
            "unrequested run is urgent: {run:?}"
        );
        let most = (self.run / size).max(1);
        let (pages, is_ordered) = match self.ordered(most) {
            pages if pages.is_empty() => (self.swept(most), false),
            pages => (pages, true),
        };
        let first = pages[0];
        for host in &pages {
            self.dirty.remove(host);
            self.queue.retain(|other| other != host);
        }
        if !is_ordered {
            self.cursor = (first.0, first.1 + pages.len() as u64);
        }
        if size > self.run {
            return self.piece(run, first, first.1 * size);
        }
        let want = (first.0, first.1 * size, pages.len() as u64 * size);
        assert_eq!((run.block, run.offset, run.len), want);
    }

    /// The next dirty pages of one range of the order that lie behind each other.
    fn ordered(&mut self, most: u64) -> Vec<Host> {
        let mut pages: Vec<Host> = Vec::new();
        let mut of = None;
        while let Some(&(host, range)) = self.order.front() {
            let is_dirty = self.dirty.contains(&host);
            let is_next = of.is_none_or(|of| of == range) && (pages.len() as u64) < most;
            if of.is_some() && (!is_dirty || !is_next) {
                break;
            }
            self.order.pop_front();
            if is_dirty {
                of = Some(range);
                pages.push(host);
            }
        }
        pages
    }

    /// The next dirty pages of the background sweep.
    fn swept(&mut self, most: u64) -> Vec<Host> {
        let from = self.hint.take().unwrap_or(self.cursor);
        let first = self.dirty.range(from..).next().or(self.dirty.first());
        let first = *first.expect("a page remains to be sent");
        let pages = (first.1..first.1 + most).map(|page| (first.0, page));
        pages.take_while(|host| self.dirty.contains(host)).collect()
    }

    fn piece(&mut self, run: PageRun, host: Host, offset: u64) {
        let size = self.sizes[host.0].1;
        let end = (host.1 + 1) * size;
        let len = self.run.min(end - offset);
        assert_eq!((run.block, run.offset, run.len), (host.0, offset, len));
        let more = offset + len < end;
        self.open[at(run.channel)] = more.then_some((host, offset + len));
    }
}

/// Migrates blocks of any shape, with or without cuts, and checks that the
/// source sends what the model predicts and that every page arrives.
pub fn migration(choices: &mut Choices<'_>) {
    let page = |choices: &mut Choices<'_>| TARGET << [0, 0, 0, 1, 2, 4][choices.index(6)];
    let mut sizes = Vec::new();
    for _ in 0..1 + choices.below(3) {
        let page = page(choices);
        sizes.push((1 + choices.below(16 * TARGET / page), page));
    }
    let mut order = Vec::new();
    for _ in 0..choices.below(12).saturating_sub(5) * 3 {
        let block = choices.index(sizes.len());
        let (pages, page) = sizes[block];
        let first = choices.below(pages);
        let count = 1 + choices.below((pages - first).min(9));
        let (offset, len) = (first * page, count * page);
        order.push(Span { block, offset, len });
    }
    let config = Config::new("pc-i440fx-10.0")
        .order(order.into())
        .preempt([None, Some(Preempt::Late), Some(Preempt::Early)][choices.index(3)])
        .run(TARGET << choices.below(6))
        .host_page(TARGET)
        .bandwidth([0, 0, 1 << 30][choices.index(3)])
        .ping_loaded(choices.below(2) == 0);
    let mut rig = Rig::of(config.clone(), blocks_of(TARGET, &sizes));
    rig.start();
    for _ in 0..choices.below(60) {
        rig.step(Channel::Main);
        if choices.below(4) == 0 {
            let block = choices.index(sizes.len());
            let (pages, page) = sizes[block];
            let start = choices.below(pages * page);
            let len = 1 + choices.below(pages * page - start).min(5000);
            rig.source
                .mark_dirty(block, start, len.min(pages * page - start))
                .expect("range lies in its block");
        }
    }
    rig.source.switch(vec![]).expect("phase is precopy");
    while rig.source.phase() == SourcePhase::Switching {
        rig.step(Channel::Main);
        rig.talk();
    }
    let mut model = Model::new(&rig, &sizes, &config);
    let cuts = choices.below(3) > 0;
    model.loose = cuts && choices.below(2) == 0;
    let mut cut = false;
    while rig.source.phase() == SourcePhase::Postcopy {
        match choices.below(100) {
            0..30 => {
                let next = rig.step(Channel::Preempt);
                model.check(Channel::Preempt, next);
            }
            30..60 => {
                rig.now += choices.below(4_000_000);
                match rig.step(Channel::Main) {
                    Next::Wait { until: Some(until) } => rig.now = until,
                    next => model.check(Channel::Main, next),
                }
            }
            60..80 => {
                let block = choices.index(sizes.len());
                let (pages, size) = sizes[block];
                let first = choices.below(pages);
                let more = choices.below(8).saturating_sub(5).min(pages - first - 1);
                let count = 1 + if cuts && !model.loose { 0 } else { more };
                rig.ask(block, first * size, (count * size) as u32)
                    .expect("valid request");
                (first..first + count).for_each(|page| model.ask((block, page)));
            }
            80..97 => {
                for channel in [Channel::Main, Channel::Preempt] {
                    rig.deliver(channel, choices.index(1 << 15));
                }
                let replies = std::mem::take(&mut rig.peer.replies);
                rig.reply(&replies).expect("valid return path");
            }
            _ if !cuts => {}
            _ => {
                rig.cut();
                cut = true;
                if choices.below(3) == 0 {
                    rig.replace_source();
                    model.queue.clear();
                }
                rig.resume();
                while rig.source.phase() != SourcePhase::Postcopy {
                    rig.step(Channel::Main);
                    rig.talk();
                }
                let lost = rig.peer.missing();
                model.recovered(lost.map(|page| model.host(page.0, page.1)).collect());
            }
        }
    }
    assert!(model.dirty.is_empty() && model.queue.is_empty());
    assert_eq!(model.open, [None; 2]);
    rig.finish();
    if !cut {
        // Every discarded page is sent exactly once, and no other page is.
        let sent: BTreeSet<_> = rig.peer.sent.iter().map(|(_, page)| *page).collect();
        assert_eq!(sent.len(), rig.peer.sent.len());
        assert_eq!(sent, rig.peer.discarded);
    }
}

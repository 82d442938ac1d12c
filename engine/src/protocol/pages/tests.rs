//! Page states, compared with a model that has one flag for each page.

use retpath_codec::NameBuf;
use retpath_random::Random;

use super::*;

const TARGET: u64 = 1024;

/// Host page size and number of host pages of each block.
const BLOCKS: [(u64, u64); 3] = [(4096, 40), (1024, 70), (16384, 5)];

fn pages() -> Pages {
    let mut pages = Pages::default();
    for (i, (page, count)) in BLOCKS.into_iter().enumerate() {
        let name = NameBuf::new(format!("block{i}")).expect("a name");
        let len = page * count;
        pages.add(&Block { name, len, page }, TARGET);
    }
    pages
}

fn span(block: BlockId, offset: u64, len: u64) -> Span {
    Span { block, offset, len }
}

/// The model of a block.
struct Model {
    page: u64,
    received: Vec<bool>,
    requested: Vec<bool>,
    promised: Vec<bool>,
    unplugged: Vec<bool>,
}

fn at(index: u64) -> usize {
    usize::try_from(index).expect("a small block")
}

fn wide(index: usize) -> u64 {
    u64::try_from(index).expect("64 bits")
}

impl Model {
    fn new((page, count): (u64, u64)) -> Self {
        Self {
            page,
            received: vec![false; at(page / TARGET * count)],
            requested: vec![false; at(count)],
            promised: vec![false; at(count)],
            unplugged: vec![false; at(count)],
        }
    }

    fn part(&mut self, offset: u64, len: u64) -> (&mut [bool], &mut [bool]) {
        let of = |page| at(offset / page)..at((offset + len).div_ceil(page));
        (
            &mut self.received[of(TARGET)],
            &mut self.requested[of(self.page)],
        )
    }

    fn fault(&mut self, offset: u64) -> PageState {
        if self.received[at(offset / TARGET)] || self.unplugged[at(offset / self.page)] {
            return PageState::Present;
        }
        let requested = &mut self.requested[at(offset / self.page)];
        match std::mem::replace(requested, true) {
            true => PageState::Requested,
            false => PageState::Missing,
        }
    }

    /// Sets the received pages of a range, and clears its requests. Returns how many of both
    /// there were.
    fn set(&mut self, offset: u64, len: u64, value: bool) -> (u64, u64) {
        let (received, requested) = self.part(offset, len);
        let had = wide(received.iter().filter(|it| **it).count());
        let wanted = wide(requested.iter().filter(|it| **it).count());
        received.fill(value);
        requested.fill(false);
        let touched = at(offset / self.page)..at((offset + len).div_ceil(self.page));
        if !value {
            self.promised[touched.clone()].fill(true);
        }
        self.unplugged[touched].fill(false);
        (had, wanted)
    }

    fn unplug(&mut self, offset: u64, len: u64) {
        let pieces = at(self.page / TARGET);
        for page in at(offset / self.page)..at((offset + len) / self.page) {
            let received = &self.received[page * pieces..(page + 1) * pieces];
            self.unplugged[page] = !self.promised[page] && !received.contains(&true);
        }
    }

    fn forget_promises(&mut self, offset: u64, len: u64) {
        self.promised[at(offset / self.page)..at((offset + len) / self.page)].fill(false);
    }

    /// Whether a target page is neither received nor unplugged.
    fn is_missing(&self, page: usize) -> bool {
        let host = page / at(self.page / TARGET);
        !self.received[page] && !self.unplugged[host]
    }

    fn requested(&self) -> Vec<u64> {
        let pages = self.requested.iter().enumerate();
        let pages = pages.filter(|(_, requested)| **requested);
        pages.map(|(page, _)| wide(page) * self.page).collect()
    }

    fn torn(&self) -> Option<u64> {
        let pieces = at(self.page / TARGET);
        let mut pages = self.received.chunks(pieces);
        let torn = pages.position(|page| page.contains(&true) && page.contains(&false))?;
        Some(wide(torn) * self.page)
    }
}

/// Compares all queries.
fn same(pages: &Pages, models: &[Model]) {
    for (block, model) in models.iter().enumerate() {
        let requested = model.requested();
        for (i, received) in model.received.iter().enumerate() {
            let offset = wide(i) * TARGET;
            assert_eq!(pages.is_received(block, offset), *received);
            let end = |page: &u64| page + model.page;
            let mut next = requested.iter().copied().filter(|page| end(page) > offset);
            let rest = span(block, offset, wide(model.received.len() - i) * TARGET);
            let found = pages.first_requested_in(rest);
            assert_eq!(found, next.next(), "{block} {offset}");
        }
        let whole = wide(model.requested.len());
        for (first, count) in [(0, whole), (1, 3), (whole / 2, whole / 4), (whole - 1, 1)] {
            let (offset, len) = (first * model.page, count * model.page);
            let received = &model.received[at(offset / TARGET)..at((offset + len) / TARGET)];
            assert_eq!(
                pages.any_received(span(block, offset, len)),
                received.contains(&true)
            );
            let inside = |page: &u64| (offset..offset + len).contains(page);
            let found = requested.iter().copied().filter(inside);
            assert!(pages.requested_in(span(block, offset, len)).eq(found));
        }
        assert_eq!(pages.torn(block), model.torn());
        let bits = pages.received(block).expect("is a block");
        assert_eq!(
            bits.count(),
            wide(model.received.iter().filter(|it| **it).count())
        );
    }
    let requested = models.iter().map(|model| model.requested().len());
    assert_eq!(pages.pending(), wide(requested.sum()));
    let missing = models.iter().enumerate().flat_map(|(block, model)| {
        let pages = (0..model.received.len()).filter(|page| model.is_missing(*page));
        pages.map(move |page| (block, wide(page) * TARGET))
    });
    let unplugged = models.iter().map(|model| {
        let count = model.unplugged.iter().filter(|it| **it).count();
        wide(count) * model.page / TARGET
    });
    assert_eq!(pages.unplugged(), unplugged.sum::<u64>());
    let missing: Vec<(BlockId, u64)> = missing.collect();
    assert_eq!(pages.missing(), wide(missing.len()));
    assert_eq!(pages.first_missing(), missing.first().copied());
}

#[test]
fn page_states_match_the_model() {
    let mut pages = pages();
    let mut models = BLOCKS.map(Model::new);
    same(&pages, &models);
    let mut random = Random::new(7);
    let mut below = |end| random.below(end);
    for round in 0..3000 {
        let block = at(below(3));
        let (page, count) = BLOCKS[block];
        let first = below(count);
        let (offset, len) = (first * page, (1 + below((count - first).min(6))) * page);
        match below(10) {
            8 => {
                models[block].unplug(offset, len);
                pages.unplug(span(block, offset, len));
            }
            9 => {
                models[block].forget_promises(offset, len);
                pages.forget_promises(span(block, offset, len));
            }
            0..5 => {
                let offset = offset + below(page / TARGET) * TARGET;
                assert_eq!(pages.fault(block, offset), models[block].fault(offset));
            }
            5 | 6 => {
                let (_, wanted) = models[block].set(offset, len, true);
                assert_eq!(pages.receive(span(block, offset, len)), wanted);
            }
            // A single target page of a host page, as before the switch.
            _ if below(2) == 0 => {
                let offset = offset + below(page / TARGET) * TARGET;
                models[block].set(offset, TARGET, round % 3 != 0);
                match round % 3 != 0 {
                    true => drop(pages.receive(span(block, offset, TARGET))),
                    false => drop(pages.discard(span(block, offset, TARGET))),
                }
            }
            _ => {
                let (had, _) = models[block].set(offset, len, false);
                assert_eq!(pages.discard(span(block, offset, len)), had);
            }
        }
        if round % 50 == 0 {
            same(&pages, &models);
        }
    }
    same(&pages, &models);
    assert!(pages.pending() > 0 && pages.missing() > 0 && pages.unplugged() > 0);
}

#[test]
fn restores_only_whole_host_pages() {
    let mut pages = Pages::default();
    let name = NameBuf::new("ram").expect("a name");
    let (len, page) = (4 * 4 * TARGET, 4 * TARGET);
    pages.add(&Block { name, len, page }, TARGET);
    // The second host page lacks its third target page, the last one all of them.
    pages.restore(0, [0b0000_1111_1011_1111]);
    let received = pages.received(0).expect("is a block");
    assert_eq!(received.words(), [0b0000_1111_0000_1111]);
    assert_eq!(pages.torn(0), None);
}

#[test]
fn an_unknown_block_has_no_missing_pages() {
    let mut pages = pages();
    assert_eq!(pages.fault(3, 0), PageState::Present);
    assert_eq!(pages.receive(span(3, 0, TARGET)), 0);
    assert_eq!(pages.discard(span(3, 0, TARGET)), 0);
    pages.unplug(span(3, 0, TARGET));
    pages.forget_promises(span(3, 0, TARGET));
    assert!(!pages.is_received(3, 0));
    assert!(!pages.any_received(span(3, 0, TARGET)));
    assert!(pages.received(3).is_none());
    assert_eq!(pages.requested_in(span(3, 0, TARGET)).next(), None);
    assert_eq!(pages.torn(3), None);
    same(&pages, &BLOCKS.map(Model::new));
}

#[test]
fn page_states_take_memory_where_pages_are_used() {
    let mut pages = Pages::default();
    for name in ["one", "two"] {
        let name = NameBuf::new(name).expect("a name");
        let (len, page) = (4096 << 14, 4096);
        pages.add(&Block { name, len, page }, TARGET);
    }
    let mut before = pages.memory();
    assert!(before < 2048, "nothing has arrived");
    let mut grown = |pages: &Pages| pages.memory() - std::mem::replace(&mut before, pages.memory());
    pages.receive(span(1, 0, 70 * 4096));
    assert!((1..1024).contains(&grown(&pages)));
    pages.fault(0, 0);
    assert!((1..1024).contains(&grown(&pages)));
    pages.discard(span(0, 0, 4096));
    assert!((1..1024).contains(&grown(&pages)));
    pages.unplug(span(1, 1 << 20, 4096));
    assert!((1..1024).contains(&grown(&pages)));
    pages.receive(span(1, 0, 70 * 4096));
    assert_eq!(grown(&pages), 0);
    // One bit for each target page, of which some had their memory before.
    pages.receive(span(1, 0, 4096 << 14));
    let bits = ((4096 / at(TARGET)) << 14) / 8;
    assert!((bits - 1024..bits).contains(&grown(&pages)));
}

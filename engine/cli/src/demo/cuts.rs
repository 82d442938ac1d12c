//! Where each link breaks, and which side breaks it.
//!
//! The plan follows from the seed: each cut gives the next link a number of bytes, after which one
//! side closes it. All of these bytes together are fewer than the bytes of the pages, so the
//! migration cannot end before every cut has happened, however fast it is. A cut may fall inside a
//! message, between two messages, or into a recovery.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::content::Random;
use super::fault_injector::FaultInjector;
use retpath_engine::socket::Link;

/// A side of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// The side that closes the link.
    side: Side,
    /// Most bytes that the link carries to the destination.
    forward: u64,
    /// Most bytes that the link carries to the source.
    back: Option<u64>,
}

impl Cut {
    fn injector(&self) -> FaultInjector {
        let back = self.back.unwrap_or(u64::MAX);
        match self.side {
            Side::Source => FaultInjector::new(back, self.forward),
            Side::Destination => FaultInjector::new(self.forward, back),
        }
    }
}

/// Fewest bytes of the first link. The switch is over by then: it takes less than 100 bytes and
/// 600 for each block, after 64 KiB of pages.
fn first_link(blocks: u64) -> u64 {
    (128 << 10) + 1024 * blocks
}

/// Plans `count` cuts of a migration that sends at least `bytes` bytes of pages; `None` if they do
/// not fit.
fn plan(seed: u64, count: u64, bytes: u64, blocks: u64) -> Option<Vec<Cut>> {
    if count == 0 {
        // However small the memory is.
        return Some(Vec::new());
    }
    let first = first_link(blocks);
    // An eighth is left for the time after the last cut.
    let last = bytes - bytes / 8;
    let room = last.checked_sub(first).filter(|room| *room >= count)?;
    let mut random = Random::new(seed, 4);
    let mut ends: Vec<u64> = (0..count).map(|_| first + random.below(room)).collect();
    ends.sort_unstable();
    let mut before = 0;
    let cut = |end: u64| {
        let forward = (end - before).max(1);
        let is_first = before == 0;
        before = end;
        if is_first {
            // Before the switch a broken link ends the migration. The destination has understood
            // what it has read; a source cannot know how much of what it wrote was read.
            return Cut {
                side: Side::Destination,
                forward,
                back: None,
            };
        }
        let side = match random.below(2) {
            0 => Side::Source,
            _ => Side::Destination,
        };
        // Half of them may end in a bitmap, an acknowledgement or a request instead.
        let size = 1 << random.below(22);
        let back = (random.below(2) == 0).then(|| 1 + random.below(size));
        Cut {
            side,
            forward,
            back,
        }
    };
    Some(ends.into_iter().map(cut).collect())
}

/// Breaks the links of both sides as planned.
#[derive(Debug)]
pub(super) struct Cuts {
    plan: Vec<Cut>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Cuts that have happened.
    done: usize,
    /// Links of each side so far. Links are accepted in the order in which they are connected.
    connected: u64,
    accepted: u64,
    /// The cut in force: the number of its first link, the side that breaks it, and its limits.
    armed: Option<(u64, Side, FaultInjector)>,
}

impl Cuts {
    /// Plans `count` cuts, as [`plan`].
    pub(super) fn new(seed: u64, count: u64, bytes: u64, blocks: u64) -> Option<Self> {
        Some(Self {
            plan: plan(seed, count, bytes, blocks)?,
            state: Mutex::default(),
        })
    }

    /// Cuts that have happened.
    pub(super) fn done(&self) -> usize {
        self.lock().done
    }

    /// Arms the cut for the main link that is connected next. A link that broke for another reason
    /// leaves its cut due.
    pub(super) fn arm(&self) {
        let mut state = self.lock();
        let happened = state.armed.take();
        state.done += usize::from(happened.is_some_and(|(_, _, injector)| injector.has_fired()));
        let cut = self.plan.get(state.done);
        state.armed = cut.map(|cut| (state.connected, cut.side, cut.injector()));
    }

    /// Counts a new link of a side, and makes it break if that side breaks it.
    pub(super) fn linked(&self, side: Side, link: Link) -> Link {
        let mut state = self.lock();
        let count = match side {
            Side::Source => &mut state.connected,
            Side::Destination => &mut state.accepted,
        };
        let number = *count;
        *count += 1;
        match &state.armed {
            Some((first, breaks, injector)) if *breaks == side && number >= *first => {
                injector.wrap(link)
            }
            _ => link,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_too_few_bytes_to_end_before_the_last_cut() {
        for seed in 0..50 {
            for (count, bytes) in [(1, 1 << 20), (20, 2 << 20), (1000, 100 << 20)] {
                let cuts = plan(seed, count, bytes, 5).expect("room");
                assert_eq!(cuts.len() as u64, count);
                let all: u64 = cuts.iter().map(|cut| cut.forward).sum();
                assert!(all < bytes, "{all} of {bytes}");
                assert!(cuts[0].forward >= first_link(5));
                // Behind the switch, where only the destination knows what has arrived.
                assert_eq!((cuts[0].side, cuts[0].back), (Side::Destination, None));
            }
        }
    }

    #[test]
    fn lets_both_sides_cut_in_both_directions() {
        let cuts = plan(1, 100, 100 << 20, 1).expect("room");
        for side in [Side::Source, Side::Destination] {
            for back in [false, true] {
                let like = |cut: &Cut| (cut.side, cut.back.is_some()) == (side, back);
                assert!(cuts.iter().filter(|cut| like(cut)).count() > 10);
            }
        }
        let other = plan(2, 100, 100 << 20, 1).expect("room");
        assert_ne!(cuts, other, "another seed, other cuts");
    }

    #[test]
    fn refuses_cuts_that_do_not_fit() {
        assert_eq!(plan(1, 1, 0, 1), None);
        assert_eq!(plan(1, 1, first_link(1), 1), None);
        assert_eq!(plan(1, 1 << 21, 2 << 20, 1), None);
        for bytes in [0, 1, 4096, first_link(1), 2 << 20] {
            assert_eq!(plan(1, 0, bytes, 1), Some(Vec::new()), "{bytes}");
        }
    }

    #[test]
    fn breaks_the_links_of_the_side_whose_turn_it_is() {
        for cutter in [Side::Source, Side::Destination] {
            let cut = Cut {
                side: cutter,
                forward: 1,
                back: Some(1),
            };
            let cuts = Cuts {
                plan: vec![cut],
                state: Mutex::default(),
            };
            // Whether a new link of a side breaks after one byte.
            let breaks = |side| {
                let (near, _far) = Link::pair().expect("a pair");
                let near = cuts.linked(side, near);
                let _ = near.write(b"x");
                near.write(b"x").is_err()
            };
            let both = || [Side::Source, Side::Destination].map(breaks);
            assert_eq!(both(), [false, false], "nothing is armed");
            cuts.arm();
            let want = [Side::Source, Side::Destination].map(|side| side == cutter);
            assert_eq!(both(), want, "the main link");
            assert_eq!(both(), want, "the preempt channel");
            assert_eq!(cuts.done(), 0);
            cuts.arm();
            assert_eq!(cuts.done(), 1);
            assert_eq!(both(), [false, false], "no cut is left");
        }
    }

    #[test]
    fn spares_a_link_that_was_connected_before_the_cut() {
        let cuts = Cuts::new(1, 1, 4 << 20, 1).expect("room");
        let pair = || {
            let (near, far) = Link::pair().expect("a pair");
            (cuts.linked(Side::Source, near), far)
        };
        let early = pair();
        cuts.arm();
        let late = pair();
        let bytes = vec![0; 4 << 20];
        for ((near, far), is_cut) in [(early, false), (late, true)] {
            let far = cuts.linked(Side::Destination, far);
            let mut buf = vec![0; 64 << 10];
            let broken = (0..100).any(|_| {
                let _ = near.write(&bytes);
                far.read(&mut buf).is_err()
            });
            assert_eq!(broken, is_cut);
        }
    }
}

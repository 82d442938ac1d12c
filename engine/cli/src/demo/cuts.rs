//! Where the link breaks, and who breaks it.
//!
//! The source makes the plan from the seed: each cut allows the next link so
//! many bytes. All of them together are fewer than the pages' own bytes, and
//! no link can carry more pages than bytes; so the migration cannot end before
//! every cut has happened, however fast it is. Bytes end anywhere: inside of
//! messages, between them, in the middle of a recovery.
//!
//! One side breaks each link, by closing it after that many bytes. If it is
//! the destination's turn, the source tells it the number of the link before
//! connecting it: links are accepted in the order in which they are made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use retpath_engine::socket::{FaultInjector, Link};

/// Who breaks a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A link's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) side: Side,
    /// Bytes that it carries to the destination at most.
    pub(super) forward: u64,
    /// Bytes that it carries to the source at most.
    pub(super) back: Option<u64>,
}

impl Cut {
    /// Bytes that the side which cuts reads and writes at most.
    pub(super) fn limits(&self) -> (u64, u64) {
        let back = self.back.unwrap_or(u64::MAX);
        match self.side {
            Side::Source => (back, self.forward),
            Side::Destination => (self.forward, back),
        }
    }
}

/// Bytes that the first link carries at least. The switch is over by then: it
/// takes less than 100 bytes and 600 for each block, behind 64 KiB of pages
/// that are sent before it.
fn first(blocks: u64) -> u64 {
    (128 << 10) + 1024 * blocks
}

/// Plans `count` cuts of a migration whose pages have `bytes` bytes that must
/// be sent; none if they do not fit.
pub(super) fn plan(seed: u64, count: u64, bytes: u64, blocks: u64) -> Option<Vec<Cut>> {
    if count == 0 {
        // However small the memory is.
        return Some(Vec::new());
    }
    let first = first(blocks);
    // A rest, so that there is something to see after the last cut, too.
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
            // Before the switch a broken link is the end. What the
            // destination has read, it has understood; a source cannot know
            // how much of what it wrote was read.
            let side = Side::Destination;
            let back = None;
            return Cut {
                side,
                forward,
                back,
            };
        }
        let side = match random.below(2) {
            0 => Side::Source,
            _ => Side::Destination,
        };
        // Half of them may end in a bitmap, an acknowledgement or a request
        // instead, if as much comes back.
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

/// The destination's fuses: for links that are still to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Fuses(Arc<Mutex<Door>>);

#[derive(Debug, Default)]
struct Door {
    accepted: u64,
    armed: Option<(u64, FaultInjector)>,
}

impl Fuses {
    /// The link with this number, counted from 0, and those behind it break
    /// when the fuse blows; or not on purpose.
    pub(super) fn arm(&self, link: u64, fuse: Option<FaultInjector>) {
        self.lock().armed = fuse.map(|fuse| (link, fuse));
    }

    /// A link has been accepted.
    pub(super) fn accepted(&self, link: Link) -> Link {
        let mut inner = self.lock();
        inner.accepted += 1;
        match &inner.armed {
            Some((from, fuse)) if inner.accepted > *from => fuse.wrap(link),
            _ => link,
        }
    }

    /// Whether the fuse that was armed last has blown.
    pub(super) fn has_fired(&self) -> bool {
        let inner = self.lock();
        inner
            .armed
            .as_ref()
            .is_some_and(|(_, fuse)| fuse.has_fired())
    }

    fn lock(&self) -> MutexGuard<'_, Door> {
        // Whole after every line that changes it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_too_few_bytes_to_end_before_the_last_cut() {
        for seed in 0..50 {
            for (count, bytes) in [(1, 1 << 20), (20, 2 << 20), (1000, 100 << 20)] {
                let cuts = plan(seed, count, bytes, 5).expect("room");
                assert_eq!(cuts.len() as u64, count);
                let all: u64 = cuts.iter().map(|cut| cut.forward).sum();
                assert!(all < bytes, "{all} of {bytes}");
                assert!(cuts[0].forward >= first(5));
            }
        }
    }

    #[test]
    fn breaks_the_first_link_where_the_switch_is_understood() {
        for seed in 0..50 {
            let cuts = plan(seed, 2, 4 << 20, 1).expect("room");
            assert_eq!((cuts[0].side, cuts[0].back), (Side::Destination, None));
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
    fn refuses_what_does_not_fit() {
        assert_eq!(plan(1, 1, 0, 1), None);
        assert_eq!(plan(1, 1, first(1), 1), None);
        assert_eq!(plan(1, 1 << 21, 2 << 20, 1), None);
    }

    #[test]
    fn needs_no_room_where_nothing_is_cut() {
        for bytes in [0, 1, 4096, first(1), 2 << 20] {
            assert_eq!(plan(1, 0, bytes, 1), Some(Vec::new()), "{bytes}");
        }
    }

    #[test]
    fn arms_the_link_that_was_meant_and_those_behind_it() {
        let fuses = Fuses::default();
        fuses.arm(1, Some(FaultInjector::new(1, 1)));
        let mut broken = Vec::new();
        for _ in 0..3 {
            let (near, _far) = Link::pair().expect("a pair");
            let near = fuses.accepted(near);
            let _ = near.write(b"x");
            broken.push(near.write(b"x").is_err());
        }
        assert_eq!(broken, [false, true, true]);
        assert!(fuses.has_fired());
        fuses.arm(3, None);
        assert!(!fuses.has_fired());
    }
}

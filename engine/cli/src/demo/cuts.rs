//! Where each link breaks, and which side breaks it.
//!
//! The plan follows from the seed: each cut gives the next link a number of bytes, after which one
//! side closes it. All of these bytes together are fewer than the bytes of the pages, so the
//! migration cannot end before every cut has happened, however fast it is. A cut may fall inside a
//! message, between two messages, or into a recovery.

use fastrand::Rng;
use retpath_engine::socket::Link;

use super::fault_injector::FaultInjector;

/// A cut: what a link carries, and which side closes it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Whether the source closes the link, or the destination.
    by_source: bool,
    /// Most bytes to the destination.
    forward: u64,
    /// Most bytes to the source; [`u64::MAX`] is no limit.
    back: u64,
}

/// Fewest bytes of the first link. The switch is over by then: it takes less than 100 bytes and
/// 600 for each block, after 64 KiB of pages.
fn first_link(blocks: u64) -> u64 {
    (128 << 10) + 1024 * blocks
}

/// Plans `count` cuts of a migration that sends at least `bytes` bytes of pages; `None` if they do
/// not fit.
fn plan(random: &mut Rng, count: u64, bytes: u64, blocks: u64) -> Option<Vec<Cut>> {
    if count == 0 {
        // However small the memory is.
        return Some(Vec::new());
    }
    let first = first_link(blocks);
    // An eighth is left for the time after the last cut.
    let last = bytes - bytes / 8;
    let room = last.checked_sub(first).filter(|room| *room >= count)?;
    let mut ends: Vec<u64> = (0..count).map(|_| first + random.u64(..room)).collect();
    ends.sort_unstable();
    let mut before = 0;
    let cut = |end: u64| {
        let forward = (end - before).max(1);
        // Before the switch a broken link ends the migration. So the destination makes the first
        // cut: it has understood what it has read, while a source cannot know how much of what it
        // wrote was read.
        let is_first = before == 0;
        before = end;
        // Half of the others may end in a bitmap, an acknowledgement or a request instead.
        let size = 1 << random.u32(..22);
        Cut {
            by_source: !is_first && random.bool(),
            forward,
            back: match !is_first && random.bool() {
                true => random.u64(1..=size),
                false => u64::MAX,
            },
        }
    };
    Some(ends.into_iter().map(cut).collect())
}

/// Breaks links as planned.
#[derive(Debug)]
pub(super) struct Cuts {
    plan: Vec<Cut>,
    /// Cuts that have happened.
    done: usize,
    /// The cut in force.
    armed: Option<(Cut, FaultInjector)>,
}

impl Cuts {
    /// Plans `count` cuts, as [`plan`].
    pub(super) fn new(random: &mut Rng, count: u64, bytes: u64, blocks: u64) -> Option<Self> {
        Some(Self {
            plan: plan(random, count, bytes, blocks)?,
            done: 0,
            armed: None,
        })
    }

    /// Cuts that have happened.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Arms the next cut, for a new main channel and the preempt channel that follows it. A link
    /// that broke for another reason leaves its cut due.
    pub(super) fn arm(&mut self) {
        let happened = self.armed.take();
        self.done += usize::from(happened.is_some_and(|(_, injector)| injector.has_fired()));
        self.armed = self.plan.get(self.done).map(|cut| {
            let injector = match cut.by_source {
                true => FaultInjector::new(cut.back, cut.forward),
                false => FaultInjector::new(cut.forward, cut.back),
            };
            (*cut, injector)
        });
    }

    /// Makes a new link break as the cut in force says. `ends` are those of source and destination.
    pub(super) fn link(&self, ends: (Link, Link)) -> (Link, Link) {
        let (source, destination) = ends;
        match &self.armed {
            Some((cut, injector)) if cut.by_source => (injector.wrap(source), destination),
            Some((_, injector)) => (source, injector.wrap(destination)),
            None => (source, destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::ConnectionAborted;

    use super::*;

    #[test]
    fn allows_too_few_bytes_to_end_before_the_last_cut() {
        for seed in 0..50 {
            for (count, bytes) in [(1, 1 << 20), (20, 2 << 20), (1000, 100 << 20)] {
                let cuts = plan(&mut Rng::with_seed(seed), count, bytes, 5).expect("room");
                assert_eq!(cuts.len() as u64, count);
                let all: u64 = cuts.iter().map(|cut| cut.forward).sum();
                assert!(all < bytes, "{all} of {bytes}");
                assert!(cuts[0].forward >= first_link(5));
                // Behind the switch, where only the destination knows what has arrived.
                assert_eq!((cuts[0].by_source, cuts[0].back), (false, u64::MAX));
            }
        }
    }

    #[test]
    fn lets_both_sides_cut_in_both_directions() {
        let cuts = plan(&mut Rng::with_seed(1), 100, 100 << 20, 1).expect("room");
        for by_source in [false, true] {
            for is_open in [false, true] {
                let like =
                    |cut: &&Cut| (cut.by_source, cut.back == u64::MAX) == (by_source, is_open);
                assert!(cuts.iter().filter(like).count() > 10);
            }
        }
        let other = plan(&mut Rng::with_seed(2), 100, 100 << 20, 1).expect("room");
        assert_ne!(cuts, other, "another seed, other cuts");
    }

    #[test]
    fn refuses_cuts_that_do_not_fit() {
        assert_eq!(plan(&mut Rng::with_seed(1), 1, 0, 1), None);
        assert_eq!(plan(&mut Rng::with_seed(1), 1, first_link(1), 1), None);
        assert_eq!(plan(&mut Rng::with_seed(1), 1 << 21, 2 << 20, 1), None);
        for bytes in [0, 1, 4096, first_link(1), 2 << 20] {
            assert_eq!(
                plan(&mut Rng::with_seed(1), 0, bytes, 1),
                Some(Vec::new()),
                "{bytes}"
            );
        }
    }

    #[test]
    fn breaks_the_links_of_the_side_whose_turn_it_is() {
        for by_source in [false, true] {
            let cut = Cut {
                by_source,
                forward: 1,
                back: 1,
            };
            let mut cuts = Cuts {
                plan: vec![cut],
                done: 0,
                armed: None,
            };
            // Whether the ends of a new link, at source and destination, break after one byte.
            let breaks = |cuts: &Cuts| {
                let (source, destination) = cuts.link(Link::pair().expect("a pair"));
                [&source, &destination].map(|end| {
                    let _ = end.write(b"x");
                    end.write(b"x")
                        .is_err_and(|e| e.kind() == ConnectionAborted)
                })
            };
            assert_eq!(breaks(&cuts), [false, false], "nothing is armed");
            cuts.arm();
            let want = [by_source, !by_source];
            assert_eq!(breaks(&cuts), want, "the main link");
            assert_eq!(breaks(&cuts), want, "the preempt channel");
            assert_eq!(cuts.done(), 0);
            cuts.arm();
            assert_eq!(cuts.done(), 1);
            assert_eq!(breaks(&cuts), [false, false], "no cut is left");
        }
    }
}

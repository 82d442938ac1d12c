//! Migrates a small guest in memory over a link that splits the streams and
//! breaks at every byte of each direction, and again during the recovery.
//!
//! In half of the cases another source takes over. Each time the destination
//! must end with the source's memory, and every page must be placed exactly once.
//! There is no clock, thread or file: every run sends the same bytes in the same
//! order.

use retpath_engine::Channel;
use retpath_engine::source::{Config, Next, Preempt, SourcePhase};
use retpath_proptests::link::{Link, Outcome, Setup, WIRES, Wire};

const TARGET: u64 = 1024;

/// How a run proceeds, apart from cuts.
#[derive(Clone, Copy, Debug)]
struct Drive {
    preempt: Option<Preempt>,
    /// Bytes that a wire delivers per turn.
    piece: usize,
    /// Turns before the return path delivers anything.
    delay: usize,
    /// Turns until the device state is saved.
    saving: usize,
}

const DRIVES: [Drive; 5] = [
    Drive {
        preempt: None,
        piece: usize::MAX,
        delay: 0,
        saving: 0,
    },
    Drive {
        preempt: None,
        piece: 700,
        delay: 5,
        saving: 9,
    },
    Drive {
        preempt: Some(Preempt::Late),
        piece: 1500,
        delay: 0,
        saving: 2,
    },
    Drive {
        preempt: Some(Preempt::Early),
        piece: 311,
        delay: 3,
        saving: 0,
    },
    Drive {
        preempt: Some(Preempt::Late),
        piece: 97,
        delay: 20,
        saving: 30,
    },
];

/// Returns three host pages of one target page and one of four, some of them zero.
fn setup(drive: Drive) -> Setup {
    let memory = |fills: &[u8]| -> Vec<u8> {
        let page = |fill: &u8| std::iter::repeat_n(*fill, 1024);
        fills.iter().flat_map(page).collect()
    };
    Setup {
        target: TARGET,
        blocks: vec![
            (3, TARGET, memory(&[1, 0, 3])),
            (2, 4 * TARGET, memory(&[0, 5, 0, 7, 0, 0, 0, 0])),
        ],
        config: Config::new("pc")
            .preempt(drive.preempt)
            .ping_loaded(true)
            .switchover_start(true)
            .run(2 * TARGET),
        device_state: b"\x04\0\0\0\x09\x03cpu\0\0\0\0\0\0\0\x01state\x7e\0\0\0\x09".to_vec(),
    }
}

/// Addresses that the guest accesses, one per turn once it runs.
const TOUCHES: [(usize, u64); 4] = [(1, 5000), (0, 2 * 1024), (1, 3 * 1024), (0, 1030)];

/// A run in progress.
struct Run {
    link: Link,
    drive: Drive,
    turns: usize,
    touched: usize,
    unsaved: usize,
}

impl Run {
    fn new(drive: Drive) -> Self {
        Self {
            link: Link::new(setup(drive)),
            drive,
            turns: 0,
            touched: 0,
            unsaved: 0,
        }
    }

    /// Performs one turn: each side takes one step, and each wire delivers one
    /// piece; the watched wire delivers at most the given total.
    fn turn(&mut self, watched: Option<(Wire, usize)>) {
        self.turns += 1;
        if self.turns == 4 {
            // A page that was sent becomes dirty and is sent again.
            self.link.change(0, 0, 77);
        }
        if self.turns > 6 {
            self.link.switch();
        }
        for channel in [Channel::Preempt, Channel::Main] {
            if let Next::Wait { until: Some(_) } = self.link.send(channel) {
                self.link.pass(1_000_000);
            }
        }
        for wire in WIRES {
            let held = wire == Wire::Back && self.turns <= self.drive.delay;
            let most = match watched {
                Some((it, end)) if it == wire => end - self.link.delivered(wire),
                _ => usize::MAX,
            };
            if !held {
                self.link.deliver(wire, most.min(self.drive.piece));
            }
        }
        self.unsaved += 1;
        if self.unsaved > self.drive.saving {
            self.link.save();
        }
        if let Some((block, offset)) = TOUCHES.get(self.touched)
            && self.link.source().guest_left()
        {
            let before = self.link.destination().stats().faults;
            self.link.touch(*block, *offset);
            let now = self.link.destination().stats();
            self.touched += usize::from(now.faults > before || now.faults_present > 0);
        }
    }

    /// Runs until a wire has delivered `end` bytes over this link, or the
    /// migration is over.
    fn until(&mut self, wire: Wire, end: usize) -> Option<Outcome> {
        for _ in 0..10_000 {
            if self.link.delivered(wire) >= end {
                return None;
            }
            self.turn(Some((wire, end)));
            if let Some(outcome) = self.link.outcome() {
                return Some(outcome);
            }
        }
        panic!("{:?} never delivers {end} bytes of {wire:?}", self.drive);
    }

    /// Runs until the migration ends.
    fn end(&mut self) -> Outcome {
        for _ in 0..10_000 {
            self.turn(None);
            if let Some(outcome) = self.link.outcome() {
                return outcome;
            }
        }
        panic!("migration does not end: {:?}", self.drive);
    }

    /// Breaks the link and reconnects if the migration can recover, with the same
    /// source or another one.
    fn cut(&mut self, other: bool) -> Option<Outcome> {
        self.link.cut();
        if let Some(outcome) = self.link.outcome() {
            return Some(outcome);
        }
        if other {
            assert!(self.link.replace_source());
        }
        assert!(self.link.reconnect());
        None
    }
}

/// Offsets for cuts of a wire: at and next to each boundary, and inside each item.
fn places(boundaries: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    let mut start = 0;
    for &end in boundaries {
        let size = end - start;
        if size <= 24 {
            places.extend(start + 1..=end);
        } else {
            let inside = [1, 4, 8, 9, size / 2, size - 1, size];
            places.extend(inside.map(|at| start + at));
        }
        start = end;
    }
    places.dedup();
    places
}

/// Returns the ends of a wire's items in a complete run, over the first link or
/// over the link after a cut.
fn measure(drive: Drive, cut: Option<(Wire, usize)>, wire: Wire) -> Vec<usize> {
    let mut run = Run::new(drive);
    if let Some((first, end)) = cut {
        assert_eq!(run.until(first, end), None);
        assert_eq!(run.cut(false), None);
    }
    assert_eq!(run.end(), Outcome::Done);
    run.link.boundaries(wire).to_vec()
}

/// Returns an offset on the main channel shortly after the first recoverable
/// cut, where nearly all pages are still unsent.
fn first_use(drive: Drive) -> usize {
    let places = places(&measure(drive, None, Wire::Main));
    let useful = |place: &usize| {
        let mut run = Run::new(drive);
        run.until(Wire::Main, *place).is_none() && run.cut(false).is_none()
    };
    let first = places.into_iter().find(useful);
    first.expect("the guest switches at some offset") + 13
}

#[test]
fn transfers_all_pages_with_any_read_size() {
    for drive in DRIVES {
        for piece in [1, 2, 3, 7, 13, 64, 1000, 1033, drive.piece] {
            let mut run = Run::new(Drive { piece, ..drive });
            assert_eq!(run.end(), Outcome::Done);
            assert_eq!(run.touched, TOUCHES.len());
            assert_eq!(run.link.waiting(), 0);
            let stats = run.link.destination().stats();
            assert_eq!((stats.duplicates, stats.pauses), (0, 0));
        }
    }
}

/// Cuts the link at every byte of every wire.
fn cut_everywhere(preempt: Option<Preempt>) {
    let mut ends = [0; 3];
    for drive in DRIVES.into_iter().filter(|it| it.preempt == preempt) {
        for wire in WIRES {
            let last = measure(drive, None, wire).last().copied();
            for place in 0..=last.unwrap_or(0) {
                let mut run = Run::new(drive);
                let outcome = match run.until(wire, place) {
                    Some(outcome) => outcome,
                    None => run.cut(place % 2 == 1).unwrap_or_else(|| run.end()),
                };
                ends[outcome as usize] += 1;
                let paused = run.link.source().stats().pauses;
                let over = run.link.source().phase() != SourcePhase::Completed;
                assert!(paused == 1 || over || outcome == Outcome::Done);
            }
        }
    }
    assert!(ends.iter().all(|count| *count > 10), "{ends:?}");
}

#[test]
fn survives_a_cut_at_every_byte() {
    cut_everywhere(None);
}

#[test]
fn survives_a_cut_at_every_byte_with_an_early_preempt_channel() {
    cut_everywhere(Some(Preempt::Early));
}

#[test]
fn survives_a_cut_at_every_byte_with_a_late_preempt_channel() {
    cut_everywhere(Some(Preempt::Late));
}

#[test]
fn survives_a_second_cut_at_and_inside_every_message_of_the_recovery() {
    let mut count = 0;
    for drive in DRIVES {
        let first = (Wire::Main, first_use(drive));
        for wire in WIRES {
            for place in places(&measure(drive, Some(first), wire)) {
                let mut run = Run::new(drive);
                assert_eq!(run.until(first.0, first.1), None);
                assert_eq!(run.cut(false), None);
                let outcome = match run.until(wire, place) {
                    Some(outcome) => outcome,
                    None => run.cut(false).unwrap_or_else(|| run.end()),
                };
                assert_eq!(outcome, Outcome::Done, "{drive:?}, {wire:?} at {place}");
                count += 1;
            }
        }
    }
    assert!(count > 500, "{count}");
}

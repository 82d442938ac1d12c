//! Compares this project's return-path reader with a real QEMU source.
//!
//! QEMU is sent sequences of valid and mutated messages. What it accepts, with
//! which values, and where it stops is compared with the verdict of the codec's
//! stream and the engine's source on the same bytes. Every difference must have a
//! note in the table.
//!
//! The sequences are the same in every run; `RETPATH_SEED` selects others.

#![allow(
    unexpected_cfgs,
    reason = "the support crate enables features of the engine"
)]

#[path = "qemu_judge/compare.rs"]
mod compare;
#[path = "qemu_judge/forward.rs"]
mod forward;
#[path = "qemu_judge/judge.rs"]
mod judge;
#[path = "qemu_judge/ours.rs"]
mod ours;
#[path = "qemu_judge/plan.rs"]
mod plan;
#[path = "qemu_judge/recovery.rs"]
mod recovery;
#[path = "qemu_judge/theirs.rs"]
mod theirs;
#[path = "qemu_judge/verdict.rs"]
mod verdict;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use retpath_engine::blocks::Blocks;

use compare::{Release, compare, notes};
use forward::{Forward, Until};
use judge::Judge;
use ours::{Ours, Stage};
use plan::{Plan, When, plans};
use recovery::{Recovery, recoveries};
use verdict::{End, Verdict};

/// Number of sequences outside of a recovery.
const SEQUENCES: u32 = 2400;

/// Number of recoveries.
const RECOVERIES: u32 = 120;

/// Statistics of a run.
#[derive(Default)]
struct Figures {
    sequences: usize,
    messages: usize,
    accepted: usize,
    refused: usize,
    differences: BTreeMap<String, usize>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sequences,
            messages,
            accepted,
            refused,
            differences,
        } = self;
        write!(
            f,
            "judge: {sequences} sequences, {messages} messages, {accepted} accepted, \
             {refused} refused, differences by note: "
        )?;
        let list: Vec<_> = differences
            .iter()
            .map(|(note, count)| format!("{note} {count}"))
            .collect();
        f.write_str(&list.join("; "))
    }
}

/// A QEMU process and the statistics of its verdicts.
struct Court {
    judge: RefCell<Option<Judge>>,
    release: Release,
    blocks: Blocks,
    figures: RefCell<Figures>,
}

impl Court {
    /// Starts QEMU and reads its RAM blocks.
    fn new() -> Self {
        let mut judge = Judge::start();
        let mut forward = Forward::new(judge.precopy(), true);
        assert!(forward.read(Until::Eof), "the source closed the connection");
        forward.write(&plan::SHUT);
        forward.drain();
        judge.wait_over();
        Self {
            release: judge.release(),
            judge: RefCell::new(Some(judge)),
            blocks: forward.blocks(),
            figures: RefCell::default(),
        }
    }

    /// Compares both verdicts on a sequence. Panics if they differ without a note.
    fn hear(&self, plan: &Plan) {
        // Reuse the process only if its last migration ended cleanly.
        let mut judge = self.judge.take().unwrap_or_else(Judge::start);
        let stream = match plan.when {
            When::Postcopy => judge.postcopy(0),
            When::AtOnce | When::Precopy | When::Cut(_) => judge.precopy(),
        };
        let at_once = plan.when == When::AtOnce;
        let mut forward = Forward::new(stream, !at_once);
        if !at_once {
            assert!(forward.read(Until::Eof), "the source closed the connection");
            let switched = forward.decoder().is_running();
            assert_eq!(switched, plan.when == When::Postcopy);
        }
        let stage = match plan.when {
            When::Postcopy => Stage::Postcopy,
            When::AtOnce | When::Precopy | When::Cut(_) => Stage::Precopy,
        };
        let mut ours = Ours::new(&self.blocks, stage);
        ours.hear(&forward.sent);
        let mut bytes: Vec<u8> = plan
            .frames
            .iter()
            .flat_map(|frame| &frame.0)
            .copied()
            .collect();
        match plan.when {
            When::Cut(count) => bytes.truncate(bytes.len().saturating_sub(count)),
            _ => bytes.extend(plan::SHUT),
        }
        forward.write(&bytes);
        ours.hear(&bytes);
        let closed = matches!(plan.when, When::Cut(_));
        if closed {
            forward.close();
        }
        // QEMU may wait for more bytes; closing the return path ends its read.
        while !closed && ours.is_waiting() {
            forward.write(&[0; 64]);
            ours.hear(&[0; 64]);
        }
        if ours.has_refused() {
            forward.write(&[0; 1024]);
        }
        forward.drain();
        let theirs = judge.verdict();
        let ours = ours.finish(closed);
        self.note(&mut judge, &ours, &theirs);
        judge.wait_over();
        self.judge.replace(Some(judge));
    }

    /// Compares both verdicts on a recovery. Panics if they differ without a note.
    fn recover(&self, plan: &Recovery) {
        let mut judge = self.judge.take().unwrap_or_else(Judge::start);
        let mut forward = judge.recovery();
        let mut ours = Ours::new(&self.blocks, Stage::Recovery { sent: plan.sent });
        for frame in &plan.bitmaps {
            forward.write(&frame.0);
            ours.hear(&frame.0);
        }
        if forward.read(Until::Resumed) {
            for frame in &plan.resumed {
                forward.write(&frame.0);
                ours.hear(&frame.0);
            }
            if forward.read(Until::Eof) {
                forward.write(&plan::SHUT);
                ours.hear(&plan::SHUT);
            }
        }
        let theirs = judge.verdict();
        self.note(&mut judge, &ours.finish(false), &theirs);
        if theirs.end != End::Shut {
            // The migration waits indefinitely.
            return;
        }
        let pages = forward.pages.iter().filter(|(block, _)| plan.has(*block));
        let pages: BTreeSet<_> = pages.copied().collect();
        assert_eq!(
            pages,
            plan.missing(&self.blocks),
            "pages sent match the bitmaps"
        );
        forward.drain();
        judge.wait_over();
        self.judge.replace(Some(judge));
    }

    fn note(&self, judge: &mut Judge, ours: &Verdict, theirs: &Verdict) {
        let found = compare(ours, theirs, self.release);
        let difference = found.unwrap_or_else(|why| {
            let words = judge.words();
            let last: Vec<_> = words.lines().rev().take(2).collect();
            panic!("{why}\nretpath accepts\n{ours}\nQEMU accepts\n{theirs}\nQEMU's standard error: {last:?}")
        });
        let figures = &mut *self.figures.borrow_mut();
        figures.sequences += 1;
        figures.accepted += theirs.taken.len();
        let refused = usize::from(matches!(theirs.end, End::Refused(_)));
        figures.refused += refused;
        figures.messages += theirs.taken.len() + refused;
        if let Some(note) = difference {
            *figures.differences.entry(note).or_default() += 1;
        }
    }
}

/// Creates a runner whose cases are the same in every run.
fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 400,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let number = env::var("RETPATH_SEED").ok();
    let number = number.map_or(0, |text| text.parse().expect("RETPATH_SEED is a number"));
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&u64::to_le_bytes(number));
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

#[test]
#[ignore = "needs QEMU (qemu-system-x86_64, or RETPATH_QEMU); run by .ci/run"]
fn says_the_same_as_qemu() {
    let court = Court::new();
    let release = court.release;
    let plans = plans(&court.blocks);
    let judged = runner(SEQUENCES).run(&plans, |plan| {
        court.hear(&plan);
        Ok(())
    });
    judged.unwrap_or_else(|error| panic!("{error}"));
    let judged = runner(RECOVERIES).run(&recoveries(&court.blocks), |plan| {
        court.recover(&plan);
        Ok(())
    });
    judged.unwrap_or_else(|error| panic!("{error}"));
    let figures = court.figures.into_inner();
    println!("{figures}");
    assert!(figures.sequences >= 2000);
    for note in notes(release) {
        assert!(
            figures.differences.contains_key(&note),
            "difference never encountered: {note}"
        );
    }
}

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
#[path = "qemu_judge/engine_verdict.rs"]
mod engine_verdict;
#[path = "qemu_judge/forward.rs"]
mod forward;
#[path = "qemu_judge/judge.rs"]
mod judge;
#[path = "qemu_judge/qemu_verdict.rs"]
mod qemu_verdict;
#[path = "qemu_judge/recovery.rs"]
mod recovery;
#[path = "qemu_judge/sequence.rs"]
mod sequence;
#[path = "qemu_judge/verdict.rs"]
mod verdict;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use retpath_engine::blocks::Blocks;

use compare::{Release, compare, notes};
use engine_verdict::{EngineSource, Stage};
use forward::{Forward, Until};
use judge::Judge;
use recovery::{Recovery, recoveries};
use sequence::{Sequence, When, sequences};
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
struct Comparison {
    judge: RefCell<Option<Judge>>,
    release: Release,
    blocks: Blocks,
    figures: RefCell<Figures>,
}

impl Comparison {
    /// Starts QEMU and reads its RAM blocks.
    fn new() -> Self {
        let mut judge = Judge::start();
        let mut forward = Forward::new(judge.precopy(), true);
        assert!(forward.read(Until::Eof), "the source closed the connection");
        forward.write(&sequence::SHUT);
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
    fn compare_sequence(&self, sequence: &Sequence) {
        // Reuse the process only if its last migration ended cleanly.
        let mut judge = self.judge.take().unwrap_or_else(Judge::start);
        let stream = match sequence.when {
            When::Postcopy => judge.postcopy(0),
            When::AtOnce | When::Precopy | When::Cut(_) => judge.precopy(),
        };
        let at_once = sequence.when == When::AtOnce;
        let mut forward = Forward::new(stream, !at_once);
        if !at_once {
            assert!(forward.read(Until::Eof), "the source closed the connection");
            let switched = forward.decoder().is_running();
            assert_eq!(switched, sequence.when == When::Postcopy);
        }
        let stage = match sequence.when {
            When::Postcopy => Stage::Postcopy,
            When::AtOnce | When::Precopy | When::Cut(_) => Stage::Precopy,
        };
        let mut engine = EngineSource::new(&self.blocks, stage);
        engine.read(&forward.sent);
        let mut bytes: Vec<u8> = sequence
            .frames
            .iter()
            .flat_map(|frame| &frame.0)
            .copied()
            .collect();
        match sequence.when {
            When::Cut(count) => bytes.truncate(bytes.len().saturating_sub(count)),
            _ => bytes.extend(sequence::SHUT),
        }
        forward.write(&bytes);
        engine.read(&bytes);
        let closed = matches!(sequence.when, When::Cut(_));
        if closed {
            forward.close();
        }
        // QEMU may wait for more bytes; closing the return path ends its read.
        while !closed && engine.is_waiting() {
            forward.write(&[0; 64]);
            engine.read(&[0; 64]);
        }
        if engine.has_refused() {
            forward.write(&[0; 1024]);
        }
        forward.drain();
        let qemu = judge.verdict();
        let engine = engine.finish(closed);
        self.note(&mut judge, &engine, &qemu);
        judge.wait_over();
        self.judge.replace(Some(judge));
    }

    /// Compares both verdicts on a recovery. Panics if they differ without a note.
    fn compare_recovery(&self, recovery: &Recovery) {
        let mut judge = self.judge.take().unwrap_or_else(Judge::start);
        let mut forward = judge.recovery();
        let mut engine = EngineSource::new(
            &self.blocks,
            Stage::Recovery {
                sent: recovery.sent,
            },
        );
        for frame in &recovery.bitmaps {
            forward.write(&frame.0);
            engine.read(&frame.0);
        }
        if forward.read(Until::Resumed) {
            for frame in &recovery.resumed {
                forward.write(&frame.0);
                engine.read(&frame.0);
            }
            if forward.read(Until::Eof) {
                forward.write(&sequence::SHUT);
                engine.read(&sequence::SHUT);
            }
        }
        let qemu = judge.verdict();
        self.note(&mut judge, &engine.finish(false), &qemu);
        if qemu.end != End::Shut {
            // The migration waits indefinitely.
            return;
        }
        let pages = forward
            .pages
            .iter()
            .filter(|(block, _)| recovery.has(*block));
        let pages: BTreeSet<_> = pages.copied().collect();
        assert_eq!(
            pages,
            recovery.missing(&self.blocks),
            "pages sent match the bitmaps"
        );
        forward.drain();
        judge.wait_over();
        self.judge.replace(Some(judge));
    }

    fn note(&self, judge: &mut Judge, engine: &Verdict, qemu: &Verdict) {
        let found = compare(engine, qemu, self.release);
        let difference = found.unwrap_or_else(|why| {
            let words = judge.words();
            let last: Vec<_> = words.lines().rev().take(2).collect();
            panic!("{why}\nretpath accepts\n{engine}\nQEMU accepts\n{qemu}\nQEMU's standard error: {last:?}")
        });
        let figures = &mut *self.figures.borrow_mut();
        figures.sequences += 1;
        figures.accepted += qemu.taken.len();
        let refused = usize::from(matches!(qemu.end, End::Refused(_)));
        figures.refused += refused;
        figures.messages += qemu.taken.len() + refused;
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
fn agrees_with_qemu() {
    let comparison = Comparison::new();
    let release = comparison.release;
    let sequences = sequences(&comparison.blocks);
    let judged = runner(SEQUENCES).run(&sequences, |sequence| {
        comparison.compare_sequence(&sequence);
        Ok(())
    });
    judged.unwrap_or_else(|error| panic!("{error}"));
    let judged = runner(RECOVERIES).run(&recoveries(&comparison.blocks), |recovery| {
        comparison.compare_recovery(&recovery);
        Ok(())
    });
    judged.unwrap_or_else(|error| panic!("{error}"));
    let figures = comparison.figures.into_inner();
    println!("{figures}");
    assert!(figures.sequences >= 2000);
    for note in notes(release) {
        assert!(
            figures.differences.contains_key(&note),
            "difference never encountered: {note}"
        );
    }
}

//! The destination core against a model of it, call by call: long random
//! sequences of legal and illegal calls, and whole migrations with the link cut
//! anywhere. Every failure names its seed.

mod model;
mod pages;
mod twins;
mod walk;

use retpath_engine::Channel::{Main, Preempt};
use retpath_engine::destination::Phase;

use model::Op;
use twins::Twins;
use walk::Random;

/// Runs `test` with many seeds, and names the one that fails.
fn seeds(count: u64, test: impl Fn(&mut Random) + std::panic::RefUnwindSafe) {
    for seed in 0..count {
        let run = std::panic::catch_unwind(|| test(&mut Random(seed)));
        if let Err(panic) = run {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn agrees_with_the_model_on_every_sequence_of_calls() {
    seeds(200, |random| {
        let mut twins = Twins::new(random.one_in(2));
        if !random.one_in(4) {
            twins.switch(random);
        }
        for _ in 0..400 {
            let op = match random.below(10) {
                0 => twins.anything(random),
                1 => twins.likely(random, 2),
                _ => twins.legal(random, 4),
            };
            let _ = twins.step(op);
            if twins.model.phase == Phase::Failed && random.one_in(10) {
                break;
            }
        }
    });
}

#[test]
fn agrees_with_the_model_from_the_first_call_on() {
    seeds(1000, |random| {
        let mut twins = Twins::new(random.one_in(2));
        for _ in 0..60 {
            let mut op = twins.anything(random);
            // Mostly something that does not end it.
            for _ in 0..4 {
                let mut after = twins.model.clone();
                if after.apply(op).is_ok() && !after.phase.is_over() {
                    break;
                }
                op = twins.anything(random);
            }
            let _ = twins.step(op);
        }
    });
}

#[test]
fn finishes_every_migration_however_often_it_is_cut() {
    seeds(150, |random| {
        let mut twins = Twins::new(random.one_in(2));
        twins.switch(random);
        twins.finish(random, 3);
        assert_eq!(twins.core.pages().missing(), 0);
        assert_eq!(twins.core.stats().duplicates, 0);
        // The source may not have seen the end.
        twins.step(Op::LinkLost(Main)).unwrap();
        twins.step(Op::LinkRestored).unwrap();
        twins.finish(random, 3);
    });
}

#[test]
fn recovers_from_a_cut_after_every_call() {
    seeds(4, |random| {
        let start = random.0;
        let preempt = start % 2 == 0;
        let mut twins = Twins::new(preempt);
        twins.switch(random);
        let calls = twins.finish(random, 0);
        for cut in 0..=calls {
            let random = &mut Random(start);
            let mut twins = Twins::new(preempt);
            twins.switch(random);
            for _ in 0..cut {
                let op = twins.legal(random, 0);
                twins.step(op).unwrap();
            }
            twins.step(Op::LinkLost(Main)).unwrap();
            twins.step(Op::LinkLost(Preempt)).unwrap();
            twins.step(Op::LinkRestored).unwrap();
            twins.finish(random, 0);
        }
    });
}

//! The destination core against a model, call by call, and against hostile
//! sources: random sequences of legal and illegal calls, and whole migrations
//! with cut links. Every failure prints its seed.

use std::collections::HashSet;
use std::sync::Mutex;

use retpath_proptests::{Choices, destination};

/// Runs `test` with many seeds and prints the one that fails.
fn seeds(count: u64, test: impl Fn(&mut Choices<'_>) + std::panic::RefUnwindSafe) {
    for seed in 0..count {
        let run = std::panic::catch_unwind(|| test(&mut Choices::seeded(seed)));
        if let Err(panic) = run {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn agrees_with_the_model_on_every_sequence_of_calls() {
    seeds(200, destination::calls);
}

#[test]
fn agrees_with_the_model_from_the_first_call_on() {
    seeds(1000, destination::first_calls);
}

#[test]
fn finishes_every_migration_however_often_it_is_cut() {
    seeds(150, destination::migration);
}

#[test]
fn recovers_from_a_cut_after_every_call() {
    for seed in 0..4 {
        destination::every_cut(seed % 2 == 0, seed);
    }
}

#[test]
fn upholds_its_contract_under_arbitrary_calls_and_events() {
    let seen = Mutex::new(HashSet::new());
    seeds(3000, |choices| {
        let reached = destination::hostile(choices);
        seen.lock().expect("thread does not panic").extend(reached);
    });
    let seen = seen.into_inner().expect("thread does not panic");
    assert_eq!(seen.len(), 9, "only {seen:?} were reached");
}

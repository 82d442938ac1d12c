//! Both loops over simulated connections and in simulated time.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use retpath_proptests::Choices;
use retpath_proptests::config;
use retpath_proptests::drivers::{self, Outcome};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Runs a migration, one at a time: the allocator counts for the whole process.
fn bounded(run: impl FnOnce()) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    drivers::bounded(&ALLOCATED, run);
}

/// Runs many migrations. Each outcome must occur.
fn outcomes(run: fn(Choices<'_>) -> Outcome) {
    let mut ends = [0; 3];
    for seed in 0..1000 {
        let outcome = std::panic::catch_unwind(|| {
            let mut choices = Choices::seeded(seed);
            let bytes: Vec<u8> = (0..choices.below(600)).map(|_| choices.byte()).collect();
            let mut outcome = Outcome::Failed;
            bounded(|| outcome = run(Choices::from_bytes(&bytes)));
            outcome
        });
        match outcome {
            Ok(outcome) => ends[outcome as usize] += 1,
            Err(_) => panic!("failed with seed {seed}"),
        }
    }
    assert!(ends.iter().all(|count| *count > 50), "{ends:?}");
}

#[test]
fn receives_or_fails_cleanly_over_any_network() {
    outcomes(drivers::received);
}

#[test]
fn serves_or_fails_cleanly_over_any_network() {
    outcomes(drivers::served);
}

proptest! {
    #![proptest_config(config("proptest-regressions/drivers.txt"))]

    #[test]
    fn receives_or_fails_cleanly(bytes in vec(any::<u8>(), 0..600)) {
        bounded(|| drivers::receive(&bytes));
    }

    #[test]
    fn serves_or_fails_cleanly(bytes in vec(any::<u8>(), 0..600)) {
        bounded(|| drivers::serve(&bytes));
    }
}

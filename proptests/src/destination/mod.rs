//! Properties of the destination core: against a model, call by call, and
//! against a hostile source.

mod ending;
mod hostile;
mod model;
mod pages;
mod twins;
mod walk;

pub use self::hostile::hostile;

use self::model::{Op, Setup};
use self::twins::Twins;
use crate::choices::Choices;
use retpath_engine::Channel::{Main, Preempt};
use retpath_engine::destination::Phase;

/// Interprets `bytes` as a destination's lifetime: calls compared with the
/// model, or arbitrary calls with arbitrary values.
pub fn destination(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else {
        return;
    };
    let choices = &mut Choices::from_bytes(bytes);
    match mode % 4 {
        0 => calls(choices),
        1 => first_calls(choices),
        2 => migration(choices),
        _ => drop(hostile(choices)),
    }
}

/// Checks that core and model agree on legal and illegal calls, before and after
/// the switch.
pub fn calls(choices: &mut Choices<'_>) {
    let mut twins = Twins::new(setup(choices));
    let any = choices.one_in(4);
    if !any {
        twins.switch(choices);
    }
    for _ in 0..400 {
        let op = if any || choices.one_in(8) {
            twins.anything(choices)
        } else {
            twins.legal(choices, 64)
        };
        let _ = twins.step(op);
        let over = twins.model.phase == Phase::Failed && choices.one_in(10);
        if over || choices.is_empty() {
            break;
        }
    }
}

/// Checks that core and model agree from the first call on.
pub fn first_calls(choices: &mut Choices<'_>) {
    let mut twins = Twins::new(setup(choices));
    for _ in 0..60 {
        let mut op = twins.anything(choices);
        // Prefer calls that do not end the migration.
        for _ in 0..4 {
            let mut after = twins.model.clone();
            if after.apply(op).is_ok() && !after.phase.is_over() {
                break;
            }
            op = twins.anything(choices);
        }
        let _ = twins.step(op);
        if choices.is_empty() {
            break;
        }
    }
}

/// Checks that a migration finishes however often it is cut, and finishes again
/// if the source missed the end.
pub fn migration(choices: &mut Choices<'_>) {
    let mut twins = Twins::new(setup(choices));
    twins.switch(choices);
    twins.finish(choices, 48);
    assert_eq!(twins.core.pages().missing(), 0);
    assert_eq!(twins.core.stats().duplicates, 0);
    let lost = twins.step(Op::LinkLost(Main));
    assert_eq!(lost, Ok(()));
    let restored = twins.step(Op::LinkRestored);
    assert_eq!(restored, Ok(()));
    twins.finish(choices, 48);
}

/// Checks that the same migration recovers from a cut after each of its calls.
pub fn every_cut(preempt: bool, seed: u64) {
    let migration = || {
        let mut choices = Choices::seeded(seed);
        let confirm = seed.is_multiple_of(3);
        let mut twins = Twins::new(Setup { preempt, confirm });
        twins.switch(&mut choices);
        (twins, choices)
    };
    let (mut twins, mut choices) = migration();
    let calls = twins.finish(&mut choices, 0);
    for cut in 0..=calls {
        let (mut twins, mut choices) = migration();
        for _ in 0..cut {
            let op = twins.legal(&mut choices, 0);
            assert_eq!(twins.step(op), Ok(()));
        }
        for op in [Op::LinkLost(Main), Op::LinkLost(Preempt), Op::LinkRestored] {
            assert_eq!(twins.step(op), Ok(()), "cut after {cut} calls");
        }
        twins.finish(&mut choices, 0);
    }
}

fn setup(choices: &mut Choices<'_>) -> Setup {
    Setup {
        preempt: choices.one_in(2),
        confirm: choices.one_in(2),
    }
}

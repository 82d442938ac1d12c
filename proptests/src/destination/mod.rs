//! Properties of the destination core: against a model, call by call, and
//! against a hostile source.

mod ending;
mod generate;
mod hostile;
mod lockstep;
mod model;
mod pages;

pub use self::hostile::hostile;

use self::lockstep::Lockstep;
use self::model::{Op, Setup};
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
    let mut lockstep = Lockstep::new(setup(choices));
    let any = choices.one_in(4);
    if !any {
        lockstep.switch(choices);
    }
    for _ in 0..400 {
        let op = if any || choices.one_in(8) {
            lockstep.any_call(choices)
        } else {
            lockstep.legal_call(choices, 64)
        };
        let _ = lockstep.step(op);
        let over = lockstep.model.phase == Phase::Failed && choices.one_in(10);
        if over || choices.is_empty() {
            break;
        }
    }
}

/// Checks that core and model agree from the first call on.
pub fn first_calls(choices: &mut Choices<'_>) {
    let mut lockstep = Lockstep::new(setup(choices));
    for _ in 0..60 {
        let mut op = lockstep.any_call(choices);
        // Prefer calls that do not end the migration.
        for _ in 0..4 {
            let mut after = lockstep.model.clone();
            if after.apply(op).is_ok() && !after.phase.is_over() {
                break;
            }
            op = lockstep.any_call(choices);
        }
        let _ = lockstep.step(op);
        if choices.is_empty() {
            break;
        }
    }
}

/// Checks that a migration finishes however often it is cut, and finishes again
/// if the source missed the end.
pub fn migration(choices: &mut Choices<'_>) {
    let mut lockstep = Lockstep::new(setup(choices));
    lockstep.switch(choices);
    lockstep.finish(choices, 48);
    assert_eq!(lockstep.core.pages().missing(), 0);
    assert_eq!(lockstep.core.stats().duplicates, 0);
    let lost = lockstep.step(Op::LinkLost(Main));
    assert_eq!(lost, Ok(()));
    let restored = lockstep.step(Op::LinkRestored);
    assert_eq!(restored, Ok(()));
    lockstep.finish(choices, 48);
}

/// Checks that the same migration recovers from a cut after each of its calls.
pub fn every_cut(preempt: bool, seed: u64) {
    let migration = || {
        let mut choices = Choices::seeded(seed);
        let confirm = seed.is_multiple_of(3);
        let mut lockstep = Lockstep::new(Setup { preempt, confirm });
        lockstep.switch(&mut choices);
        (lockstep, choices)
    };
    let (mut lockstep, mut choices) = migration();
    let calls = lockstep.finish(&mut choices, 0);
    for cut in 0..=calls {
        let (mut lockstep, mut choices) = migration();
        for _ in 0..cut {
            let op = lockstep.legal_call(&mut choices, 0);
            assert_eq!(lockstep.step(op), Ok(()));
        }
        for op in [Op::LinkLost(Main), Op::LinkLost(Preempt), Op::LinkRestored] {
            assert_eq!(lockstep.step(op), Ok(()), "cut after {cut} calls");
        }
        lockstep.finish(&mut choices, 0);
    }
}

fn setup(choices: &mut Choices<'_>) -> Setup {
    Setup {
        preempt: choices.one_in(2),
        confirm: choices.one_in(2),
    }
}

//! The destination core: against a model of it, call by call, and against a
//! source that keeps no rule at all.

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

/// The bytes are a destination's life: calls that are compared with the model,
/// or calls of any kind with any values.
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

/// The core and the model agree on legal and illegal calls, before and after
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

/// The core and the model agree from the first call on.
pub fn first_calls(choices: &mut Choices<'_>) {
    let mut twins = Twins::new(setup(choices));
    for _ in 0..60 {
        let mut op = twins.anything(choices);
        // Mostly something that does not end it.
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

/// A migration finishes, however often it is cut, and once more if the source
/// has not seen the end.
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

/// The same migration recovers from a cut after each of its calls.
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

//! The source core against hostile destinations.

use std::collections::HashSet;

use retpath_proptests::{Choices, source};

#[test]
fn upholds_its_contract_under_arbitrary_calls_and_messages() {
    let mut seen = HashSet::new();
    for seed in 0..2000 {
        let run = std::panic::catch_unwind(|| source::hostile(&mut Choices::seeded(seed)));
        match run {
            Ok(reached) => seen.extend(reached),
            Err(_) => panic!("failed with seed {seed}"),
        }
    }
    assert_eq!(seen.len(), 10, "only {seen:?} were reached");
}

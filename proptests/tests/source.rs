//! The source core against destinations without any rule.

use std::collections::HashSet;

use retpath_proptests::{Choices, source};

#[test]
fn keeps_its_promises_whatever_the_destination_and_the_caller_do() {
    let mut seen = HashSet::new();
    for seed in 0..2000 {
        let run = std::panic::catch_unwind(|| source::hostile(&mut Choices::seeded(seed)));
        match run {
            Ok(reached) => seen.extend(reached),
            Err(_) => panic!("the seed is {seed}"),
        }
    }
    assert_eq!(seen.len(), 10, "only {seen:?} were reached");
}

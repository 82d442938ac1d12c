//! `receive(serve(x)) == x` for any guest memory, any source configuration and
//! any link behaviour.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use retpath_proptests::config;
use retpath_proptests::guest::{Migration, Step, setups, steps};
use retpath_proptests::link::{Outcome, Setup};

const KEPT: &str = "proptest-regressions/migrations.txt";

/// Runs a migration, which compares the memories, and returns its outcome.
fn outcome(setup: &Setup, steps: &[Step]) -> Outcome {
    Migration::new(setup, ()).run(steps)
}

proptest! {
    #![proptest_config(config(KEPT))]

    #[test]
    fn receives_what_is_served(setup in setups(), steps in steps(false)) {
        prop_assert_eq!(outcome(&setup, &steps), Outcome::Done);
    }
}

#[test]
fn receives_what_is_served_over_broken_links() {
    let config = config(KEPT);
    let cases = config.cases;
    let ends = RefCell::new(BTreeMap::new());
    let migrations = (setups(), steps(true));
    let run = TestRunner::new(config).run(&migrations, |(setup, steps)| {
        let outcome = outcome(&setup, &steps);
        let cut = steps.iter().any(|step| matches!(step, Step::Cut));
        prop_assert!(cut || outcome == Outcome::Done, "{outcome:?}");
        *ends.borrow_mut().entry(format!("{outcome:?}")).or_insert(0) += 1;
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    // Each outcome is that of at least a sixth of the cases; a short run may miss one.
    let ends = ends.into_inner();
    assert!(cases < 100 || ends.len() == 3, "{ends:?}");
}

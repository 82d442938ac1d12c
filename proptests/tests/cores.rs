//! Both cores against their models: for legal and illegal events in any order, a
//! core does what the model predicts or refuses the call.

use proptest::collection::vec;
use proptest::prelude::*;
use retpath_proptests::config;
use retpath_proptests::{Choices, destination, source};

/// Generates the input of [`Choices`].
fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..100), vec(any::<u8>(), 0..4000)]
}

proptest! {
    #![proptest_config(config("proptest-regressions/cores.txt"))]

    #[test]
    fn destination_matches_its_model(bytes in choices()) {
        destination::calls(&mut Choices::from_bytes(&bytes));
    }

    #[test]
    fn destination_matches_its_model_from_the_first_call(bytes in choices()) {
        destination::first_calls(&mut Choices::from_bytes(&bytes));
    }

    #[test]
    fn destination_finishes_migrations_with_cuts(bytes in choices()) {
        destination::migration(&mut Choices::from_bytes(&bytes));
    }

    #[test]
    fn destination_withstands_hostile_sources(bytes in choices()) {
        destination::hostile(&mut Choices::from_bytes(&bytes));
    }

    #[test]
    fn source_matches_its_model(bytes in choices()) {
        source::migration(&mut Choices::from_bytes(&bytes));
    }

    #[test]
    fn source_withstands_hostile_destinations(bytes in choices()) {
        source::hostile(&mut Choices::from_bytes(&bytes));
    }
}

//! The source core against a simple model of a destination.

mod accounts;
mod bitmaps;
mod bytes;
mod floods;
mod order;
mod probe;
mod recovery;
mod refusals;
mod service;
mod switch;
mod unplugged;
mod words;

use retpath_proptests::Choices;
use retpath_proptests::source;

#[test]
fn agrees_with_the_model_in_random_migrations() {
    for seed in 0..60 {
        let run = || source::migration(&mut Choices::seeded(seed));
        assert!(std::panic::catch_unwind(run).is_ok(), "seed {seed}");
    }
}

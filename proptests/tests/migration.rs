//! Both cores over a link that splits, delays and breaks the streams.

use retpath_proptests::{Choices, link};

#[test]
fn completes_or_fails_cleanly_over_any_link() {
    let mut ends = [0; 3];
    for seed in 0..400 {
        let run = std::panic::catch_unwind(|| link::migration(&mut Choices::seeded(seed)));
        match run {
            Ok(outcome) => ends[outcome as usize] += 1,
            Err(_) => panic!("failed with seed {seed}"),
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

//! Both cores, joined: whatever the link does, the memory arrives.

use retpath_proptests::{Choices, link};

#[test]
fn arrives_or_stays_in_one_piece_whatever_the_link_does() {
    let mut ends = [0; 3];
    for seed in 0..400 {
        let run = std::panic::catch_unwind(|| link::migration(&mut Choices::seeded(seed)));
        match run {
            Ok(outcome) => ends[outcome as usize] += 1,
            Err(_) => panic!("the seed is {seed}"),
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

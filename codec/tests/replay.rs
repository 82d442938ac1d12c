//! Replays the files of `corpus/` through the fuzz targets that read them.

#[path = "../../corpus/files.rs"]
mod files;
#[path = "../../corpus/readers.rs"]
mod readers;

use std::collections::BTreeSet;
use std::path::Path;

use retpath_codec::check::target;
use retpath_random::Random;

use files::{corpus, folders, replay};
use readers::{CODEC, ENGINE, READERS};

#[test]
fn return_path() {
    replay("return_path", target::return_path);
}

#[test]
fn round_trip() {
    replay("round_trip", target::round_trip);
}

#[test]
fn split() {
    replay("split", target::split);
}

#[test]
fn oracle() {
    replay("oracle", target::oracle);
}

#[test]
fn forward() {
    replay("forward", target::forward);
}

#[test]
fn targets_accept_any_bytes() {
    let mut random = Random::new(1);
    for len in 0..400 {
        let bytes = random.bytes(len);
        target::return_path(&bytes);
        target::round_trip(&bytes);
        target::split(&bytes);
        target::oracle(&bytes);
        target::forward(&bytes);
    }
}

#[test]
fn has_a_reader_for_every_folder() {
    let read: BTreeSet<String> = READERS.iter().map(|(folder, _)| (*folder).into()).collect();
    assert_eq!(read, folders());
}

#[test]
fn replays_every_fuzz_target() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let found: BTreeSet<String> = files::entries(&targets)
        .into_iter()
        .map(|file| file.trim_end_matches(".rs").to_owned())
        .collect();
    let known: BTreeSet<String> = CODEC.iter().chain(ENGINE).map(|t| (*t).into()).collect();
    assert_eq!(known, found);
    let used: BTreeSet<String> = READERS
        .iter()
        .flat_map(|(folder, targets)| {
            assert!(!targets.is_empty(), "no target reads {folder}");
            targets.iter().map(|target| (*target).to_owned())
        })
        .collect();
    assert!(used.is_subset(&known), "{used:?}");
    assert!(corpus().join("README.md").is_file());
}

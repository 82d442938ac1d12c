//! Every file of `corpus/` through the codec's fuzz targets that read it.

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
fn walker() {
    replay("walker", target::walker);
}

#[test]
fn forward() {
    replay("forward", target::forward);
}

#[test]
fn targets_take_any_bytes() {
    let mut random = Random::new(1);
    for len in 0..400 {
        let bytes = random.bytes(len);
        target::return_path(&bytes);
        target::round_trip(&bytes);
        target::split(&bytes);
        target::walker(&bytes);
        target::forward(&bytes);
    }
}

#[test]
fn leaves_no_folder_without_a_reader() {
    let read: BTreeSet<String> = READERS.iter().map(|(folder, _)| (*folder).into()).collect();
    assert_eq!(read, folders());
}

#[test]
fn knows_every_fuzz_target() {
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
            assert!(!targets.is_empty(), "{folder} is read by nobody");
            targets.iter().map(|target| (*target).to_owned())
        })
        .collect();
    assert!(used.is_subset(&known), "{used:?}");
    assert!(corpus().join("README.md").is_file());
}

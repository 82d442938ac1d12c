// Reads the corpus for the replay tests of the codec and of the engine.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::readers::READERS;

pub(crate) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

/// Runs a target on every file that it replays, and names the file on which it
/// fails.
pub(crate) fn replay(target: &str, body: fn(&[u8])) {
    let mut count = 0;
    for (folder, _) in READERS
        .iter()
        .filter(|(_, targets)| targets.contains(&target))
    {
        let folder = corpus().join(folder);
        for name in entries(&folder).iter().filter(|name| is_input(name)) {
            let path = folder.join(name);
            let bytes = bytes(&path);
            let run = std::panic::catch_unwind(|| body(&bytes));
            assert!(run.is_ok(), "{target} fails on {}", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "{target} has no file to replay");
}

/// Returns the paths of all folders of the corpus that contain inputs.
pub(crate) fn folders() -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    let mut left = vec![String::new()];
    while let Some(folder) = left.pop() {
        for name in entries(&corpus().join(&folder)) {
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            if corpus().join(&path).is_dir() {
                left.push(path);
            } else if is_input(&name) {
                folders.insert(folder.clone());
            }
        }
    }
    folders
}

/// Whether a file is an input of a target.
fn is_input(name: &str) -> bool {
    !name.ends_with(".expect") && !name.ends_with(".md") && !name.ends_with(".rs")
}

/// Returns the names in a folder, sorted.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("folder is readable").file_name());
    let mut names: Vec<String> = entries
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Returns the content of a file, decompressed.
fn bytes(path: &Path) -> Vec<u8> {
    let packed = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_none_or(|ending| ending != "gz") {
        return packed;
    }
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes
}

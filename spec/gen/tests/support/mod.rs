//! Shared by the tests of the generator.

#![allow(dead_code)] // Each test uses a part of it.

pub(crate) mod pcap;
pub(crate) mod reading;
pub(crate) mod tshark;

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

/// The recorded return paths that are not empty: name and bytes, in order.
pub(crate) fn recordings() -> Vec<(String, Vec<u8>)> {
    return_paths("corpus/capture")
}

/// The files of a folder that end in `.rp`: name and bytes, in order.
pub(crate) fn return_paths(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rp"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder} holds no return path");
    found
}

/// A path for a temporary file.
pub(crate) fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

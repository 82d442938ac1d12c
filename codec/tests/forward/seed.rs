//! The seed corpus, which the oracle has written.

use std::fs;
use std::path::Path;

use retpath_codec::forward::{Decoder, Options};

use crate::kit::{drain, fresh};

/// The files of one folder, in order of their names.
fn seeds(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus/seed")
        .join(folder);
    let mut seeds: Vec<(String, Vec<u8>)> = fs::read_dir(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    seeds
}

/// Decodes a complete channel and encodes it again.
fn same(name: &str, mut decoder: Decoder, bytes: &[u8]) {
    let mut written = Vec::new();
    let left = drain(&mut decoder, bytes, |decoder, _, event| {
        event.encode(decoder.blocks(), &mut written).unwrap();
    })
    .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(left, b"", "{name}");
    decoder
        .finish(left)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(written == bytes, "{name}");
}

#[test]
fn round_trips_complete_streams() {
    for (name, bytes) in seeds("forward") {
        // The first channel of this migration is not a seed.
        let decoder = match name.as_str() {
            "resumed.fwd" => Decoder::blind_resumed(Options::default()),
            _ => fresh(),
        };
        same(&name, decoder, &bytes);
    }
}

#[test]
fn round_trips_preempt_channels() {
    for (name, bytes) in seeds("ram") {
        if name.starts_with("preempt") {
            same(&name, Decoder::blind_preempt(Options::default()), &bytes);
        }
    }
}

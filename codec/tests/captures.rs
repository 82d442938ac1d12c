//! Recorded return paths of real migrations decode and encode to the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::stream::{ItemBuf, Stream};
use retpath_codec::{Encode, Message, NameBuf, Qemu, check};

/// Maximum size of the bitmaps of these guests of 16 MiB, in bytes.
const LIMIT: u64 = 512;

/// The contents of a recording, counted without this codec.
struct Expected {
    file: &'static str,
    /// PONG, REQ_PAGES_ID, REQ_PAGES, RECV_BITMAP, RESUME_ACK, SHUT.
    counts: [usize; 6],
    /// Received pages, in the order of the bitmaps.
    received: &'static [u64],
}

const fn plain(file: &'static str, requests: usize) -> Expected {
    Expected {
        file,
        counts: [4, 1, requests, 0, 0, 1],
        received: &[],
    }
}

/// The first connection of a migration that was interrupted.
const fn cut(file: &'static str) -> Expected {
    Expected {
        file,
        counts: [4, 1, 10, 0, 0, 0],
        received: &[],
    }
}

const fn recovered(file: &'static str, requests: usize, received: &'static [u64]) -> Expected {
    Expected {
        file,
        counts: [0, 1, requests, 6, 1, 1],
        received,
    }
}

const EXPECTED: &[Expected] = &[
    plain("qemu-10.0-plain.ch0.rp", 41),
    plain("qemu-10.0-preempt.ch0.rp", 1217),
    cut("qemu-10.0-recover.ch0.rp"),
    recovered("qemu-10.0-recover.ch1.rp", 33, &[544, 0, 0, 0, 0, 0]),
    plain("qemu-7.2-plain.ch0.rp", 56),
    plain("qemu-7.2-preempt.ch0.rp", 74),
    cut("qemu-7.2-recover.ch0.rp"),
    recovered("qemu-7.2-recover.ch1.rp", 43, &[2948, 0, 0, 0, 0, 0]),
];

const LABELS: [&str; 6] = [
    "PONG",
    "REQ_PAGES_ID",
    "REQ_PAGES",
    "RECV_BITMAP",
    "RESUME_ACK",
    "SHUT",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/capture")
}

fn capture(file: &str) -> Vec<u8> {
    let path = folder().join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn items(bytes: &[u8]) -> Vec<ItemBuf<Message<NameBuf>>> {
    let mut stream = Stream::<Qemu>::new(LIMIT);
    let mut input = bytes;
    let mut items = Vec::new();
    while let Some(item) = stream.next_owned(&mut input).expect("a recording is valid") {
        items.push(item);
    }
    stream.finish().expect("a recording is whole");
    items
}

#[test]
fn reads_every_recorded_return_path() {
    let mut files: Vec<String> = fs::read_dir(folder())
        .expect("the recordings are there")
        .map(|entry| {
            entry
                .expect("can be listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".rp"))
        .collect();
    files.sort();
    let expected: Vec<&str> = EXPECTED.iter().map(|expected| expected.file).collect();
    assert_eq!(files, expected);
}

#[test]
fn decodes_every_byte() {
    for expected in EXPECTED {
        let bytes = capture(expected.file);
        let mut counts = BTreeMap::new();
        let mut received = Vec::new();
        for item in items(&bytes) {
            match item {
                ItemBuf::Message { message, .. } => {
                    *counts.entry(message.label()).or_default() += 1
                }
                ItemBuf::Bitmap { bytes, .. } => received.push(Bitmap::new(&bytes).received()),
            }
        }
        let wanted: BTreeMap<&str, usize> = LABELS
            .into_iter()
            .zip(expected.counts)
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counts, wanted, "{}", expected.file);
        assert_eq!(received, expected.received, "{}", expected.file);
    }
}

#[test]
fn encodes_every_byte_again() {
    for expected in EXPECTED {
        let bytes = capture(expected.file);
        let mut out = Vec::new();
        for item in items(&bytes) {
            let (ItemBuf::Message { offset, .. } | ItemBuf::Bitmap { offset, .. }) = item;
            assert_eq!(usize::try_from(offset), Ok(out.len()), "{}", expected.file);
            match item {
                ItemBuf::Message { message, .. } => message.encode(&mut out).expect("was decoded"),
                ItemBuf::Bitmap { bytes, .. } => {
                    bitmap::encode(Bitmap::new(&bytes), &mut out).expect("was decoded");
                }
            }
        }
        assert_eq!(out, bytes, "{}", expected.file);
    }
}

#[test]
fn holds_all_properties() {
    for expected in EXPECTED {
        let bytes = capture(expected.file);
        for size in [1, 3, 7, 16, 64, 1000] {
            let pieces = std::iter::repeat_n(size, bytes.len() / size);
            check::split::<Qemu>(&bytes, LIMIT, pieces);
        }
        check::stream::<Qemu>(&bytes, LIMIT, [bytes.len() / 2]);
    }
}

//! `corpus/malformed`: one defect a file, named after the rule it breaks, with
//! the error that it must cause beside it.
//!
//! The files are written by hand, as hexadecimal digits in `frames.rs` and as
//! pieces of a stream in `channels`. After a change there,
//! `cargo test -p retpath-codec --test malformed -- --ignored` writes them; the
//! errors in the `.expect` files are to be read before they are committed.

#[path = "../forward/kit.rs"]
#[allow(dead_code, reason = "the forward tests use all of it")]
mod kit;
#[path = "../samples/mod.rs"]
mod samples;

mod channels;
mod frames;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use retpath_codec::command::Commands;
use retpath_codec::forward::{Decoder, Options, Step};
use retpath_codec::stream::Stream;
use retpath_codec::{DecodeError, Decoded, Dialect, NameBuf, Qemu, Rule, V7, decode};
use retpath_spec::oracle;

/// What a file of the corpus must be: folder, name and contents.
pub(crate) struct Malformed {
    pub(crate) folder: &'static str,
    /// A rule's name, and what else tells it from others that break the rule.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Largest bitmap in bytes that these return paths may have.
const LIMIT: u64 = 4096;

/// Rules that no file can break.
const UNREACHABLE: &[(&str, &str)] = &[
    ("bitmap-mismatch", "needs the block that the bitmap is of"),
    ("bitmap-tail", "needs the block that the bitmap is of"),
    ("host-page", "is about the caller's options"),
    ("name-too-long", "cannot be told in one byte"),
    ("no-room", "is about the caller's slice"),
    ("odd", "the bit that would be wrong means something else"),
];

/// Rules that a peer need not have broken: limits of this reader, streams that
/// merely end, and what only some readers can read.
const NOT_THE_PEERS: [&str; 5] = [
    "bitmap-limit",
    "cut-short",
    "limit",
    "mapped-ram",
    "unskippable",
];

/// Every rule there is, from the only place that names them all.
fn rules() -> BTreeSet<&'static str> {
    let source = include_str!("../../src/rule.rs");
    let arms = source.lines().filter_map(|line| line.split_once("=> \""));
    arms.filter_map(|(_, rest)| rest.split('"').next())
        .collect()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/malformed")
}

fn ending(folder: &str) -> &'static str {
    match folder {
        "qemu" | "v7" => "rp",
        "command" => "cmd",
        "forward" | "resumed" => "fwd",
        "preempt" => "ram",
        other => panic!("no reader for the folder {other}"),
    }
}

/// The error that the bytes of a folder's file cause.
fn error(folder: &str, bytes: &[u8]) -> DecodeError {
    let options = Options {
        page_sizes: vec![(NameBuf::new("hugemem").expect("a name"), 2 << 20)],
        ..Options::default()
    };
    match folder {
        "qemu" => path_error::<Qemu>(bytes),
        "v7" => path_error::<V7>(bytes),
        "command" => match decode::<Commands>(bytes) {
            Err(error) => error,
            Ok(Decoded::Message { message, .. }) => panic!("takes {message:?}"),
            Ok(Decoded::Need(need)) => panic!("waits for {need} bytes"),
        },
        "forward" => channel_error(Decoder::new(options), bytes),
        "resumed" => channel_error(Decoder::blind_resumed(options), bytes),
        "preempt" => channel_error(Decoder::blind_preempt(options), bytes),
        other => panic!("no reader for the folder {other}"),
    }
}

fn path_error<D: Dialect>(mut bytes: &[u8]) -> DecodeError {
    let mut stream = Stream::<D>::new(LIMIT);
    loop {
        match stream.next(&mut bytes) {
            Ok(Some(_)) => {}
            Ok(None) => return stream.finish().expect_err("is malformed"),
            Err(error) => return error,
        }
    }
}

fn channel_error(mut decoder: Decoder, mut bytes: &[u8]) -> DecodeError {
    loop {
        match decoder.next(bytes) {
            Ok(Step::Event { size, .. }) => bytes = &bytes[size..],
            Ok(Step::Need(_)) => return decoder.finish(bytes).expect_err("is malformed"),
            Err(error) => return error,
        }
    }
}

fn all() -> Vec<Malformed> {
    let mut all = frames::all();
    all.extend(channels::all());
    all
}

/// The files as they are: bytes and expected error, by folder and name.
fn files() -> BTreeMap<(String, String), (Vec<u8>, String)> {
    let mut files = BTreeMap::new();
    for folder in entries(&corpus()) {
        let at = corpus().join(&folder);
        for file in entries(&at)
            .iter()
            .filter(|file| !file.ends_with(".expect"))
        {
            let bytes = fs::read(at.join(file)).expect("can be read");
            let expect = at.join(file).with_extension("expect");
            let expect = fs::read_to_string(&expect)
                .unwrap_or_else(|error| panic!("{}: {error}", expect.display()));
            files.insert((folder.clone(), file.clone()), (bytes, expect));
        }
    }
    files
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("can be listed").file_name());
    entries
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn refuses_every_file_as_it_is_expected_to() {
    let files = files();
    assert!(files.len() > 100);
    for ((folder, file), (bytes, expect)) in &files {
        let error = error(folder, bytes);
        assert_eq!(format!("{error}\n"), *expect, "{folder}/{file}");
        let stem = file.strip_suffix(&format!(".{}", ending(folder)));
        let stem = stem.unwrap_or_else(|| panic!("{folder}/{file} ends wrongly"));
        let rule = error.rule.name();
        let named = stem
            .strip_prefix(rule)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        assert!(named, "{folder}/{file} breaks {rule}");
        let peers = !NOT_THE_PEERS.contains(&rule);
        assert_eq!(error.is_peer_fault(), peers, "{folder}/{file}");
    }
}

#[test]
fn leaves_no_expectation_without_its_file() {
    let known = files();
    for folder in entries(&corpus()) {
        for file in entries(&corpus().join(&folder)) {
            if let Some(stem) = file.strip_suffix(".expect") {
                let file = format!("{stem}.{}", ending(&folder));
                assert!(
                    known.contains_key(&(folder.clone(), file)),
                    "{folder}/{stem}"
                );
            }
        }
    }
}

#[test]
fn has_a_file_for_every_rule_that_bytes_can_break() {
    let broken: BTreeSet<&str> = files()
        .into_iter()
        .map(|((folder, _), (bytes, _))| error(&folder, &bytes).rule.name())
        .collect();
    let unreachable: BTreeSet<&str> = UNREACHABLE.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(broken.intersection(&unreachable).next(), None);
    let known: BTreeSet<&str> = broken.union(&unreachable).copied().collect();
    let rules = rules();
    assert!(rules.contains(Rule::NoBlock.name()) && rules.len() > 50);
    assert_eq!(known, rules);
}

#[test]
fn breaks_every_rule_of_a_frame_that_the_walker_knows_and_no_other() {
    let frames = ["qemu", "v7", "command"];
    let files = files().into_iter();
    let broken: BTreeSet<&str> = files
        .filter(|((folder, _), _)| frames.contains(&folder.as_str()))
        .map(|((folder, _), (bytes, _))| error(&folder, &bytes).rule.name())
        // Of trailers and of the stream, which are no business of the walker.
        .filter(|rule| !rule.starts_with("bitmap-") && !["after-shut", "cut-short"].contains(rule))
        .collect();
    assert_eq!(broken, oracle::RULES.iter().copied().collect());
}

#[test]
fn has_every_file_that_is_described_and_no_other() {
    let described: BTreeMap<(String, String), Vec<u8>> = all()
        .into_iter()
        .map(|made| {
            let file = format!("{}.{}", made.name, ending(made.folder));
            ((made.folder.to_owned(), file), made.bytes)
        })
        .collect();
    assert_eq!(described.len(), all().len(), "two files have the same name");
    let files: BTreeMap<_, _> = files()
        .into_iter()
        .map(|(file, (bytes, _))| (file, bytes))
        .collect();
    let names = |files: &BTreeMap<(String, String), Vec<u8>>| {
        files.keys().cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&files), names(&described));
    for (file, bytes) in &files {
        assert!(described[file] == *bytes, "{file:?}");
    }
}

#[test]
#[ignore = "writes corpus/malformed"]
fn writes_the_files() {
    for made in all() {
        let folder = corpus().join(made.folder);
        fs::create_dir_all(&folder).expect("can be made");
        let file = folder.join(format!("{}.{}", made.name, ending(made.folder)));
        fs::write(&file, &made.bytes).expect("can be written");
        let error = error(made.folder, &made.bytes);
        fs::write(file.with_extension("expect"), format!("{error}\n")).expect("can be written");
    }
}

//! `corpus/malformed`: each file has one defect, is named after the rule that it
//! breaks, and has the expected error beside it.
//!
//! The files are defined in `frames.rs` and `channels`. After a change,
//! `cargo test -p retpath-codec --test malformed -- --ignored` writes them; review
//! the errors in the `.expect` files before committing them.

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
use retpath_codec::forward::{self, Decoder, Options};
use retpath_codec::stream::Stream;
use retpath_codec::{DecodeError, Decoded, Dialect, NameBuf, Qemu, Rule, V7, decode};
use retpath_spec::oracle;

/// A file of the corpus: folder, name and contents.
pub(crate) struct Malformed {
    pub(crate) folder: &'static str,
    /// Name of the rule, and a suffix that distinguishes the file from others.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Maximum size of the bitmaps in these return paths, in bytes.
const LIMIT: u64 = 4096;

/// Rules that no file can break.
const UNREACHABLE: &[(&str, &str)] = &[
    ("bitmap-mismatch", "needs the block that the bitmap is of"),
    ("bitmap-tail", "needs the block that the bitmap is of"),
    ("host-page", "is about the caller's options"),
    ("name-too-long", "does not fit its length field"),
    ("no-room", "is about the caller's slice"),
    ("odd", "the bit that would be wrong means something else"),
];

/// Rules that are not protocol violations: limits of the reader, truncated streams,
/// unsupported streams.
const NOT_THE_PEERS: [&str; 5] = [
    "bitmap-limit",
    "cut-short",
    "limit",
    "mapped-ram",
    "unskippable",
];

/// All rules, from the source that lists them.
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

/// Returns the error that the bytes of a file cause.
fn error(folder: &str, bytes: &[u8]) -> DecodeError {
    let options =
        Options::default().page_sizes(vec![(NameBuf::new("hugemem").expect("a name"), 2 << 20)]);
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
            Ok(forward::Decoded::Event { size, .. }) => bytes = &bytes[size..],
            Ok(forward::Decoded::Need(_)) => {
                return decoder.finish(bytes).expect_err("is malformed");
            }
            Err(error) => return error,
        }
    }
}

fn all() -> Vec<Malformed> {
    let mut all = frames::all();
    all.extend(channels::all());
    all
}

/// The existing files: bytes and expected error, by folder and name.
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
fn refuses_every_file_with_the_expected_error() {
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
fn has_a_file_for_every_expectation() {
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
fn has_a_file_for_every_rule_that_input_can_break() {
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
fn covers_exactly_the_frame_rules_of_the_oracle() {
    let frames = ["qemu", "v7", "command"];
    let files = files().into_iter();
    let broken: BTreeSet<&str> = files
        .filter(|((folder, _), _)| frames.contains(&folder.as_str()))
        .map(|((folder, _), (bytes, _))| error(&folder, &bytes).rule.name())
        // Rules of trailers and streams, which the oracle does not have.
        .filter(|rule| !rule.starts_with("bitmap-") && !["after-shut", "cut-short"].contains(rule))
        .collect();
    assert_eq!(broken, oracle::RULES.iter().copied().collect());
}

#[test]
fn has_exactly_the_described_files() {
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

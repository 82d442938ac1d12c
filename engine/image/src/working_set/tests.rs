//! Layout, invalid bytes, and files.

use std::os::unix::fs::symlink;

use retpath_codec::NameBuf;
use retpath_engine::blocks::Block;
use tempfile::TempDir;

use super::*;

fn blocks() -> Blocks {
    let mut blocks = Blocks::new(4096).expect("valid page size");
    for (name, pages, page) in [("pc.ram", 1000, 4096), ("rom", 4, 4096), ("huge", 3, 65536)] {
        let (name, len) = (NameBuf::new(name).expect("valid name"), pages * page);
        let block = Block { name, len, page };
        blocks.add(block).expect("valid block");
    }
    blocks
}

fn id() -> Digest {
    Digest::of(b"an image")
}

fn span(block: usize, first: u64, pages: u64) -> Span {
    let page = if block == 2 { 65536 } else { 4096 };
    let (offset, len) = (first * page, pages * page);
    Span { block, offset, len }
}

fn set(spans: &[Span]) -> WorkingSet {
    let order = spans.into();
    WorkingSet { order }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder can be created")
}

/// A file with these bytes between the image's identity and the checksum.
fn file(body: &[u8]) -> Vec<u8> {
    let mut bytes = [&b"RPWS\0\x01"[..], &id().to_bytes(), body].concat();
    bytes.extend(XxHash3_64::oneshot(&bytes).to_be_bytes());
    bytes
}

fn refusal(bytes: &[u8]) -> (usize, String) {
    let InvalidField { offset, why } =
        WorkingSet::parse(bytes, id(), &blocks()).expect_err("invalid");
    (offset, why)
}

#[test]
fn has_the_layout_that_is_documented() {
    let set = set(&[
        span(0, 509, 1),
        span(0, 18, 3),
        span(2, 2, 1),
        span(0, 999, 1),
    ]);
    let body = [
        &b"\0\x02\x06pc.ram\x0c\x04huge\x10"[..],
        // 509 forward; 492 backward, 3 pages; 981 forward into the second block; 4 back.
        b"\xf4\x0f\xaf\x0f\x01\xd4\x1e\x0e",
    ];
    assert_eq!(set.to_bytes(id(), &blocks()), file(&body.concat()));
    assert_eq!(set.pages(&blocks()), 6);
}

#[test]
fn takes_two_or_three_bytes_for_a_page_in_random_order() {
    let mut blocks = Blocks::new(4096).expect("valid page size");
    let name = NameBuf::new("pc.ram").expect("valid name");
    let (len, page) = (16384 * 4096, 4096);
    blocks.add(Block { name, len, page }).expect("valid block");
    let order = (0..16384_u64).map(|at| span(0, at * 509 % 16384, 1));
    let size = set(&order.collect::<Vec<_>>())
        .to_bytes(id(), &blocks)
        .len();
    assert!((2 * 16384..3 * 16384).contains(&size), "{size}");
}

#[test]
fn names_the_first_invalid_field_and_its_offset() {
    let other = set(&[]).to_bytes(Digest::of(b"another image"), &blocks());
    let other_id = Digest::of(b"another image");
    let ram = b"\0\x01\x06pc.ram\x0c";
    let with = |runs: &[u8]| file(&[&ram[..], runs].concat());
    let mut damaged = with(b"\x02");
    damaged[32] ^= 4;
    let mut newer = file(b"\0\0");
    newer[5] = 2;
    let more = "run 0: ends after the last page of a RAM block";
    let cases: Vec<(Vec<u8>, usize, String)> = vec![
        (vec![], 0, "magic: the file is cut short".into()),
        (
            b"RPWT-".to_vec(),
            0,
            "magic: not a working set of retpath".into(),
        ),
        (
            newer,
            4,
            "version: 2, but only version 1 can be read".into(),
        ),
        (
            b"RPWS\0\x01-".to_vec(),
            7,
            "image: the file is cut short".into(),
        ),
        (
            other,
            6,
            format!("image: the working set belongs to the image with the id {other_id}"),
        ),
        (
            file(b"")[..22].to_vec(),
            22,
            "checksum: the file is cut short".into(),
        ),
        (
            damaged,
            33,
            "checksum: does not match, the file is damaged or was cut short".into(),
        ),
        (
            file(b"\0"),
            23,
            "number of RAM blocks: the file is cut short".into(),
        ),
        (
            file(b"\0\x01"),
            24,
            "length of a RAM block's name: the file is cut short".into(),
        ),
        (
            file(b"\0\x01\x09rom"),
            28,
            "name of a RAM block: the file is cut short".into(),
        ),
        (
            file(b"\0\x01\x03rom"),
            28,
            "page size of a RAM block: the file is cut short".into(),
        ),
        (
            file(b"\0\x01\x04r\nm?\x0c"),
            24,
            "RAM block r\\nm?: the image has no such block".into(),
        ),
        (
            file(b"\0\x02\x03rom\x0c\x03rom\x0c"),
            29,
            "RAM block rom: appears twice".into(),
        ),
        (
            file(b"\0\x01\x03rom\x0d"),
            24,
            "RAM block rom: its pages have another size in the image".into(),
        ),
        (with(b"\x80"), 32, "run 0: no valid number".into()),
        (
            with(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
            32,
            "run 0: no valid number".into(),
        ),
        (with(b"\x01"), 32, "run 0: no valid number".into()),
        (
            with(b"\0\x06"),
            33,
            "run 1: starts before the first page".into(),
        ),
        (with(b"\xa0\x1f"), 32, more.into()),
        (with(b"\x01\xe7\x07"), 32, more.into()),
        (
            with(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            32,
            more.into(),
        ),
        (file(b"\0\0\0"), 24, more.into()),
        // All pages, then one of them again.
        (
            with(b"\x01\xe6\x07\x02"),
            35,
            "run 1: more pages than the image has".into(),
        ),
    ];
    for (bytes, offset, why) in cases {
        assert_eq!(refusal(&bytes), (offset, why), "{bytes:x?}");
    }
}

#[test]
fn refuses_every_cut_and_every_changed_byte() {
    let whole = set(&[span(0, 509, 1), span(1, 1, 3)]).to_bytes(id(), &blocks());
    for len in 0..whole.len() {
        refusal(&whole[..len]);
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        refusal(&bytes);
    }
}

#[test]
fn writes_for_its_owner_only_and_reads_what_it_wrote() {
    let folder = folder();
    let path = folder.path().join("set");
    let read = || WorkingSet::read(&path, id(), &blocks());
    assert_eq!(read().expect("not an error"), None);
    for pages in [1, 2] {
        let set = set(&[span(0, 7, pages)]);
        set.write(&path, id(), &blocks()).expect("folder is ours");
        assert_eq!(read().expect("valid"), Some(set));
        let mode = fs::metadata(&path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let files = fs::read_dir(folder.path()).expect("folder exists").count();
    assert_eq!(files, 1, "no file under another name is left");
    let missing = folder.path().join("missing/set");
    let error = set(&[]).write(&missing, id(), &blocks());
    assert!(matches!(error, Err(Error::Io { .. })), "{error:?}");
}

#[test]
fn refuses_what_is_no_file_and_a_file_that_is_too_long() {
    let folder = folder();
    let refusal = |path: &Path| {
        let error = WorkingSet::read(path, id(), &blocks()).expect_err("refused");
        error.to_string()
    };
    let pipe = folder.path().join("pipe");
    let made = rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU);
    made.expect("folder is ours");
    for path in [&pipe, folder.path()] {
        let error = refusal(path);
        assert!(error.contains("not a regular file"), "{error}");
    }
    let link = folder.path().join("loop");
    symlink(&link, &link).expect("folder is ours");
    assert!(refusal(&link).contains("opening"));
    // Sparse: reading all of it would take a terabyte.
    let long = folder.path().join("long");
    let file = File::create(&long).expect("folder is ours");
    file.set_len(1 << 40).expect("file is ours");
    let error = refusal(&long);
    assert!(error.contains("longer than 20943 bytes"), "{error}");
}

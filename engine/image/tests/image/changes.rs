//! Changed images: reads return the original bytes or fail.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use retpath_engine::source::PageSource;
use retpath_image::{Error, Image, Writer, verify};
use serde_json::{Value, json};

use super::{PAGE, block, edit_sealed, facts, folder, make, refusal};

/// The file of the first block.
const RAM: &str = "ram-000-pc.ram.raw";

/// Piece size in bytes.
const PIECE: u64 = 16384;

/// Creates an image whose last piece is one page, with a hole in the middle; also returns its bytes.
fn uneven(folder: &Path) -> (Image, Vec<u8>) {
    let out = folder.join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    let pages = 41;
    writer
        .block(&block(b"pc.ram", pages), PAGE)
        .expect("valid block");
    for page in (0..9).chain([13]).chain(29..pages) {
        let bytes: Vec<u8> = (0..4096_u64).map(|i| (i * 7 + page) as u8 | 1).collect();
        writer
            .write(0, page * PAGE, &bytes)
            .expect("range lies in the block");
    }
    writer.finish(facts()).expect("image is complete");
    let bytes = fs::read(out.join(RAM)).expect("file exists");
    (Image::open(&out).expect("image is complete"), bytes)
}

fn writable(folder: &Path) -> File {
    let path = folder.join("image").join(RAM);
    File::options().write(true).open(path).expect("file exists")
}

/// Returns the image error that caused a read error.
fn cause(error: &io::Error) -> &Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    cause.unwrap_or_else(|| panic!("{error}"))
}

/// Ranges within and across pieces, in an order in which some pieces are cached and others are not.
fn ranges(len: u64) -> impl Iterator<Item = (u64, u64)> {
    let sizes = [
        1,
        PAGE,
        3 * PAGE,
        PIECE,
        PIECE + 1,
        4 * PIECE,
        5 * PIECE + 77,
    ];
    let places = (0..len).step_by(3001).map(move |at| at * 7919 % len);
    places
        .flat_map(move |at| sizes.map(|size| (at / 1024 * 1024, size)))
        .chain([(0, len), (len - 1, 1), (len - PAGE, PAGE)])
        .filter(move |(at, size)| at + size <= len)
}

#[test]
fn reads_every_range_as_it_is_in_the_file() {
    let folder = folder();
    let (image, want) = uneven(folder.path());
    let unverified = Image::open_unverified(image.path()).expect("image is complete");
    let (mut count, mut holes) = (0, [0; 2]);
    for (at, size) in ranges(41 * PAGE) {
        let (start, len) = (at as usize, size as usize);
        for (image, holes) in [&image, &unverified].into_iter().zip(&mut holes) {
            let mut got = vec![0xee; len];
            image
                .read(0, at, &mut got)
                .expect("range lies in the block");
            assert!(got == want[start..start + len], "{size} bytes at {at}");
            if image.is_hole(0, at, size).expect("file is unchanged") {
                assert!(got.iter().all(|byte| *byte == 0), "{size} bytes at {at}");
                *holes += 1;
            }
        }
        count += 1;
    }
    assert!(count > 200, "{count}");
    assert!(holes.iter().all(|holes| *holes > 20), "{holes:?}");
    assert!(image.read(0, 41 * PAGE - 1, &mut [0; 2]).is_err());
    assert!(image.read(0, u64::MAX, &mut [0; 2]).is_err());
}

#[test]
fn knows_zeros_that_are_no_hole_from_their_digests() {
    let folder = folder();
    let (image, _) = uneven(folder.path());
    drop(image);
    let zeros = vec![0; PIECE as usize];
    writable(folder.path())
        .write_all_at(&zeros, 4 * PIECE)
        .expect("file is writable");
    let path = folder.path().join("image");
    for (image, known) in [
        (Image::open(&path), true),
        (Image::open_unverified(&path), false),
    ] {
        let image = image.expect("RAM is verified on read");
        let is_hole = |at, len| image.is_hole(0, at, len).expect("file is unchanged");
        assert_eq!(is_hole(4 * PIECE, PAGE), known);
        assert!(is_hole(5 * PIECE, PIECE));
        assert!(!is_hole(0, PAGE));
    }
}

#[test]
fn refuses_exactly_the_reads_that_touch_a_changed_piece() {
    for page in [0, 9, 31, 40] {
        let folder = folder();
        let (image, want) = uneven(folder.path());
        drop(image);
        let at = page * PAGE + 100;
        let changed = [!want[at as usize]];
        writable(folder.path())
            .write_all_at(&changed, at)
            .expect("file is writable");
        let image = Image::open(&folder.path().join("image")).expect("RAM is verified on read");
        let piece = at / PIECE * PIECE;
        for (at, size) in ranges(41 * PAGE) {
            let touches = at < piece + PIECE && piece < at + size;
            let mut got = vec![0xee; size as usize];
            let done = image.read(0, at, &mut got);
            assert_eq!(done.is_err(), touches, "{size} bytes at {at}");
            if let Err(error) = done {
                let Error::Damaged { offset, len, .. } = cause(&error) else {
                    panic!("{error}")
                };
                assert_eq!((*offset, *len), (piece, PIECE.min(41 * PAGE - piece)));
            }
        }
    }
}

#[test]
fn refuses_a_hole_that_replaced_data() {
    let folder = folder();
    let (image, _) = uneven(folder.path());
    drop(image);
    let file = writable(folder.path());
    file.set_len(0).expect("folder is writable");
    file.set_len(41 * PAGE).expect("folder is writable");
    let image = Image::open(&folder.path().join("image")).expect("RAM is verified on read");
    let is_hole = image.is_hole(0, 0, PAGE);
    assert!(!is_hole.expect("file is unchanged since it was opened"));
    let error = image.read(0, 0, &mut [0; 4096]);
    let error = error.expect_err("data was replaced by a hole");
    assert!(
        matches!(cause(&error), Error::Damaged { offset: 0, .. }),
        "{error}"
    );
    // A hole that was there before is valid.
    assert!(
        image
            .is_hole(0, 4 * PIECE, 2 * PIECE)
            .expect("file is unchanged")
    );
}

#[test]
fn detects_changes_to_pieces_already_read() {
    let folder = folder();
    let (image, _) = uneven(folder.path());
    // File times are coarse.
    std::thread::sleep(std::time::Duration::from_millis(20));
    image
        .read(0, PAGE, &mut [0; 16])
        .expect("image is complete");
    writable(folder.path())
        .write_all_at(&[0xee], 40 * PAGE)
        .expect("file is writable");
    for done in [
        image.read(0, PAGE, &mut [0; 16]),
        image.is_hole(0, 4 * PIECE, PIECE).map(|_| ()),
    ] {
        let error = done.expect_err("file was changed");
        assert!(matches!(cause(&error), Error::Changed { .. }), "{error}");
    }
}

#[test]
fn without_digests_detects_only_changes_while_open() {
    let folder = folder();
    let (image, _) = uneven(folder.path());
    drop(image);
    writable(folder.path())
        .write_all_at(&[0xee], 0)
        .expect("file is writable");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let image = Image::open_unverified(&folder.path().join("image")).expect("image opens");
    assert!(image.id().is_some());
    image
        .read(0, 0, &mut [0; 4096])
        .expect("read is not verified");
    writable(folder.path())
        .write_all_at(&[0xee], 0)
        .expect("file is writable");
    let error = image.read(0, 0, &mut [0; 4096]).expect_err("changed");
    assert!(matches!(cause(&error), Error::Changed { .. }), "{error}");
}

#[test]
fn verify_reports_progress_and_can_be_stopped() {
    let folder = folder();
    let out = make(folder.path());
    let mut steps = Vec::new();
    let found = verify(&out, &mut |done, all| {
        steps.push((done, all));
        true
    });
    assert!(found.expect("image has digests").is_whole());
    let all = 65 * PAGE;
    assert_eq!(steps.last(), Some(&(all, all)));
    assert!(steps.is_sorted(), "{steps:?}");
    let error = verify(&out, &mut |_, _| false).expect_err("stopped");
    assert!(matches!(error, Error::Stopped));
}

/// An edit of the manifest, and the expected error.
type Edit = (&'static str, fn(&mut Value));

const EDITS: &[Edit] = &[
    (
        "manifest.json: the image's id is ID, but the manifest's content has the id ID: it has been changed",
        |m| m["machine"] = "pc".into(),
    ),
    (
        "manifest.json: the image's id is ID, but the manifest's content has the id ID: it has been changed",
        |m| m["later"] = 1.into(),
    ),
    (
        "manifest.json: the image's id is ID, but the manifest's content has the id ID: it has been changed",
        |m| {
            m["id"] = "00000000000000000000000000000000".into();
        },
    ),
    (
        "manifest.json: the image's id is ID, but the manifest's content has the id ID: it has been changed",
        |m| {
            m["digests"]["device_state"] = "00000000000000000000000000000000".into();
        },
    ),
    (
        "manifest.json: the manifest: \"id\" must be 32 hexadecimal digits",
        |m| m["id"] = Value::Null,
    ),
    ("manifest.json: \"digests\" is not an object", |m| {
        m["digests"] = 1.into()
    }),
    (
        "manifest.json: \"digests\": \"kind\" is neither \"xxh3-runs\" nor \"xxh3\"",
        |m| m["digests"]["kind"] = "md5".into(),
    ),
    (
        "manifest.json: \"digests\": \"piece\" must be a power of two from 4096 to 1048576",
        |m| {
            m["digests"]["piece"] = 2048.into();
        },
    ),
    (
        "manifest.json: \"digests\": expected one entry per RAM block",
        |m| {
            m["digests"]["blocks"] = json!([]);
        },
    ),
    (
        "manifest.json: two RAM blocks have the file \"ram-000-pc.ram.raw\"",
        |m| {
            m["digests"]["blocks"][0]["file"] = RAM.into();
        },
    ),
    (
        "manifest.json: \"digests\": RAM block 0: \"file\" must be the name of a file in this folder, not \"../sums\"",
        |m| {
            m["digests"]["blocks"][0]["file"] = "../sums".into();
        },
    ),
    (
        "manifest.json: \"digests\": \"description\" must be present exactly if its file is",
        |m| {
            m["digests"]["description"] = Value::Null;
        },
    ),
    (
        "manifest.json: \"digests\": \"early_state\" must be present exactly if its file is",
        |m| {
            m["digests"]["early_state"] = m["id"].clone();
        },
    ),
];

#[test]
fn refuses_every_edit_of_the_digests() {
    for (want, change) in EDITS {
        let folder = folder();
        let out = make(folder.path());
        edit_sealed(&out, change);
        let message = refusal(&out);
        assert_eq!(message, format!("IMAGE/{want}"));
    }
}

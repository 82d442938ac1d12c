//! The text of errors, names and values.

use std::fmt::{self, Display, Write};
use std::io;

use retpath_codec::bitmap::Bitmap;
use retpath_codec::tokio::Error;
use retpath_codec::{DecodeError, EncodeError, Name, Rule};

use crate::samples::{name, ranges};

/// A formatter with room for `left` bytes.
struct Room {
    text: String,
    left: usize,
}

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Some(left) = self.left.checked_sub(text.len()) else {
            return Err(fmt::Error);
        };
        self.left = left;
        self.text.push_str(text);
        Ok(())
    }
}

/// Asserts that printing fails wherever its formatter fails, and stops there.
#[track_caller]
fn stops_with_its_writer(value: &dyn Display) {
    let whole = value.to_string();
    for left in 0..whole.len() {
        let text = String::new();
        let mut room = Room { text, left };
        assert_eq!(write!(room, "{value}"), Err(fmt::Error), "{whole}");
        assert!(whole.starts_with(&room.text), "{whole}: {}", room.text);
    }
}

/// Prints with `Debug`.
struct Bare<T>(T);

impl<T: fmt::Debug> Display for Bare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn decode_error(rule: Rule) -> DecodeError {
    DecodeError::new(300, Some("RECV_BITMAP"), Some("bitmap"), rule)
}

fn encode_error(rule: Rule) -> EncodeError {
    EncodeError::new("RECV_BITMAP", Some("bitmap"), rule)
}

/// The rules that no file in `corpus/malformed` breaks; the text of the others is in
/// the `.expect` files.
const OURS: [(Rule, &str, &str); 7] = [
    (
        Rule::NameTooLong,
        "name-too-long",
        "name is longer than 255 bytes",
    ),
    (
        Rule::Odd,
        "odd",
        "length is odd, but its lowest bit is the flag for a block name",
    ),
    (
        Rule::BitmapMismatch { size: 8, want: 16 },
        "bitmap-mismatch",
        "bitmap size is 8 bytes, but the block needs 16",
    ),
    (
        Rule::BitmapTail,
        "bitmap-tail",
        "the bitmap has bits set after the last page of the block",
    ),
    (Rule::NoRoom, "no-room", "the output buffer is too small"),
    (
        Rule::HostPage { size: 3 },
        "host-page",
        "page size is 3 bytes, must be a power of two",
    ),
    (
        Rule::Limit { got: 9, limit: 8 },
        "limit",
        "is 9, but this reader accepts at most 8",
    ),
];

#[test]
fn describes_the_rules_that_no_input_can_break() {
    for (rule, short, sentence) in OURS {
        assert_eq!(rule.name(), short);
        assert_eq!(rule.to_string(), sentence);
        let text = format!("offset 300 (0x12c), RECV_BITMAP, field `bitmap`: {sentence} [{short}]");
        assert_eq!(decode_error(rule).to_string(), text);
        let text = format!("cannot write RECV_BITMAP, field `bitmap`: {sentence} [{short}]");
        assert_eq!(encode_error(rule).to_string(), text);
    }
}

#[test]
fn omits_message_and_field_when_they_are_unknown() {
    let mut error = decode_error(Rule::Short);
    error.field = None;
    let sentence = "the payload ends inside this field [short]";
    let text = format!("offset 300 (0x12c), RECV_BITMAP: {sentence}");
    assert_eq!(error.to_string(), text);
    error.message = None;
    assert_eq!(error.to_string(), format!("offset 300 (0x12c): {sentence}"));
    let mut error = encode_error(Rule::Short);
    error.field = None;
    let text = format!("cannot write RECV_BITMAP: {sentence}");
    assert_eq!(error.to_string(), text);
}

#[test]
fn tells_protocol_violations_from_limits_and_early_ends() {
    let ours = [
        Rule::BitmapLimit { size: 8, limit: 7 },
        Rule::CutShort { have: 1, need: 1 },
        Rule::NoRoom,
        Rule::Limit { got: 9, limit: 8 },
        Rule::HostPage { size: 3 },
        Rule::Unskippable { id: 1 },
        Rule::MappedRam,
    ];
    for rule in ours {
        assert!(!rule.is_peer_fault(), "{rule}");
        assert!(!decode_error(rule).is_peer_fault(), "{rule}");
    }
    for rule in [Rule::Zero, Rule::BitmapTail, Rule::Short, Rule::AfterEnd] {
        assert!(rule.is_peer_fault(), "{rule}");
        assert!(decode_error(rule).is_peer_fault(), "{rule}");
    }
}

#[test]
fn propagates_formatter_errors() {
    for (rule, ..) in OURS {
        stops_with_its_writer(&decode_error(rule));
        stops_with_its_writer(&encode_error(rule));
    }
    let name = name(b"pc \"ram\" 'a' \n \xff \\");
    stops_with_its_writer(&name);
    stops_with_its_writer(&Bare(&name));
    stops_with_its_writer(&Bare(Bitmap::new(&[1, 0, 0, 0, 0, 0, 0, 0x80])));
    stops_with_its_writer(&Bare(ranges(&[(0, 1), (2, 3)])));
}

#[test]
fn prints_errors_of_peer_caller_and_connection() {
    let cases = [
        (
            Error::from(decode_error(Rule::BitmapTail)),
            "malformed input at offset 300 (0x12c), RECV_BITMAP, field `bitmap`: \
             the bitmap has bits set after the last page of the block [bitmap-tail]",
        ),
        (
            Error::from(encode_error(Rule::Odd)),
            "cannot write RECV_BITMAP, field `bitmap`: \
             length is odd, but its lowest bit is the flag for a block name [odd]",
        ),
        (
            Error::from(io::Error::other("unplugged")),
            "connection failed: unplugged",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
        let source = std::error::Error::source(&error).expect("has a cause");
        assert!(text.contains(&source.to_string()));
    }
}

#[test]
fn prints_different_names_differently() {
    let shown = |bytes: &[u8]| Name::new(bytes).expect("a name").to_string();
    assert_eq!(shown(b"pc.ram"), "pc.ram");
    assert_eq!(shown("größe \"1\" 'a'".as_bytes()), "größe \"1\" 'a'");
    assert_eq!(shown(b"\xff"), "\\xff");
    assert_eq!(shown(b"\\xff"), "\\\\xff");
    assert_eq!(shown(b"a\nb\x1b[0m"), "a\\nb\\u{1b}[0m");
    assert_eq!(shown("\u{202e}x".as_bytes()), "\\u{202e}x");
    assert_eq!(format!("{:?}", name("a\"b'")), "\"a\\\"b'\"");
}

#[test]
fn prints_ranges_and_bitmaps_briefly() {
    let list = ranges(&[(0, 1), (2, 3)]);
    let text = "[Range { start: 0, len: 1 }, Range { start: 2, len: 3 }]";
    assert_eq!(format!("{list:?}"), text);
    let bitmap = Bitmap::new(&[1, 0, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(format!("{bitmap:?}"), "Bitmap(2 of 64 bits)");
}

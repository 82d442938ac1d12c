//! What people read: sentences for what is wrong, names, and that printing
//! ends where its writer fails.

use std::fmt::{self, Display, Write};
use std::io;

use retpath_codec::bitmap::Bitmap;
use retpath_codec::tokio::Error;
use retpath_codec::{DecodeError, EncodeError, Name, Rule};

use crate::samples::{name, ranges};

/// A writer with room for so many bytes.
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

/// Printing fails when its writer does, whatever was being written, and writes
/// nothing behind that.
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
    DecodeError {
        offset: 300,
        message: Some("RECV_BITMAP"),
        field: Some("bitmap"),
        rule,
    }
}

fn encode_error(rule: Rule) -> EncodeError {
    EncodeError {
        message: "RECV_BITMAP",
        field: Some("bitmap"),
        rule,
    }
}

/// What no file of `corpus/malformed` can be: the others have their sentences
/// beside them there.
const OURS: [(Rule, &str, &str); 7] = [
    (
        Rule::NameTooLong,
        "name-too-long",
        "a block name of more than 255 bytes",
    ),
    (
        Rule::Odd,
        "odd",
        "an odd length, but its lowest bit is the name flag",
    ),
    (
        Rule::BitmapMismatch { size: 8, want: 16 },
        "bitmap-mismatch",
        "bitmap of 8 bytes, but the block needs 16",
    ),
    (
        Rule::BitmapTail,
        "bitmap-tail",
        "bitmap has bits set beyond the block's last page",
    ),
    (
        Rule::NoRoom,
        "no-room",
        "the buffer to write to is too small",
    ),
    (
        Rule::HostPage { size: 3 },
        "host-page",
        "host pages of 3 bytes, must be a power of two",
    ),
    (
        Rule::Limit { got: 9, limit: 8 },
        "limit",
        "is 9, but 8 is the most this reader allows",
    ),
];

#[test]
fn says_what_is_wrong_with_what_no_bytes_can_be() {
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
fn leaves_out_the_message_and_the_field_that_are_not_to_blame() {
    let mut error = decode_error(Rule::Short);
    error.field = None;
    let sentence = "does not fit what is left of the payload [short]";
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
fn blames_the_peer_for_all_but_the_callers_own_limits_and_an_early_end() {
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
fn tells_whose_fault_a_broken_connection_is() {
    let cases = [
        (
            Error::from(decode_error(Rule::BitmapTail)),
            "malformed return path: offset 300 (0x12c), RECV_BITMAP, field `bitmap`: \
             bitmap has bits set beyond the block's last page [bitmap-tail]",
        ),
        (
            Error::from(encode_error(Rule::Odd)),
            "cannot write RECV_BITMAP, field `bitmap`: \
             an odd length, but its lowest bit is the name flag [odd]",
        ),
        (
            Error::from(io::Error::other("unplugged")),
            "return path: unplugged",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
        let source = std::error::Error::source(&error).expect("has a cause");
        assert!(text.contains(&source.to_string()));
    }
}

#[test]
fn keeps_names_apart_in_print() {
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
fn shows_ranges_and_bitmaps_in_short() {
    let list = ranges(&[(0, 1), (2, 3)]);
    let text = "[Range { start: 0, len: 1 }, Range { start: 2, len: 3 }]";
    assert_eq!(format!("{list:?}"), text);
    let bitmap = Bitmap::new(&[1, 0, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(format!("{bitmap:?}"), "Bitmap(2 of 64 bits)");
}

//! Parsers and serializers of single fields.

use std::io::Write as _;
use std::vec::Vec;

use nom::error::{ErrorKind, ParseError};
use nom::{Check, Compare, Complete, Emit, Input, Needed, OutputM, Parser};

use super::combinator::FieldError;
use super::input::Bytes;
use super::output::{Room, Sink};
use super::{parse, write};
use crate::error::Rule;
use crate::name::Name;

/// Which field `parser` finds to be short, and how many bytes are left at its
/// start.
#[track_caller]
fn short<'a, P>(mut parser: P, input: &'a [u8]) -> (usize, Option<&'static str>)
where
    P: Parser<Bytes<'a>, Error = FieldError>,
{
    let Err(error) = parser.parse_complete(Bytes(input)) else {
        panic!("takes {input:02x?}");
    };
    let FieldError { left, field, rule } = error.into();
    assert_eq!(rule, Rule::Short);
    (left, field)
}

/// Asserts that `parser` reads all of `whole`, and refuses its prefixes as short:
/// those that end in its field, which begins at `start`. It is to do so when it
/// makes an error and when it does not.
#[track_caller]
fn needs_all<'a, P>(start: usize, whole: &'a [u8], parser: impl Fn() -> P)
where
    P: Parser<Bytes<'a>, Error = FieldError>,
{
    let is_read = |input| {
        let read = parser().process::<OutputM<Emit, Check, Complete>>(Bytes(input));
        read.is_ok_and(|(rest, _)| rest.is_empty())
    };
    for size in start..whole.len() {
        let input = &whole[..size];
        assert_eq!(short(parser(), input), (size - start, Some("field")));
        assert!(!is_read(input));
    }
    assert!(parser().parse_complete(Bytes(whole)).is_ok());
    assert!(is_read(whole));
}

#[test]
fn refuses_an_incomplete_field_as_short() {
    needs_all(0, &[1; 4], || parse::u32("field"));
    needs_all(0, &[1; 8], || parse::u64("field"));
    needs_all(0, &[1], || parse::u8_equals("field", 1));
    needs_all(0, &[0, 0, 0, 1], || parse::u32_equals("field", 1));
    needs_all(8, &[1; 12], || parse::span("start", "field"));
    needs_all(8, &[2; 16], || {
        parse::flagged_span("start", "field", "block")
    });
    let flagged = *b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\x03ram";
    needs_all(16, &flagged, || {
        parse::flagged_span("start", "len", "field")
    });
    needs_all(0, b"\x03ram", || parse::name("field"));
    needs_all(0, &[1; 16], || parse::ranges("field"));
    // No bytes at all mean that there are no page sizes.
    for size in 1..16 {
        let found = short(parse::page_sizes("field"), &[7; 16][..size]);
        assert_eq!(found, (size, Some("field")));
    }
    assert!(
        parse::page_sizes("field")
            .parse_complete(Bytes(&[7; 16]))
            .is_ok()
    );
}

#[test]
fn blames_the_start_of_a_span_if_it_is_incomplete() {
    for size in 0..8 {
        let found = short(parse::span("start", "len"), &[1; 8][..size]);
        assert_eq!(found, (size, Some("start")));
    }
}

#[test]
fn streaming_parsers_ask_for_what_is_missing() {
    let missing = |input| match parse::name("field").parse(Bytes(input)) {
        Err(nom::Err::Incomplete(Needed::Size(size))) => size.get(),
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(b""), 1);
    assert_eq!(missing(b"\x03r"), 2);
}

#[test]
fn an_error_of_nom_itself_means_missing_bytes() {
    let left = |error: FieldError| {
        assert_eq!((error.field, error.rule), (None, Rule::Short));
        error.left
    };
    let error = || FieldError::from_error_kind(Bytes(&[1, 2]), ErrorKind::Eof);
    assert_eq!(left(error()), 2);
    assert_eq!(
        left(FieldError::append(Bytes(&[]), ErrorKind::Alt, error())),
        2
    );
    assert_eq!(left(nom::Err::Failure(error()).into()), 2);
    assert_eq!(left(nom::Err::Incomplete(Needed::Unknown).into()), 0);
}

#[test]
fn bytes_are_an_input_like_a_slice() {
    let slice: &[u8] = b"bytes";
    let bytes = Bytes(slice);
    for index in 0..=slice.len() {
        assert_eq!(bytes.take(index).0, slice.take(index));
        assert_eq!(bytes.take_from(index).0, slice.take_from(index));
        let (rest, start) = bytes.take_split(index);
        assert_eq!((rest.0, start.0), slice.take_split(index));
    }
    for count in 0..8 {
        assert_eq!(bytes.slice_index(count), slice.slice_index(count));
    }
    assert_eq!(bytes.position(|byte| byte == b't'), Some(2));
    assert_eq!(bytes.position(|byte| byte == b'x'), None);
    assert!(bytes.iter_indices().eq(slice.iter_indices()));
    for tag in [
        &b""[..],
        b"by",
        b"bytes",
        b"bytesize",
        b"bitesize",
        b"bit",
        b"BYT",
    ] {
        assert_eq!(bytes.compare(tag), slice.compare(tag));
        assert_eq!(bytes.compare_no_case(tag), slice.compare_no_case(tag));
    }
}

#[test]
fn bytes_do_not_panic_beyond_their_end() {
    let bytes = Bytes(b"bytes");
    assert_eq!(bytes.take(6), bytes);
    assert_eq!(bytes.take_from(6), Bytes(&[]));
}

#[test]
fn a_slice_writer_accepts_all_of_a_write_or_nothing() {
    let mut bytes = [0; 4];
    let mut room = Room(&mut bytes);
    assert_eq!(room.write(&[1, 2, 3]).ok(), Some(3));
    assert_eq!(room.0.len(), 1);
    assert!(room.flush().is_ok());
    assert_eq!(room.write(&[4, 5]).ok(), Some(0));
    assert_eq!(bytes, [1, 2, 3, 0]);
}

#[test]
fn writes_a_flagged_name_whole_or_not_at_all() {
    let name = Name::new(b"ram").expect("a name");
    let mut out = Vec::new();
    assert!(write::flagged_name(Some(name))(Sink::from(&mut out)).is_ok());
    assert_eq!(out, b"\x03ram");
    for size in 0..4 {
        let mut bytes = [0; 4];
        let room = Sink::from(Room(&mut bytes[..size]));
        let written = write::flagged_name(Some(name))(room);
        assert!(written.is_err(), "in {size} bytes");
    }
}

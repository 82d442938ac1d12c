//! Parsers of single fields: what is too short is refused as a whole, for
//! whoever asks why and for whoever does not.

use std::io::Write;
use std::vec::Vec;

use nom::Parser;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};

use super::*;

/// Demands that all of `whole` is read, and nothing less of `least` or more
/// bytes.
#[track_caller]
fn needs_from<'a, T>(
    least: usize,
    whole: &'a [u8],
    explain: impl Fn(&'a [u8]) -> Parsed<'a, T, Fault>,
    parse: impl Fn(&'a [u8]) -> Parsed<'a, T, Refused>,
) {
    for size in least..whole.len() {
        let input = &whole[..size];
        let Err(fault) = finish(explain(input)) else {
            panic!("takes {size} bytes");
        };
        assert_eq!((fault.left, fault.field), (size, Some("field")));
        assert_eq!(fault.rule, Rule::Short);
        assert!(finish(parse(input)).is_err());
    }
    let Ok((rest, _)) = finish(explain(whole)) else {
        panic!("refuses {whole:02x?}");
    };
    assert!(rest.is_empty() && finish(parse(whole)).is_ok());
}

#[track_caller]
fn needs<'a, T>(
    whole: &'a [u8],
    explain: impl Fn(&'a [u8]) -> Parsed<'a, T, Fault>,
    parse: impl Fn(&'a [u8]) -> Parsed<'a, T, Refused>,
) {
    needs_from(0, whole, explain, parse);
}

#[test]
fn a_field_that_is_not_whole_is_short() {
    needs(&[1; 4], |i| be32("field", i), |i| be32("field", i));
    needs(&[1; 8], |i| be64("field", i), |i| be64("field", i));
    needs(
        &[1],
        |i| u8_equals("field", 1, i),
        |i| u8_equals("field", 1, i),
    );
    let one = [0, 0, 0, 1];
    needs(
        &one,
        |i| be32_equals("field", 1, i),
        |i| be32_equals("field", 1, i),
    );
    needs(
        &one,
        |i| be32_span("field", 0, i),
        |i| be32_span("field", 0, i),
    );
    let two = [0, 0, 0, 0, 0, 0, 0, 2];
    needs(
        &two,
        |i| flagged_span("field", 0, i),
        |i| flagged_span("field", 0, i),
    );
    needs(b"\x03ram", |i| name("field", i), |i| name("field", i));
    let flagged = b"\x03ram";
    needs(
        flagged,
        |i| flagged_name("field", true, i),
        |i| flagged_name("field", true, i),
    );
    // Nothing at all is no page size.
    let sizes = [7; 16];
    needs_from(
        1,
        &sizes,
        |i| page_sizes("field", i),
        |i| page_sizes("field", i),
    );
    let mut range = [0; 16];
    range[15] = 1;
    needs(&range, |i| ranges("field", i), |i| ranges("field", i));
}

#[test]
fn what_nom_says_itself_is_lack_of_bytes() {
    let input: &[u8] = &[1, 2];
    let Err(fault) = finish::<_, Fault>(take(3_usize).parse(input)) else {
        panic!("takes 3 bytes of 2");
    };
    assert_eq!(
        (fault.left, fault.field, fault.rule),
        (2, None, Rule::Short)
    );
    assert!(finish::<_, Refused>(take(3_usize).parse(input)).is_err());

    let lasting: Parsed<'_, (), Fault> = Err(nom::Err::Failure(fault));
    let Err(fault) = finish(lasting) else {
        panic!("a failure is something");
    };
    assert_eq!((fault.left, fault.rule), (2, Rule::Short));
    let lasting: Parsed<'_, (), Refused> = Err(nom::Err::Failure(Refused));
    assert!(finish(lasting).is_err());

    // The first of several failures is the one that counts.
    let fault = Fault::append(&[], ErrorKind::Eof, fault);
    assert_eq!((fault.left, fault.rule), (2, Rule::Short));
    let Refused = Refused::append(&[], ErrorKind::Eof, Refused);

    let waits: Parsed<'_, (), Fault> = Err(nom::Err::Incomplete(nom::Needed::Unknown));
    let Err(fault) = finish(waits) else {
        panic!("nothing is something");
    };
    assert_eq!((fault.left, fault.rule), (0, Rule::Short));
    let waits: Parsed<'_, (), Refused> = Err(nom::Err::Incomplete(nom::Needed::Unknown));
    assert!(finish(waits).is_err());
}

#[test]
fn a_room_takes_all_of_a_write_or_nothing() {
    let mut bytes = [0; 4];
    let mut room = Room(&mut bytes);
    assert_eq!(room.write(&[1, 2, 3]).ok(), Some(3));
    assert_eq!(room.0.len(), 1);
    assert!(room.flush().is_ok());
    assert_eq!(room.write(&[4, 5]).ok(), Some(0));
    assert_eq!(bytes, [1, 2, 3, 0]);
}

#[test]
fn a_flagged_name_is_written_whole_or_not_at_all() {
    let name = crate::name::Name::new(b"ram").expect("a name");
    let mut out = Vec::new();
    assert!(put_flagged_name(Sink::from(&mut out), Some(name)).is_ok());
    assert_eq!(out, b"\x03ram");
    for size in 0..4 {
        let mut bytes = [0; 4];
        let room = Sink::from(Room(&mut bytes[..size]));
        assert!(
            put_flagged_name(room, Some(name)).is_err(),
            "in {size} bytes"
        );
    }
}

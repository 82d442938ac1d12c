//! Ends of device state, and bytes that resemble one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::*;

const FOOTER: [u8; 5] = [0x7e, 0, 0, 0, 5];
const PING: &[u8] = &[8, 0, 2, 0, 4, 0, 0, 0, 3];
const LISTEN: &[u8] = &[8, 0, 4, 0, 0];
const RUN: &[u8] = &[8, 0, 5, 0, 0];
const ADVISE: &[u8] = &[
    8, 0, 3, 0, 16, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 16, 0,
];
/// A section with id 9 and a name of three letters.
const FULL: &[u8] = b"\x04\0\0\0\x09\x03cpu\0\0\0\0\0\0\0\x01";

/// The context of the state.
#[derive(Clone, Copy)]
enum In {
    Package,
    Stream,
    /// Nothing follows.
    End,
}

/// Classifies a footer followed by `rest`.
#[track_caller]
fn look(rest: &[u8], place: In) -> Option<Next> {
    find(&[&FOOTER, rest].concat(), place)
}

/// Classifies the start of `view`; `None` if more bytes are needed.
#[track_caller]
fn find(view: &[u8], place: In) -> Option<Next> {
    let section = |payload| Section {
        payload,
        name: Box::default(),
        ended: false,
    };
    let sections = [(1, section(Payload::Ram)), (2, section(Payload::Device))].into();
    let around = Surroundings {
        package: matches!(place, In::Package),
        last: matches!(place, In::End),
        sections: &sections,
        max_description: 1000,
    };
    match next(view, 5, &around) {
        Ok(next) => Some(next),
        Err(Stop::Need(1)) => None,
        Err(_) => panic!("one byte may settle it"),
    }
}

/// Asserts that it is a footer, and that each of its prefixes may be one.
#[track_caller]
fn ends(rest: &[u8], place: In) {
    assert_eq!(look(rest, place), Some(Next::Footer));
    for size in 0..rest.len() {
        let some = look(&rest[..size], place);
        assert!(matches!(some, None | Some(Next::Footer)), "{size}");
    }
    assert_eq!(look(&[], place), None);
}

/// Asserts that it is not a footer.
#[track_caller]
fn goes_on(rest: &[u8], place: In) {
    let all = Some(Next::State(5 + rest.len()));
    assert_eq!(look(rest, place), all);
}

#[test]
fn accepts_a_new_section_after_a_footer() {
    for place in [In::Package, In::Stream] {
        ends(FULL, place);
        let with = |at: usize, byte| {
            let mut head = FULL.to_vec();
            head[at] = byte;
            head
        };
        goes_on(&with(4, 1), place);
        goes_on(&with(5, 0), place);
        goes_on(&with(6, 0x1f), place);
        goes_on(&with(7, 0x7f), place);
        // As early as possible.
        goes_on(&with(6, 0x1f)[..7], place);
    }
    let start = [&[1], &FULL[1..]].concat();
    ends(&start, In::Stream);
    goes_on(&start, In::Package);
}

#[test]
fn accepts_a_part_of_a_started_section_after_a_footer() {
    for kind in [2, 3] {
        ends(&[kind, 0, 0, 0, 1], In::Stream);
        goes_on(&[kind, 0, 0, 0, 2], In::Stream);
        goes_on(&[kind, 0, 0, 0, 7], In::Stream);
        goes_on(&[kind, 0, 0, 0, 1], In::Package);
    }
}

#[test]
fn accepts_the_end_of_the_stream_after_a_footer() {
    ends(b"\0\x06\0\0\x03\xe8{", In::Stream);
    goes_on(b"\0\x06\0\0\x03\xe9{", In::Stream);
    goes_on(b"\0\x06\0\0\x03\xe8[", In::Stream);
    goes_on(b"\0\x07", In::Stream);
    goes_on(b"\0\x06\0\0\x03\xe8{", In::Package);
    assert_eq!(look(&[0], In::Stream), None);
    assert_eq!(look(&[0], In::End), Some(Next::Footer));
}

#[test]
fn accepts_a_short_command_after_a_footer() {
    for command in [PING, RUN] {
        ends(command, In::Stream);
        ends(command, In::Package);
        // Whatever follows.
        let more = [command, &[0xff; 40]].concat();
        assert_eq!(look(&more, In::Stream), Some(Next::Footer));
    }
    for command in [LISTEN, ADVISE] {
        ends(command, In::Stream);
        goes_on(command, In::Package);
    }
    goes_on(&[8, 0, 99, 0, 0], In::Stream);
}

/// RECV_BITMAP of a block whose name has `len` letters.
fn bitmap(letters: u8) -> Vec<u8> {
    let head = [8, 0, 10, 0, letters + 1, letters];
    [&head[..], &[b'x'].repeat(letters.into())].concat()
}

#[test]
fn rejects_a_long_command_after_a_footer_whether_or_not_it_is_complete() {
    ends(&bitmap(15), In::Stream);
    for size in 5..=22 {
        goes_on(&bitmap(16)[..size], In::Stream);
    }
}

#[test]
fn rejects_all_other_bytes_after_a_footer() {
    for byte in [5, 6, 7, 9, 0xff] {
        goes_on(&[byte], In::Stream);
    }
}

#[test]
fn waits_for_a_complete_footer_unless_the_input_ends() {
    for size in 1..5 {
        assert_eq!(find(&FOOTER[..size], In::Stream), None);
        assert_eq!(find(&FOOTER[..size], In::End), Some(Next::State(size)));
        // After state, the state is returned first.
        let view = [&[1, 2], &FOOTER[..size]].concat();
        assert_eq!(find(&view, In::Stream), Some(Next::State(2)));
    }
    goes_on(&[4], In::End);
    assert_eq!(find(&[0x7e, 0, 1], In::Stream), Some(Next::State(3)));
    assert_eq!(
        find(&[0x7e, 0, 0, 0, 6, 8], In::Stream),
        Some(Next::State(6))
    );
    assert_eq!(find(&[], In::Stream), None);
}

#[test]
fn searches_past_a_partial_match_of_a_footer() {
    let view = [&FOOTER[..], &[0xff, 0x7e, 1, 1], &FOOTER, RUN].concat();
    assert_eq!(find(&view, In::Stream), Some(Next::State(9)));
    assert_eq!(find(&view[9..], In::Stream), Some(Next::Footer));
}

#[test]
fn decides_about_a_candidate_within_its_maximum_size() {
    let name = [b'~'; MAX_NAME];
    let head = [&FULL[..5], &[u8::MAX], &name, &[0; 8]].concat();
    assert_eq!(FOOTER.len() + head.len(), MAX_CANDIDATE);
    ends(&head, In::Package);
    // One byte more makes no difference, whichever it is.
    for byte in [0, 0x7e, 0xff] {
        let more = [&head[..], &[byte]].concat();
        assert_eq!(look(&more, In::Package), Some(Next::Footer));
    }
}

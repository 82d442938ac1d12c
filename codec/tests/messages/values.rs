//! Values that a receiver would refuse are refused by the encoder, with the same
//! rule and before a byte is written.

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::command::{Command, Commands, Range, RangeBuf, Ranges};
use retpath_codec::{BlockName, Encode, EncodeError, Message, Name, NameBuf, Rule, v7};

use crate::samples::{name, ranges};

use Rule::*;

/// Returns the error, which `check` and all encoders report alike.
fn refused(
    message: &(impl Encode + std::fmt::Debug),
    check: Result<(), EncodeError>,
) -> EncodeError {
    let error = check.expect_err("is refused");
    let mut out = vec![7];
    assert_eq!(message.encode(&mut out), Err(error), "{message:?}");
    assert_eq!(out, [7], "{message:?} leaves a trace");
    assert_eq!(
        message.encode_into(&mut [0; 1 << 17]),
        Err(error),
        "{message:?}"
    );
    error
}

fn error(message: &'static str, field: &'static str, rule: Rule) -> EncodeError {
    EncodeError::new(message, Some(field), rule)
}

#[test]
fn refuses_to_encode_an_empty_request() {
    let message = Message::<NameBuf>::ReqPages { start: 1, len: 0 };
    assert_eq!(
        refused(&message, message.check()),
        error("REQ_PAGES", "len", Zero)
    );
}

#[test]
fn refuses_to_encode_a_request_that_overflows() {
    let message = Message::ReqPagesId {
        start: u64::MAX,
        len: 1,
        block: name("a"),
    };
    let rule = Overflow {
        start: u64::MAX,
        len: 1,
    };
    assert_eq!(
        refused(&message, message.check()),
        error("REQ_PAGES_ID", "len", rule)
    );
}

#[test]
fn refuses_to_encode_an_odd_length_in_the_draft() {
    let message = v7::Message::<NameBuf>::ReqPages {
        start: 0,
        len: 4097,
        block: None,
    };
    assert_eq!(
        refused(&message, message.check()),
        error("REQ_PAGES", "len", Odd)
    );
    let message = v7::Message::ReqPages {
        start: 0,
        len: 0,
        block: Some(name("a")),
    };
    assert_eq!(
        refused(&message, message.check()),
        error("REQ_PAGES", "len", Zero)
    );
}

#[test]
fn encodes_as_many_ranges_as_fit() {
    for (name, most) in [
        (name("a"), 4095),
        (name([b'a'; 16]), 4094),
        (name([b'a'; 255]), 4079),
    ] {
        let discard = |count| Command::PostcopyRamDiscard {
            block: name.clone(),
            ranges: ranges(&vec![(0, 1); count]),
        };
        let message = discard(most);
        assert_eq!(message.check(), Ok(()));
        retpath_codec::check::canonical::<Commands>(&{
            let mut out = Vec::new();
            message.encode(&mut out).expect("it fits");
            out
        });
        let message = discard(most + 1);
        let limit = 65535 - 3 - name_len(&name);
        let rule = TooLong {
            len: (most + 1) * 16,
            limit,
        };
        assert_eq!(
            refused(&message, message.check()),
            error("POSTCOPY_RAM_DISCARD", "ranges", rule)
        );
    }
}

fn name_len(name: &NameBuf) -> usize {
    name.name().as_bytes().len()
}

#[test]
fn reports_a_slice_that_is_too_small() {
    let message = Message::<NameBuf>::Pong { value: 1 };
    let refused = message.encode_into(&mut [0; 7]).expect_err("needs 8 bytes");
    assert_eq!((refused.message, refused.rule), ("PONG", NoRoom));
    assert!(!refused.rule.is_peer_fault());
    assert_eq!(
        refused.to_string(),
        "cannot write PONG: the output buffer is too small [no-room]"
    );
}

#[test]
fn refuses_names_that_the_wire_cannot_carry() {
    assert_eq!(Name::new(b""), Err(EmptyName));
    assert_eq!(Name::new(&[b'a'; 256]), Err(NameTooLong));
    assert_eq!(Name::new(b"a\0"), Err(NulInName));
    assert!(Name::new(&[0xff; 255]).is_ok());
    assert_eq!(NameBuf::new([0_u8]), Err(NulInName));
}

#[test]
fn refuses_a_nul_anywhere_in_a_name_of_any_length() {
    // Bytes near NUL or with the highest bit set are critical for the search by
    // words.
    for other in [0x01, 0x7f, 0x80, 0x81, 0xff] {
        let mut bytes = [other; 255];
        for len in 1..=255 {
            assert!(Name::new(&bytes[..len]).is_ok(), "{len} of {other:#x}");
            for at in 0..len {
                bytes[at] = 0;
                let refused = Name::new(&bytes[..len]);
                assert_eq!(refused, Err(NulInName), "byte {at} of {len}");
                bytes[at] = other;
            }
        }
    }
}

#[test]
fn refuses_two_nuls_at_any_positions() {
    for len in 2..=50 {
        let mut bytes = [b'a'; 50];
        for first in 0..len {
            bytes[first] = 0;
            for second in first + 1..len {
                bytes[second] = 0;
                let refused = Name::new(&bytes[..len]);
                assert_eq!(refused, Err(NulInName), "{first} and {second} of {len}");
                bytes[second] = b'a';
            }
            bytes[first] = b'a';
        }
    }
}

#[test]
fn reports_the_broken_rule_even_if_the_slice_is_too_small() {
    let message = Message::<NameBuf>::ReqPages { start: 0, len: 0 };
    let refused = message.encode_into(&mut []);
    assert_eq!(refused, Err(error("REQ_PAGES", "len", Zero)));
}

#[test]
fn refuses_ranges_that_the_wire_cannot_carry() {
    assert_eq!(RangeBuf::new(vec![]), Err(Short));
    assert_eq!(RangeBuf::new(vec![Range { start: 5, len: 0 }]), Err(Zero));
    let wraps = Range {
        start: 2,
        len: u64::MAX - 1,
    };
    assert_eq!(
        RangeBuf::new(vec![wraps]),
        Err(Overflow {
            start: 2,
            len: u64::MAX - 1
        })
    );
    assert!(Range::new(1, u64::MAX - 1).is_ok());
}

/// A writer that fails, and counts its calls.
struct Failing(usize);

impl std::io::Write for Failing {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        self.0 += 1;
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn passes_on_the_error_of_a_writer() {
    let mut out = Failing(0);
    let error = Message::pong(1).encode_to(&mut out).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    let words = [0; 8];
    let error = bitmap::encode_to(Bitmap::new(&words), &mut out).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(out.0, 2);
    // At any part of a bitmap, which is not written in one piece.
    for room in 0..24 {
        let mut out = vec![0; room];
        let error = bitmap::encode_to(Bitmap::new(&words), &mut out.as_mut_slice()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
    }
}

#[test]
fn writes_nothing_of_a_value_that_cannot_be_encoded() {
    let mut out = Failing(0);
    let error = Message::req_pages(0, 0).encode_to(&mut out).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("[zero]"), "{error}");
    let error = bitmap::encode_to(Bitmap::new(&[0; 7]), &mut out).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("[bitmap-size]"), "{error}");
    assert_eq!(out.0, 0);
}

#[test]
fn constructors_need_no_type_annotation() {
    let block = Name::new(b"a").expect("a name");
    let mut bytes = Vec::new();
    Message::shut(0).encode(&mut bytes).expect("valid");
    Message::req_pages_id(0, 4096, block)
        .encode(&mut bytes)
        .expect("valid");
    Message::req_pages(0, 4096)
        .encode(&mut bytes)
        .expect("valid");
    Message::recv_bitmap(block)
        .encode(&mut bytes)
        .expect("valid");
    Message::resume_ack().encode(&mut bytes).expect("valid");
    Message::switchover_ack().encode(&mut bytes).expect("valid");
    v7::Message::req_pages(0, 4096, None)
        .encode(&mut bytes)
        .expect("valid");
    let ranges = [Range::new(0, 1).expect("a range")];
    let ranges = Ranges::new(&ranges).expect("not empty");
    Command::postcopy_ram_discard(block, ranges)
        .encode(&mut bytes)
        .expect("valid");
    Command::postcopy_advise(None)
        .encode(&mut bytes)
        .expect("valid");
    assert_eq!(Ranges::new(&[]), Err(Rule::Short));
    let empty = Range { start: 0, len: 0 };
    assert_eq!(Ranges::new(&[empty]), Err(Rule::Zero));
}

#[test]
fn constructors_make_their_message() {
    let block = Name::new(b"a").expect("a name");
    let ranges = [Range::new(0, 1).expect("a range")];
    let ranges = Ranges::new(&ranges).expect("not empty");
    let commands = [
        Command::open_return_path(),
        Command::ping(1),
        Command::postcopy_advise(None),
        Command::postcopy_listen(),
        Command::postcopy_run(),
        Command::postcopy_ram_discard(block, ranges),
        Command::packaged(1),
        Command::enable_colo(),
        Command::postcopy_resume(),
        Command::recv_bitmap(block),
        Command::switchover_start(),
    ];
    let numbers: Vec<u16> = commands.iter().map(Command::number).collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<u16>>());
    let draft = [
        v7::Message::shut(1),
        v7::Message::pong(1),
        v7::Message::req_pages(0, 2, Some(block)),
    ];
    let numbers: Vec<u16> = draft.iter().map(v7::Message::number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

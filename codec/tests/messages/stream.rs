//! The incremental decoder: splits, ends and errors.

use retpath_codec::stream::{ItemBuf, Stream};
use retpath_codec::{DecodeError, Dialect, Message, NameBuf, Qemu, Rule, V7, check, v7};

use crate::samples::{Samples, hex, name};

type Buf = ItemBuf<Message<NameBuf>>;

/// Maximum size of the bitmaps in these tests, in bytes.
const LIMIT: u64 = 64;

const BITMAP_1: &str = "0000000000000018  ff03000000000000 0000000000000080 0100000000000000  \
                        0123456789abcdef";
const BITMAP_2: &str = "0000000000000008  0000000000000000  0123456789abcdef";

/// A return path with every kind of message.
fn session() -> Vec<u8> {
    hex(&[
        "0007 0000",
        "0002 0004 00000001",
        "0003 0013  0000000003316000 00001000 06 'pc.ram'",
        "0004 000c  0000000003317000 00001000",
        "0005 0007  06 'pc.ram'",
        BITMAP_1,
        "0005 0002  01 'x'",
        BITMAP_2,
        "0006 0004 00000001",
        "0003 000e  0000000000000000 00001000 01 'x'",
        "0001 0004 00000000",
    ]
    .concat())
}

/// The items of the session.
fn items() -> Vec<Buf> {
    let message = |offset, message| ItemBuf::Message { offset, message };
    let bitmap = |offset, text: &str| {
        let trailer = hex(text);
        let bytes = trailer[8..trailer.len() - 8].to_vec();
        ItemBuf::Bitmap { offset, bytes }
    };
    let request = |start, block| Message::ReqPagesId {
        start,
        len: 4096,
        block: name(block),
    };
    vec![
        message(0, Message::SwitchoverAck),
        message(4, Message::Pong { value: 1 }),
        message(12, request(0x331_6000, "pc.ram")),
        message(
            35,
            Message::ReqPages {
                start: 0x331_7000,
                len: 4096,
            },
        ),
        message(
            51,
            Message::RecvBitmap {
                block: name("pc.ram"),
            },
        ),
        bitmap(62, BITMAP_1),
        message(102, Message::RecvBitmap { block: name("x") }),
        bitmap(108, BITMAP_2),
        message(132, Message::ResumeAck),
        message(140, request(0, "x")),
        message(158, Message::Shut { value: 0 }),
    ]
}

/// Returns the items of `bytes` in one piece, and the end.
fn read<D: Dialect>(bytes: &[u8], limit: u64) -> (Vec<ItemBuf<D::Owned>>, Result<(), DecodeError>) {
    let mut stream = Stream::<D>::new(limit);
    let mut input = bytes;
    let mut items = Vec::new();
    loop {
        match stream.next_owned(&mut input) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, stream.finish()),
            Err(error) => return (items, Err(error)),
        }
    }
}

fn error(offset: u64, message: Option<&'static str>, rule: Rule) -> Result<(), DecodeError> {
    let field = message.map(|_| "bitmap");
    Err(DecodeError::new(offset, message, field, rule))
}

#[test]
fn yields_every_item_with_its_offset() {
    assert_eq!(read::<Qemu>(&session(), LIMIT), (items(), Ok(())));
}

#[test]
fn yields_the_same_in_any_two_or_three_pieces() {
    let session = session();
    for first in 0..=session.len() {
        for second in 0..=session.len() - first {
            check::split::<Qemu>(&session, LIMIT, [first, second]);
        }
    }
}

#[test]
fn yields_the_same_in_pieces_of_any_one_size() {
    let session = session();
    for size in 1..=session.len() {
        check::split::<Qemu>(
            &session,
            LIMIT,
            std::iter::repeat_n(size, session.len() / size),
        );
    }
}

#[test]
fn yields_the_same_of_any_session_that_ends_early() {
    let session = session();
    for end in 0..session.len() {
        check::stream::<Qemu>(&session[..end], LIMIT, [1, end / 3, 0, end / 2]);
    }
}

#[test]
fn yields_the_same_of_any_session_with_a_wrong_byte() {
    let session = session();
    for at in 0..session.len() {
        for wrong in [0, 1, 0xff] {
            let mut session = session.clone();
            session[at] ^= wrong ^ 0x10;
            check::split::<Qemu>(&session, LIMIT, std::iter::repeat_n(1, at + 20));
            check::split::<V7>(&session, LIMIT, [at]);
        }
    }
}

#[test]
fn yields_the_same_of_any_samples_in_a_row() {
    fn all<D: Samples>(end: &str) {
        let mut bytes: Vec<u8> = D::samples()
            .into_iter()
            .filter(|sample| !sample.bytes.starts_with(&[0, 1]))
            .flat_map(|sample| {
                let trailer = if sample.bytes.starts_with(&[0, 5]) {
                    BITMAP_1
                } else {
                    ""
                };
                [sample.bytes, hex(trailer)].concat()
            })
            .collect();
        bytes.extend(hex(end));
        let (items, end) = read::<D>(&bytes, LIMIT);
        assert!(items.len() > 4);
        assert_eq!(end, Ok(()));
        for first in 0..bytes.len() {
            check::split::<D>(&bytes, LIMIT, [first]);
        }
        check::split::<D>(&bytes, LIMIT, std::iter::repeat_n(1, bytes.len()));
    }
    all::<Qemu>("0001 0004 00000000");
    all::<V7>("0001 0004 00000001");
}

#[test]
fn reads_the_draft() {
    let bytes = hex("0003 0017  0000000003316000 0000000000001001 06 'pc.ram'  0001 0004 00000001");
    let block = Some(name("pc.ram"));
    let message = v7::Message::ReqPages {
        start: 0x331_6000,
        len: 4096,
        block,
    };
    let expected = vec![
        ItemBuf::Message { offset: 0, message },
        ItemBuf::Message {
            offset: 27,
            message: v7::Message::Shut { value: 1 },
        },
    ];
    assert_eq!(read::<V7>(&bytes, 0), (expected, Ok(())));
}

mod ends {
    use super::*;

    #[test]
    fn accepts_an_end_between_items() {
        assert_eq!(read::<Qemu>(b"", LIMIT), (vec![], Ok(())));
        let (items, end) = read::<Qemu>(&hex("0007 0000"), LIMIT);
        assert_eq!((items.len(), end), (1, Ok(())));
    }

    #[test]
    fn refuses_an_end_inside_a_header() {
        let (items, end) = read::<Qemu>(&hex("0007 0000 0002 00"), LIMIT);
        assert_eq!(items.len(), 1);
        assert_eq!(end, error(4, None, Rule::CutShort { have: 3, need: 1 }));
        assert!(!end.expect_err("is cut short").is_peer_fault());
    }

    #[test]
    fn refuses_an_end_inside_a_payload() {
        let (_, end) = read::<Qemu>(&hex("0007 0000 0002 0004 00"), LIMIT);
        assert_eq!(end, error(4, None, Rule::CutShort { have: 5, need: 3 }));
    }

    #[test]
    fn refuses_an_end_before_or_inside_a_bitmap() {
        let message = Some("RECV_BITMAP");
        for (text, have, need) in [
            ("0005 0002 01 'x'", 0, 8),
            ("0005 0002 01 'x' 0000000000000008 00", 9, 15),
        ] {
            let (items, end) = read::<Qemu>(&hex(text), LIMIT);
            assert_eq!(items.len(), 1);
            let rule = Rule::CutShort { have, need };
            assert_eq!(end, Err(DecodeError::new(6, message, None, rule)));
        }
    }

    #[test]
    fn refuses_bytes_after_shut() {
        let (items, end) = read::<Qemu>(&hex("0001 0004 00000000 0002 0004 00000001"), LIMIT);
        assert_eq!(items.len(), 1);
        assert_eq!(end, error(8, None, Rule::AfterShut));
        let mut stream = Stream::<V7>::new(LIMIT);
        assert!(matches!(
            stream.next(&mut &hex("0001 0004 00000001")[..]),
            Ok(Some(_))
        ));
        assert_eq!(stream.next(&mut &[][..]), Ok(None));
        assert_eq!(stream.finish(), Ok(()));
        let late = stream.next(&mut &[0][..]).expect_err("follows SHUT");
        assert_eq!((late.offset, late.rule), (8, Rule::AfterShut));
        assert_eq!(stream.finish(), Err(late));
    }
}

mod errors {
    use super::*;

    #[test]
    fn returns_the_same_error_again() {
        let mut stream = Stream::<Qemu>::new(LIMIT);
        let bytes = hex("0002 0004 00000001 0100 0000 0002 0004 00000001");
        let mut input = &bytes[..];
        assert!(matches!(stream.next(&mut input), Ok(Some(_))));
        let error = stream
            .next(&mut input)
            .expect_err("there is no message 256");
        assert_eq!(
            (error.offset, error.rule),
            (8, Rule::Unknown { number: 256 })
        );
        for mut more in [&[][..], &bytes, &[0]] {
            assert_eq!(stream.next(&mut more), Err(error));
        }
        assert_eq!((stream.finish(), stream.offset()), (Err(error), 8));
    }

    #[test]
    fn refuses_at_the_first_byte_that_decides() {
        for (bytes, deciding) in [
            ("0009 0000", 3),
            ("0001 0005 00", 3),
            ("0004 000c 0000000000000000 00000000", 15),
            ("0005 0002 01 'x' 0000000000000009", 13),
            (
                "0005 0002 01 'x' 0000000000000008 0000000000000000 0000000000000000",
                29,
            ),
        ] {
            let bytes = hex(bytes);
            let mut stream = Stream::<Qemu>::new(LIMIT);
            let refused = bytes.iter().position(|byte| {
                let mut input = std::slice::from_ref(byte);
                loop {
                    match stream.next(&mut input) {
                        Ok(Some(_)) => {}
                        Ok(None) => return false,
                        Err(_) => return true,
                    }
                }
            });
            assert_eq!(refused, Some(deciding), "{bytes:02x?}");
        }
    }

    #[test]
    fn reports_offsets_from_the_start_of_the_stream() {
        let text = |bad: &str| hex(&["0007 0000 0005 0002 01 'x'", BITMAP_2, bad].concat());
        let (_, end) = read::<Qemu>(&text("0004 000c 0000000000001000 00000000"), LIMIT);
        let end = end.expect_err("is malformed");
        assert_eq!((end.offset, end.rule), (34 + 12, Rule::Zero));
        let (_, end) = read::<Qemu>(&hex("0007 0000 0005 0002 01 'x' 0000000000000007"), LIMIT);
        assert_eq!(
            end,
            error(10, Some("RECV_BITMAP"), Rule::BitmapSize { size: 7 })
        );
        let text = "0005 0002 01 'x' 0000000000000008 0000000000000000 0000000000000001";
        let (_, end) = read::<Qemu>(&hex(text), LIMIT);
        assert_eq!(
            end,
            error(22, Some("RECV_BITMAP"), Rule::BitmapEnd { got: 1 })
        );
    }
}

#[test]
fn is_little_larger_than_the_longest_frame() {
    let frame = Qemu::HEADER + Qemu::MAX_PAYLOAD;
    let size = size_of::<Stream<Qemu>>();
    assert!((frame..frame + 200).contains(&size), "{size}");
    assert_eq!(size, size_of::<Stream<V7>>());
}

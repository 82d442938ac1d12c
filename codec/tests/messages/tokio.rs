//! The codecs for `tokio_util` on framed connections.

use futures_util::{SinkExt, StreamExt};
use retpath_codec::bitmap::Bitmap;
use retpath_codec::forward::{Event, Options};
use retpath_codec::stream::ItemBuf;
use retpath_codec::tokio::{Error, Forward, ForwardItem, Item, ReturnPath};
use retpath_codec::{Message, Name, NameBuf, Qemu, Rule, V7, v7};
use tokio::io::{AsyncWriteExt, duplex};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder, Framed, FramedRead};

use crate::samples::{Samples, hex, name};

const LIMIT: u64 = 64;

/// Runs a future on the current thread.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime
        .expect("a runtime without a driver")
        .block_on(future)
}

/// Returns the items of a connection that carries `bytes` in pieces, and its end.
fn read(bytes: Vec<u8>, pieces: usize) -> (Vec<Item<Qemu>>, Option<Error>) {
    run(async {
        let (mut to, from) = duplex(64);
        let sent = async move {
            for piece in bytes.chunks(pieces) {
                to.write_all(piece).await.expect("the reader is there");
            }
        };
        let received = async {
            let mut framed = FramedRead::new(from, ReturnPath::<Qemu>::new(LIMIT));
            let mut items = Vec::new();
            while let Some(item) = framed.next().await {
                match item {
                    Ok(item) => items.push(item),
                    Err(error) => return (items, Some(error)),
                }
            }
            (items, None)
        };
        tokio::join!(sent, received).1
    })
}

fn session() -> Vec<u8> {
    hex(
        "0002 0004 00000001  0005 0002 01 'x' 0000000000000008 ff00000000000000 0123456789abcdef \
         0003 0013 0000000003316000 00001000 06 'pc.ram'  0001 0004 00000000",
    )
}

#[test]
fn reads_items_in_pieces_of_any_size() {
    let block = name("pc.ram");
    let expected: Vec<Item<Qemu>> = vec![
        ItemBuf::Message {
            offset: 0,
            message: Message::Pong { value: 1 },
        },
        ItemBuf::Message {
            offset: 8,
            message: Message::RecvBitmap { block: name("x") },
        },
        ItemBuf::Bitmap {
            offset: 14,
            bytes: vec![0xff, 0, 0, 0, 0, 0, 0, 0],
        },
        ItemBuf::Message {
            offset: 38,
            message: Message::ReqPagesId {
                start: 0x331_6000,
                len: 4096,
                block,
            },
        },
        ItemBuf::Message {
            offset: 61,
            message: Message::Shut { value: 0 },
        },
    ];
    for pieces in 1..=session().len() {
        let (items, error) = read(session(), pieces);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(items, expected);
    }
}

#[test]
fn fails_when_the_connection_ends_inside_an_item() {
    let ends = [0, 8, 38, 61, 69];
    for size in (0..session().len()).filter(|size| !ends.contains(size)) {
        let (_, error) = read(session()[..size].to_vec(), 5);
        let Some(Error::Decode(error)) = error else {
            panic!("{error:?} after {size} bytes");
        };
        assert!(matches!(error.rule, Rule::CutShort { .. }), "{error}");
    }
}

#[test]
fn returns_buffered_items_when_the_connection_ends() {
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    let mut bytes = BytesMut::from(&session()[..]);
    let mut items = Vec::new();
    while let Some(item) = codec.decode_eof(&mut bytes).expect("is whole") {
        items.push(item);
    }
    assert_eq!((items.len(), bytes.len()), (5, 0));
    assert_eq!(items, read(session(), 7).0);
}

#[test]
fn returns_the_error_of_a_malformed_message_again() {
    let (items, error) = read(hex("0007 0000 0100 0000 0007 0000"), 3);
    assert_eq!(items.len(), 1);
    let error = error.expect("there is no message 256");
    assert_eq!(
        error.to_string(),
        "malformed input at offset 4 (0x4): unknown message number 256 (0x0100) [unknown]"
    );
    assert!(std::error::Error::source(&error).is_some());
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    let mut bytes = BytesMut::from(&[1, 0, 0, 0][..]);
    assert!(codec.decode(&mut bytes).is_err());
    assert!(
        codec
            .decode(&mut BytesMut::from(&[0, 7, 0, 0][..]))
            .is_err()
    );
    assert!(codec.decode_eof(&mut BytesMut::new()).is_err());
}

#[test]
fn refuses_a_bitmap_over_the_limit() {
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    codec.limit_bitmap(7);
    let mut bytes = BytesMut::from(&session()[8..]);
    assert!(matches!(codec.decode(&mut bytes), Ok(Some(_))));
    let Err(Error::Decode(error)) = codec.decode(&mut bytes) else {
        panic!("takes the bitmap");
    };
    assert_eq!(error.rule, Rule::BitmapLimit { size: 8, limit: 7 });
}

#[test]
fn encodes_what_it_decodes() {
    let (items, _) = read(session(), 16);
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    let mut out = BytesMut::new();
    for item in items {
        codec.encode(item, &mut out).expect("was decoded");
    }
    assert_eq!(out, session());
}

#[test]
fn encodes_messages_of_both_dialects() {
    let mut out = BytesMut::new();
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    for sample in Qemu::samples() {
        codec
            .encode(sample.value, &mut out)
            .expect("a sample is valid");
        assert_eq!(out.split(), sample.bytes);
    }
    let block = Name::new(b"x").expect("a name");
    codec
        .encode(Message::RecvBitmap { block }, &mut out)
        .expect("is valid");
    codec
        .encode(Bitmap::new(&[1, 0, 0, 0, 0, 0, 0, 0]), &mut out)
        .expect("is valid");
    assert_eq!(
        out,
        hex("0005 0002 01 'x' 0000000000000008 0100000000000000 0123456789abcdef")
    );
    let mut codec = ReturnPath::<V7>::new(LIMIT);
    for sample in V7::samples() {
        out.clear();
        codec
            .encode(sample.value, &mut out)
            .expect("a sample is valid");
        assert_eq!(out, sample.bytes);
    }
}

#[test]
fn refuses_to_encode_what_no_receiver_would_accept() {
    let mut out = BytesMut::from(&b"before"[..]);
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    let zero = Message::<NameBuf>::ReqPages { start: 0, len: 0 };
    let Err(Error::Encode(error)) = codec.encode(zero, &mut out) else {
        panic!("writes a request of no bytes");
    };
    assert_eq!(error.rule, Rule::Zero);
    let Err(Error::Encode(error)) = codec.encode(Bitmap::new(&[0; 7]), &mut out) else {
        panic!("writes a bitmap of 7 bytes");
    };
    assert_eq!(
        (error.message, error.rule),
        ("RECV_BITMAP", Rule::BitmapSize { size: 7 })
    );
    let odd = v7::Message::<NameBuf>::ReqPages {
        start: 0,
        len: 1,
        block: None,
    };
    assert!(ReturnPath::<V7>::new(LIMIT).encode(odd, &mut out).is_err());
    assert_eq!(out, b"before"[..]);
}

#[test]
fn carries_a_conversation() {
    let echoed = run(async {
        let (here, there) = duplex(16);
        let mut here = Framed::new(here, ReturnPath::<Qemu>::new(LIMIT));
        let mut there = Framed::new(there, ReturnPath::<Qemu>::new(LIMIT));
        let echo = async move {
            while let Some(item) = there.next().await {
                there
                    .send(item.expect("is valid"))
                    .await
                    .expect("the peer is there");
            }
        };
        let talk = async move {
            let mut echoed = Vec::new();
            for value in 0..10 {
                here.send(Message::<NameBuf>::Pong { value })
                    .await
                    .expect("the peer is there");
                echoed.push(here.next().await.expect("an answer").expect("is valid"));
            }
            echoed
        };
        tokio::join!(echo, talk).1
    });
    assert_eq!(echoed.len(), 10);
    let message = Message::Pong { value: 9 };
    assert_eq!(
        echoed.last(),
        Some(&ItemBuf::Message {
            offset: 72,
            message
        })
    );
}

#[test]
fn passes_on_the_error_of_the_connection() {
    let error = Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    assert!(matches!(&error, Error::Io(io) if io.kind() == std::io::ErrorKind::BrokenPipe));
    assert!(
        error.to_string().starts_with("connection failed: "),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
}

/// Reads a channel that arrives in pieces of `pieces` bytes.
fn read_forward(
    codec: Forward,
    bytes: &[u8],
    pieces: usize,
) -> (Vec<ForwardItem>, Option<Error>, Forward) {
    run(async {
        let (mut to, from) = duplex(64);
        let sent = async move {
            for piece in bytes.chunks(pieces) {
                to.write_all(piece).await.expect("the reader is there");
            }
        };
        let received = async {
            let mut framed = FramedRead::new(from, codec);
            let mut items = Vec::new();
            let mut end = None;
            while let Some(item) = framed.next().await {
                match item {
                    Ok(item) => items.push(item),
                    Err(error) => {
                        end = Some(error);
                        break;
                    }
                }
            }
            (items, end, framed.decoder().clone())
        };
        tokio::join!(sent, received).1
    })
}

fn forward() -> Vec<u8> {
    hex(
        "5145564d 00000003  01 00000001 03 'ram' 00000000 00000004  0000000000001004 01 'a' \
         0000000000001000 0000000000000010 7e 00000001  00",
    )
}

#[test]
fn reads_a_forward_stream_in_pieces_of_any_size() {
    let bytes = forward();
    for pieces in 1..bytes.len() {
        let (items, error, codec) = read_forward(Forward::new(Options::default()), &bytes, pieces);
        assert!(error.is_none(), "{error:?}");
        let labels: Vec<_> = items
            .iter()
            .map(|item| (item.offset, item.event.as_event().label()))
            .collect();
        let wanted = [
            (0, "HEADER"),
            (8, "SECTION_START"),
            (25, "MEM_SIZE"),
            (33, "BLOCK"),
            (43, "EOS"),
            (51, "SECTION_FOOTER"),
            (56, "EOF"),
        ];
        assert_eq!(labels, wanted, "in pieces of {pieces}");
        assert_eq!(codec.decoder().blocks()[0].name, name("a"));
        assert!(codec.into_decoder().has_ended());
    }
}

#[test]
fn fails_when_a_forward_stream_ends_early_or_is_malformed() {
    let bytes = forward();
    let new = || Forward::new(Options::default());
    let cut = read_forward(new(), &bytes[..20], 7).1;
    let Some(Error::Decode(error)) = cut else {
        panic!("{cut:?}");
    };
    assert_eq!((error.offset, error.rule.name()), (8, "cut-short"));
    let mut bad = bytes;
    bad[0] = 0;
    let bad = read_forward(new(), &bad, 7).1;
    assert_eq!(
        bad.expect("an error").to_string().split(',').next(),
        Some("malformed input at offset 0 (0x0)")
    );
}

#[test]
fn returns_device_state_that_ends_with_the_channel() {
    // A precopy stream without footers: the device state is the rest.
    let bytes = hex(
        "5145564d 00000003  01 00000001 03 'ram' 00000000 00000004 0000000000000010 \
                     04 00000002 01 't' 00000000 00000001 0102",
    );
    let (items, error, _) = read_forward(Forward::new(Options::default()), &bytes, 64);
    assert!(error.is_none(), "{error:?}");
    let last = items.last().expect("events").event.as_event();
    assert_eq!(
        last,
        Event::DeviceState {
            id: 2,
            bytes: &[1, 2]
        }
    );
}

#[test]
fn returns_buffered_events_at_the_end_of_the_input() {
    let mut codec = Forward::new(Options::default());
    let mut input = BytesMut::from(&b"QEVM\0\0\0\x03\0"[..]);
    for label in ["HEADER", "EOF"] {
        let item = codec
            .decode_eof(&mut input)
            .expect("valid")
            .expect("an event");
        assert_eq!(item.event.as_event().label(), label);
    }
    assert_eq!(codec.decode_eof(&mut input).expect("valid"), None);
}

#[test]
fn returns_the_error_of_malformed_events_at_the_end_of_the_input() {
    let mut codec = Forward::new(Options::default());
    let mut input = BytesMut::from(&b"QEVN\0\0\0\x03"[..]);
    let error = codec.decode_eof(&mut input).expect_err("another magic");
    assert!(matches!(error, Error::Decode(_)), "{error}");
}

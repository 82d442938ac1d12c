//! The codec for `tokio_util`: items in and out of a framed connection.

use futures_util::{SinkExt, StreamExt};
use retpath_codec::bitmap::Bitmap;
use retpath_codec::stream::ItemBuf;
use retpath_codec::tokio::{Error, Item, ReturnPath};
use retpath_codec::{Message, Name, NameBuf, Qemu, Rule, V7, v7};
use tokio::io::{AsyncWriteExt, duplex};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder, Framed, FramedRead};

use crate::samples::{Samples, hex, name};

const LIMIT: u64 = 64;

/// Runs a future without a thread of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime
        .expect("a runtime without a driver")
        .block_on(future)
}

/// What comes out of a connection that carries `bytes` in pieces, and how it
/// ends.
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
fn hands_out_what_is_left_when_the_connection_ends() {
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
fn fails_at_a_malformed_message_and_stays_so() {
    let (items, error) = read(hex("0007 0000 0100 0000 0007 0000"), 3);
    assert_eq!(items.len(), 1);
    let error = error.expect("there is no message 256");
    assert_eq!(
        error.to_string(),
        "malformed return path: offset 4 (0x4): no message has number 256 (0x0100) [unknown]"
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
fn writes_what_it_reads() {
    let (items, _) = read(session(), 16);
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    let mut out = BytesMut::new();
    for item in items {
        codec.encode(item, &mut out).expect("was decoded");
    }
    assert_eq!(out, session());
}

#[test]
fn writes_messages_of_both_dialects_borrowed_and_owned() {
    let mut out = BytesMut::new();
    let mut codec = ReturnPath::<Qemu>::new(LIMIT);
    for sample in Qemu::samples() {
        codec
            .encode(sample.value, &mut out)
            .expect("a sample is sound");
        assert_eq!(out.split(), sample.bytes);
    }
    let block = Name::new(b"x").expect("a name");
    codec
        .encode(Message::RecvBitmap { block }, &mut out)
        .expect("is sound");
    codec
        .encode(Bitmap::new(&[1, 0, 0, 0, 0, 0, 0, 0]), &mut out)
        .expect("is sound");
    assert_eq!(
        out,
        hex("0005 0002 01 'x' 0000000000000008 0100000000000000 0123456789abcdef")
    );
    let mut codec = ReturnPath::<V7>::new(LIMIT);
    for sample in V7::samples() {
        out.clear();
        codec
            .encode(sample.value, &mut out)
            .expect("a sample is sound");
        assert_eq!(out, sample.bytes);
    }
}

#[test]
fn refuses_to_write_what_no_receiver_would_take() {
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
                    .send(item.expect("is sound"))
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
                echoed.push(here.next().await.expect("an answer").expect("is sound"));
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
fn passes_on_what_the_connection_says() {
    let error = Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    assert!(matches!(&error, Error::Io(io) if io.kind() == std::io::ErrorKind::BrokenPipe));
    assert!(error.to_string().starts_with("return path: "), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

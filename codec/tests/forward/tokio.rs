//! The forward stream on framed connections.

use futures_util::{SinkExt, StreamExt};
use proptest::collection::vec;
use proptest::prelude::*;
use retpath_codec::command::{Command, Range, RangeBuf};
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{BlockIndex, Decoder, Event, Options};
use retpath_codec::tokio::{Error, Forward};
use retpath_codec::{NameBuf, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Encoder, FramedRead, FramedWrite};

use crate::capture::capture;
use crate::kit::{RAM, ROM, Stream, drain, fresh};
use crate::recipe::by_hand;
use crate::write::everything;

fn new() -> Forward {
    Forward::new(Options::default())
}

/// Sends a channel in pieces of these sizes, decodes it, encodes it to a second
/// connection, and returns what arrives there.
fn relay(source: Forward, sink: Forward, bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut to, from) = duplex(1 << 12);
    let (relayed, mut back) = duplex(1 << 12);
    let send = async move {
        let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
        while !rest.is_empty() {
            let size = sizes
                .next()
                .map_or(rest.len(), |size| rest.len().min(*size));
            let (piece, behind) = rest.split_at(size);
            to.write_all(piece).await.expect("the reader is there");
            rest = behind;
        }
    };
    let pass_on = async move {
        let mut source = FramedRead::new(from, source);
        let mut sink = FramedWrite::new(relayed, sink);
        while let Some(item) = source.next().await {
            let item = item.expect("valid input");
            sink.send(item).await.expect("the reader is there");
        }
    };
    let receive = async move {
        let mut all = Vec::new();
        back.read_to_end(&mut all).await.expect("a connection");
        all
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without a driver");
    runtime.block_on(async { tokio::join!(send, pass_on, receive).2 })
}

/// Generates RAM records: block, page, whether the block is named, whether the page
/// is zero.
fn records() -> impl Strategy<Value = Stream> {
    let record = (any::<bool>(), 0..2_u64, any::<bool>(), any::<bool>());
    vec(record, 0..40).prop_map(|records| {
        let (mut out, mut last) = (Stream::default(), None);
        for (rom, page, named, zero) in records {
            let block = if rom { ROM.0 } else { RAM.0 };
            let name = (named || last != Some(rom)).then_some(block);
            last = Some(rom);
            out = match zero {
                true => out.zero(page * 4096, name),
                false => out.page(page * 4096, name),
            };
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn relays_main_and_preempt_channels_in_any_split(
        records in records(),
        sizes in vec(prop_oneof![1..9_usize, 1..5000_usize], 1..40),
    ) {
        let main = Stream::switched().part(1).raw(&records).eos(1).end(1).eos(1).eof().0;
        prop_assert!(relay(new(), new(), &main, &sizes) == main);

        let mut decoder = fresh();
        drain(&mut decoder, &Stream::switched().0, |_, _, _| {}).unwrap();
        let preempt = records.word(0x10).0;
        let mut informed = new();
        informed.set_blocks(decoder.blocks().to_vec());
        for sink in [decoder.preempt().into(), informed] {
            let source = decoder.preempt().into();
            prop_assert!(relay(source, sink, &preempt, &sizes) == preempt);
        }
    }

    #[test]
    fn relays_every_item_in_any_split(
        sizes in vec(prop_oneof![1..9_usize, 1..5000_usize], 1..40),
    ) {
        for bytes in [everything().0, by_hand()] {
            prop_assert!(relay(new(), new(), &bytes, &sizes) == bytes);
        }
    }
}

#[test]
fn relays_recordings() {
    for name in ["qemu-7.2-plain.ch0.fwd", "qemu-10.0-preempt.ch0.fwd"] {
        let bytes = capture(name);
        assert!(
            relay(new(), new(), &bytes, &[1000, 7, 60_000]) == bytes,
            "{name}"
        );
    }
}

#[test]
fn encodes_commands_and_events() {
    let mut out = BytesMut::new();
    let mut codec = new();
    codec.encode(Event::Header, &mut out).unwrap();
    let ping = Command::<NameBuf, RangeBuf>::Ping { value: 1 };
    codec.encode(ping, &mut out).unwrap();
    codec.encode(Event::Eof, &mut out).unwrap();
    assert_eq!(out, b"QEVM\0\0\0\x03\x08\0\x02\0\x04\0\0\0\x01\0"[..]);
}

#[test]
fn refuses_to_encode_what_no_receiver_would_accept() {
    let mut out = BytesMut::from(&b"before"[..]);
    let zero = Record::Zero {
        block: BlockIndex::new(0),
        offset: 0,
        fill: 0,
        named: true,
    };
    let refused = new().encode(Event::Record(zero), &mut out);
    let Err(Error::Encode(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.rule, Rule::UnknownBlock);

    let ranges = vec![Range { start: 0, len: 1 }; 4095];
    let discard = Command::PostcopyRamDiscard {
        block: NameBuf::new([b'a'; 255]).unwrap(),
        ranges: RangeBuf::new(ranges).unwrap(),
    };
    let refused = new().encode(discard, &mut out);
    let Err(Error::Encode(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.rule.name(), "too-long");
    assert_eq!(out, b"before"[..]);
}

#[test]
fn a_codec_for_a_resumed_channel_names_the_blocks_of_the_first() {
    let mut first = fresh();
    drain(&mut first, &Stream::switched().0, |_, _, _| {}).unwrap();
    let resumed = Stream::default()
        .command(Command::PostcopyResume)
        .part(1)
        .zero(0, Some(ROM.0))
        .eos(1)
        .end(1)
        .eos(1)
        .eof()
        .0;
    let decoder: Decoder = first.resume();
    let bytes = relay(decoder.clone().into(), decoder.into(), &resumed, &[3]);
    assert!(bytes == resumed);
}

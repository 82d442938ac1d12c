//! Incomplete input: every prefix asks for more, never for too much, and the split
//! makes no difference.

use retpath_codec::Rule;
use retpath_codec::command::Command;
use retpath_codec::forward::{Decoded, Decoder, Event, MAX_ITEM, Options, SectionKind, write};
use retpath_random::Random;

use crate::capture::capture;
use crate::device::old_discarded;
use crate::kit::{Stream, drain, fresh, name};
use crate::recipe::by_hand;
use crate::write::everything;

/// A valid channel.
struct Sample {
    what: &'static str,
    decoder: Decoder,
    bytes: Vec<u8>,
    /// Sizes at which it may end.
    ends: Vec<usize>,
}

fn samples() -> Vec<Sample> {
    let mut first = fresh();
    drain(&mut first, &Stream::switched().0, |_, _, _| {}).unwrap();
    let precopy = Stream::listed()
        .end(1)
        .eos(1)
        .device(7, b"timer", [0x7e; 9])
        .device(8, b"cpu", [])
        .eof();
    let precopy_eof = precopy.0.len();
    let precopy = precopy.description(b"{\"page_size\": 4096}").0;
    let resumed = Stream::default()
        .command(Command::PostcopyResume)
        .part(1)
        .zero(0, Some(b"pc.ram"))
        .eos(1)
        .end(1)
        .eos(1)
        .eof()
        .0;
    let preempt = Stream::default().page(0, Some(b"pc.ram"));
    let one = preempt.0.len();
    let preempt = preempt.zero(4096, None);
    let two = preempt.0.len();
    let preempt = preempt.word(0x10).0;
    let package = Stream::default()
        .listen()
        .head(SectionKind::Full, 5, b"timer")
        .raw([8, 0, 2, 0x7e])
        .run();
    let old = old_discarded().package(&package).end(1).word(0x10).eof().0;
    let records = vec![0, one, two, preempt.len()];
    let all = everything().0;
    let eof = all.len() - 7;
    let sample = |what, decoder, bytes: &Vec<u8>, ends: &[usize]| Sample {
        what,
        decoder,
        bytes: bytes.clone(),
        ends: [ends, &[bytes.len()]].concat(),
    };
    let blind = Options::default;
    vec![
        sample("postcopy", fresh(), &by_hand(), &[]),
        sample("precopy", fresh(), &precopy, &[precopy_eof]),
        sample("everything", fresh(), &all, &[eof]),
        sample("without footers", fresh(), &old, &[]),
        sample("resumed", first.resume(), &resumed, &[]),
        sample("preempt", first.preempt(), &preempt, &records),
        sample(
            "blind resumed",
            Decoder::blind_resumed(blind()),
            &resumed,
            &[],
        ),
        sample(
            "blind preempt",
            Decoder::blind_preempt(blind()),
            &preempt,
            &records,
        ),
    ]
}

#[test]
fn asks_for_more_at_every_prefix() {
    for sample in samples() {
        for size in 0..=sample.bytes.len() {
            let what = format!("{}: {size}", sample.what);
            let mut decoder = sample.decoder.clone();
            let left = drain(&mut decoder, &sample.bytes[..size], |_, _, _| {}).unwrap();
            match decoder.finish(left) {
                Ok(()) => assert!(sample.ends.contains(&size), "{what}"),
                Err(error) => {
                    assert!(!sample.ends.contains(&size), "{what}: {error}");
                    let Rule::CutShort { have, need } = error.rule else {
                        panic!("{what}: {error}");
                    };
                    assert!(have <= left.len() && need > 0);
                }
            }
        }
    }
}

#[test]
fn never_asks_for_more_than_the_item_has() {
    for Sample {
        what,
        decoder: start,
        bytes,
        ..
    } in samples()
    {
        let mut decoder = start;
        let mut at = 0;
        let mut have = 0;
        while at < bytes.len() {
            match decoder.next(&bytes[at..at + have]).unwrap() {
                Decoded::Event { size, .. } => {
                    at += size;
                    have = 0;
                }
                Decoded::Need(need) => {
                    // One byte less is insufficient.
                    let less = &bytes[at..at + have + need - 1];
                    let before = decoder.offset();
                    let step = decoder.clone().next(less).unwrap();
                    assert!(matches!(step, Decoded::Need(_)), "{what} at {at}");
                    assert_eq!(decoder.offset(), before);
                    have += need;
                }
            }
        }
    }
}

/// The events of a channel, with chunks joined.
fn history(decoder: &mut Decoder, bytes: &[u8], mut pace: impl FnMut() -> usize) -> Vec<Vec<u8>> {
    let mut history: Vec<Vec<u8>> = Vec::new();
    let mut chunk = None;
    let (mut at, mut have) = (0, 0);
    loop {
        match decoder.next(&bytes[at..at + have]).unwrap() {
            Decoded::Event { event, size } => {
                let kind = match event {
                    Event::DeviceState { id, .. } => Some(u64::from(id)),
                    Event::DescriptionBytes(_) => Some(u64::MAX),
                    _ => None,
                };
                if kind.is_none() || kind != chunk {
                    let mut entry = event.label().as_bytes().to_vec();
                    entry.extend(
                        decoder
                            .offset()
                            .to_be_bytes()
                            .iter()
                            .take_while(|_| kind.is_none()),
                    );
                    history.push(entry);
                }
                chunk = kind;
                let entry = history.last_mut().unwrap();
                event.encode(decoder.blocks(), entry).unwrap();
                at += size;
                have -= size;
            }
            Decoded::Need(_) if at + have == bytes.len() => break,
            Decoded::Need(_) => have += pace().clamp(1, bytes.len() - at - have),
        }
    }
    decoder.finish(&bytes[at..]).unwrap();
    history
}

#[test]
fn decodes_the_same_in_any_split() {
    for Sample {
        what,
        decoder: start,
        bytes,
        ..
    } in samples()
    {
        let whole = history(&mut start.clone(), &bytes, || usize::MAX);
        for size in [1, 2, 3, 5, 7, 61, 4097] {
            let split = history(&mut start.clone(), &bytes, || size);
            assert!(whole == split, "{what} in {size}s");
        }
    }
}

/// Found by fuzzing: RUN inside the state, where PING and RUN could start, was mistaken
/// for the end of the package if no later byte had arrived.
#[test]
fn decodes_state_that_contains_run_the_same_in_any_split() {
    let package = Stream::default()
        .listen()
        .head(SectionKind::Full, 5, b"timer")
        .raw([8, 0, 5, 0, 0, 1, 2, 3, 4])
        .run();
    let bytes = old_discarded().package(&package).end(1).word(0x10).eof().0;
    let whole = history(&mut fresh(), &bytes, || usize::MAX);
    assert_eq!(whole, history(&mut fresh(), &bytes, || 1));
}

#[test]
fn decodes_recordings_the_same_in_any_split() {
    let mut random = Random::new(7);
    for name in ["qemu-7.2-plain.ch0.fwd", "qemu-10.0-preempt.ch0.fwd"] {
        let bytes = capture(name);
        let whole = history(&mut fresh(), &bytes, || usize::MAX);
        let split = history(&mut fresh(), &bytes, || 1 + random.index(9001));
        assert!(whole == split, "{name}");
    }
}

#[test]
fn decodes_a_long_stream_with_a_small_buffer() {
    // Pieces are repeated, so that the stream is long and uses little memory.
    let mut buffer: Vec<u8> = Vec::new();
    let mut decoder = fresh();
    let mut largest = 0;
    let mut feed = |bytes: &[u8]| {
        buffer.extend(bytes);
        loop {
            match decoder.next(&buffer).unwrap() {
                Decoded::Event { size, .. } => drop(buffer.drain(..size)),
                Decoded::Need(need) => {
                    largest = largest.max(buffer.len() + need);
                    break;
                }
            }
        }
    };
    let start = Stream::listed().part(1).zero(0, Some(b"pc.ram"));
    feed(&start.0);
    let page = Stream::default().page(4096, None).0;
    for _ in 0..2_000 {
        feed(&page);
    }
    feed(&Stream::default().eos(1).end(1).eos(1).0);
    feed(&Stream::default().head(SectionKind::Full, 9, b"gpu").0);
    for _ in 0..2_000 {
        feed(&[0x7e; 4096]);
    }
    let json = [b"{", &[b' '; 99][..]].concat();
    feed(&Stream::default().footer(9).eof().description(&json).0);
    let offset = decoder.offset();
    decoder.finish(&[]).unwrap();
    assert!(offset > 16_000_000);
    assert!(largest <= MAX_ITEM, "{largest}");
}

#[test]
fn the_largest_item_has_max_item_bytes() {
    // A 64 KiB page that is incompressible, with the longest name.
    let options = Options::default().target_page(65536);
    let block = [b'x'; 255];
    let mut out = Stream::configured().0;
    write::ram_start(1, &mut out);
    write::mem_size(65536, &mut out).unwrap();
    write::block(name(&block), 65536, None, None, &mut out);
    let before = out.len();
    out.extend(0x100_u64.to_be_bytes());
    out.push(255);
    out.extend(block);
    let data = 65536 + 16 + 4 + 13;
    out.extend(u32::try_from(data).unwrap().to_be_bytes());
    out.extend(vec![0; data]);
    assert_eq!(out.len() - before, MAX_ITEM);
    let mut decoder = Decoder::new(options);
    let left = drain(&mut decoder, &out, |_, _, _| {}).unwrap();
    assert_eq!(left, b"");
}

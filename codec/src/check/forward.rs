//! Properties of channels of the forward stream.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::iter;

use crate::error::DecodeError;
use crate::forward::ram::Record;
use crate::forward::{Decoded, Decoder, Event, MAX_ITEM, Options};
use crate::generated::section::MAGIC;
use crate::num::wide;

/// A stream up to the switch, for the resumed and preempt channels: two blocks, of
/// which the second has larger pages.
const FIRST: &[u8] = b"QEVM\0\0\0\x03\
    \x08\0\x01\0\0\
    \x08\0\x03\0\x10\0\0\0\0\0\x01\x10\0\0\0\0\0\0\0\x10\0\
    \x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04\
    \0\0\0\0\0\x06\0\x04\
    \x06pc.ram\0\0\0\0\0\x04\0\0\
    \x07hugemem\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\
    \0\0\0\0\0\0\0\x10\x7e\0\0\0\x01\
    \x08\0\x07\0\x04\0\0\0\x0a\x08\0\x04\0\0\x08\0\x05\0\0";

/// Checks all properties of a channel of the forward stream, decoded in one piece
/// and a few bytes at a time.
///
/// Bytes that start with "QEVM" are a main channel; others are decoded as a resumed
/// channel and as a preempt channel, with a first channel and without one.
pub fn forward(bytes: &[u8]) {
    for decoder in decoders(bytes) {
        let whole = read(decoder.clone(), bytes, |_| usize::MAX);
        let pieces = read(decoder, bytes, |need| need);
        assert_eq!(whole, pieces, "the split makes a difference");
    }
}

/// Checks that a channel decodes the same in one piece and in pieces of `sizes`
/// bytes.
pub fn split_forward(bytes: &[u8], sizes: impl IntoIterator<Item = usize> + Clone) {
    for decoder in decoders(bytes) {
        let whole = read(decoder.clone(), bytes, |_| usize::MAX);
        let mut sizes = sizes.clone().into_iter();
        let pieces = read(decoder, bytes, |_| sizes.next().unwrap_or(usize::MAX));
        assert_eq!(whole, pieces, "the split makes a difference");
    }
}

/// Returns the decoders for the bytes.
fn decoders(bytes: &[u8]) -> Vec<Decoder> {
    let options = Options {
        // Keeps short inputs fast.
        max_blocks: 64,
        max_sections: 64,
        ..Options::default()
    };
    if bytes.starts_with(&MAGIC.to_be_bytes()) {
        let lax = Options {
            nonzero_fill: true,
            target_page: 1024,
            host_page: 1 << 16,
            ..options.clone()
        };
        return vec![Decoder::new(options), Decoder::new(lax)];
    }
    let mut first = Decoder::new(options.clone());
    let mut rest = FIRST;
    while let Ok(Decoded::Event { size, .. }) = first.next(rest) {
        rest = &rest[size..];
    }
    assert!(rest.is_empty() && first.is_running());
    vec![
        first.resume(),
        first.preempt(),
        Decoder::blind_resumed(options.clone()),
        Decoder::blind_preempt(options),
    ]
}

/// The events of a channel, with consecutive chunks joined, and its end.
#[derive(Debug, PartialEq)]
struct History {
    events: Vec<Seen>,
    end: Result<(), DecodeError>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    label: &'static str,
    /// The section of a chunk.
    chunk: Option<u64>,
    offset: u64,
    size: usize,
}

/// Decodes a channel and checks every step. `pace` returns how many bytes arrive
/// when that many are needed.
fn read(mut decoder: Decoder, bytes: &[u8], mut pace: impl FnMut(usize) -> usize) -> History {
    let mut events: Vec<Seen> = Vec::new();
    // Bytes that were consumed, and bytes that were offered.
    let (mut at, mut have) = (0, 0);
    let mut needed = 0;
    let end = loop {
        let view = &bytes[at..at + have];
        check_continued_page(&decoder, &bytes[at..]);
        let offset = decoder.offset();
        assert_eq!(offset, wide(at));
        match decoder.next(view) {
            Ok(Decoded::Event { event, size }) => {
                assert!(have >= needed, "came early: {event:?}");
                needed = 0;
                check_event(&decoder, &event, &view[..size]);
                record(&mut events, &event, offset, size);
                at += size;
                have -= size;
            }
            Ok(Decoded::Need(need)) => {
                assert!(need > 0 && have.saturating_add(need) <= MAX_ITEM);
                assert_eq!(decoder.offset(), offset, "took what was not enough");
                needed = needed.max(have.saturating_add(need));
                let left = bytes.len() - at - have;
                if left == 0 {
                    break decoder.finish(view);
                }
                have += pace(need).clamp(1, left);
            }
            Err(error) => {
                broken(&mut decoder, bytes, error);
                break Err(error);
            }
        }
    };
    if let Err(error) = end {
        assert!(error.offset <= wide(bytes.len()), "{error}");
        let text = error.to_string();
        assert!(text.ends_with(&format!("[{}]", error.rule.name())));
    }
    History { events, end }
}

/// Checks that an event encodes to its bytes and that its page is inside its block.
fn check_event(decoder: &Decoder, event: &Event<'_>, bytes: &[u8]) {
    let mut out = vec![0xaa];
    assert_eq!(
        event.encode(decoder.blocks(), &mut out),
        Ok(()),
        "{event:?}"
    );
    assert_eq!((out[0], &out[1..]), (0xaa, bytes), "{event:?}");
    assert_eq!(event.to_buf().as_event(), *event);
    let mut written = Vec::new();
    assert!(event.encode_to(decoder.blocks(), &mut written).is_ok());
    assert_eq!(written, bytes, "{event:?}");
    assert!(!bytes.is_empty() || *event == Event::PackageEnd);
    if let Event::Record(Record::Zero { block, offset, .. } | Record::Page { block, offset, .. }) =
        *event
    {
        let page = decoder.target_page();
        assert!(offset.is_multiple_of(page), "{event:?}");
        let block = &decoder.blocks()[block.index()];
        let end = offset.checked_add(page);
        assert!(end.is_some_and(|end| block.len.is_none_or(|len| end <= len)));
    }
    if let Event::Record(Record::Page { data, .. }) = event {
        assert_eq!(wide(data.len()), decoder.target_page());
    }
}

/// Checks that `continued_page` agrees with `next`.
fn check_continued_page(decoder: &Decoder, bytes: &[u8]) {
    let Some(&word) = bytes.first_chunk::<8>() else {
        return;
    };
    let mut fast = decoder.clone();
    let Some((block, offset)) = fast.continued_page(word, false) else {
        return;
    };
    assert_eq!(fast.offset(), decoder.offset(), "advanced without a page");
    assert_eq!(fast.continued_page(word, true), Some((block, offset)));
    let mut usual = decoder.clone();
    let step = usual.next(bytes);
    let Ok(Decoded::Event { event, size }) = step else {
        return assert_eq!(step.err(), None, "the usual way takes no page there");
    };
    let page = Record::Page {
        block,
        offset,
        data: &bytes[word.len()..size],
        named: false,
    };
    assert_eq!(event, Event::Record(page));
    assert_eq!(fast.offset(), usual.offset());
}

fn record(events: &mut Vec<Seen>, event: &Event<'_>, offset: u64, size: usize) {
    let chunk = match event {
        Event::DeviceState { id, .. } => Some(u64::from(*id)),
        Event::DescriptionBytes(_) => Some(u64::MAX),
        _ => None,
    };
    if let Some(last) = events.last_mut()
        && chunk.is_some()
        && last.chunk == chunk
    {
        last.size += size;
        return;
    }
    events.push(Seen {
        label: event.label(),
        chunk,
        offset,
        size,
    });
}

/// Checks that a decoder returns its error again.
fn broken(decoder: &mut Decoder, bytes: &[u8], error: DecodeError) {
    for more in iter::once(&[][..]).chain([bytes]) {
        assert_eq!(decoder.next(more), Err(error));
        assert_eq!(decoder.finish(more), Err(error));
    }
}

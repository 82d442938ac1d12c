//! Generates the return paths sent to QEMU: sequences of mostly valid messages,
//! some with one mutated message.
//!
//! Page requests are sent only to a source in postcopy. Requests whose end
//! overflows below their start are never sent, because no destination sends them.

use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;
use retpath_codec::mutate::{self, Defect};
use retpath_codec::proptest::mutated;
use retpath_codec::{BlockName, Encode, Message, NameBuf, Qemu};
use retpath_engine::blocks::{Block, Blocks};

/// Size of a page in bytes.
pub(crate) const PAGE: u64 = 4096;

/// SHUT, appended to sequences that do not end earlier.
pub(crate) const SHUT: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// When a sequence is sent to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Immediately, possibly during migration setup.
    AtOnce,
    /// After it sent everything, in precopy.
    Precopy,
    /// Like `Precopy`, without the last bytes (this many) and with a broken link.
    Cut(usize),
    /// After it sent everything, in postcopy.
    Postcopy,
}

/// A message, or bytes in its place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame(pub(crate) Vec<u8>);

/// A sequence of messages.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) when: When,
    pub(crate) frames: Vec<Frame>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&hex)
    }
}

impl Sequence {
    fn bytes(&self) -> Vec<u8> {
        self.frames
            .iter()
            .flat_map(|frame| &frame.0)
            .copied()
            .collect()
    }
}

/// Generates sequences for any [`When`].
pub(crate) fn sequences(blocks: &Blocks) -> impl Strategy<Value = Sequence> + use<> {
    prop_oneof![
        2 => messages(blocks, When::Postcopy),
        1 => without_requests(blocks),
    ]
}

/// Generates sequences without page requests.
fn without_requests(blocks: &Blocks) -> impl Strategy<Value = Sequence> + use<> {
    let when = prop_oneof![
        Just(When::AtOnce),
        Just(When::Precopy),
        (1..20_usize).prop_map(When::Cut),
    ];
    let messages = messages(blocks, When::Precopy)
        .prop_filter("contains a page request", |sequence| {
            !headers(&sequence.bytes()).any(|(number, _)| matches!(number, 3 | 4))
        });
    (messages, when).prop_map(|(sequence, when)| Sequence { when, ..sequence })
}

fn messages(blocks: &Blocks, when: When) -> impl Strategy<Value = Sequence> + use<> {
    let good = match when {
        When::Postcopy => prop_oneof![pong(), request(blocks), request(blocks)].boxed(),
        _ => pong().boxed(),
    };
    let invalid = || option::weighted(0.6, invalid(blocks));
    let parts = (
        vec(good.clone(), 0..8),
        invalid(),
        vec(good, 0..4),
        invalid(),
    );
    let blocks = blocks.clone();
    let sequences = parts.prop_map(move |(first, invalid, second, last)| {
        let frames = first.into_iter().chain(invalid).chain(second).chain(last);
        let frames = frames.map(Frame).collect();
        Sequence { when, frames }
    });
    sequences.prop_filter("a request wraps around", move |sequence| {
        !headers(&sequence.bytes()).any(|(number, payload)| wraps(&blocks, number, payload))
    })
}

/// Splits bytes into message numbers and payloads without validating either.
fn headers(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, behind) = rest.split_first_chunk::<4>()?;
        let [a, b, c, d] = *header;
        let len = usize::from(u16::from_be_bytes([c, d]));
        let (payload, next) = behind.split_at(len.min(behind.len()));
        rest = next;
        Some((u16::from_be_bytes([a, b]), payload))
    })
}

/// Whether QEMU accepts a request whose end is below its start: its sums wrap,
/// and it reads a length of 2^31 or more as negative.
fn wraps(blocks: &Blocks, number: u16, payload: &[u8]) -> bool {
    let longest = blocks.iter().map(|block| block.len).max().unwrap_or(0);
    let Some((start, rest)) = payload.split_first_chunk() else {
        return false;
    };
    let Some((len, _)) = rest.split_first_chunk() else {
        return false;
    };
    let start = u64::from_be_bytes(*start);
    let end = start.wrapping_add_signed(i32::from_be_bytes(*len).into());
    matches!(number, 3 | 4) && end < start && (1..=longest).contains(&end)
}

fn pong() -> impl Strategy<Value = Vec<u8>> + Clone {
    any::<u32>().prop_map(|value| encode(&Message::Pong { value }))
}

/// Generates a request for one to four pages of a block.
pub(crate) fn request(blocks: &Blocks) -> impl Strategy<Value = Vec<u8>> + Clone + use<> {
    (pages(blocks), any::<bool>()).prop_map(|((block, start, len), named)| match named {
        true => encode(&Message::ReqPagesId { start, len, block }),
        false => encode(&Message::ReqPages { start, len }),
    })
}

/// Generates a block with the start and length of one to four of its pages.
fn pages(blocks: &Blocks) -> impl Strategy<Value = (NameBuf, u64, u32)> + Clone + use<> {
    let blocks: Vec<Block> = blocks.iter().cloned().collect();
    (select(blocks), any::<u16>(), 1..=4_u64).prop_map(|(block, first, count)| {
        let all = block.len / PAGE;
        let first = u64::from(first) % all;
        let count = count.min(all - first);
        let len = u32::try_from(count * PAGE).expect("fits in u32");
        (block.name, first * PAGE, len)
    })
}

/// Generates any message about pages of a block.
fn any_message(blocks: &Blocks) -> impl Strategy<Value = Message<NameBuf>> + use<> {
    let message = any::<Message<NameBuf>>();
    (message, pages(blocks)).prop_map(|(message, (block, start, len))| match message {
        Message::ReqPagesId { .. } => Message::ReqPagesId { start, len, block },
        Message::ReqPages { .. } => Message::ReqPages { start, len },
        Message::RecvBitmap { .. } => Message::RecvBitmap { block },
        other => other,
    })
}

/// Generates bytes that are usually invalid.
fn invalid(blocks: &Blocks) -> BoxedStrategy<Vec<u8>> {
    let mutated_message = (any_message(blocks), any::<Defect>())
        .prop_filter_map("no frame", |(message, defect)| {
            mutate::encode::<Qemu>(&message, defect).ok()
        });
    let shifted = (pages(blocks), 1..PAGE, 0..3_u8).prop_map(|((block, start, len), by, which)| {
        let less = u32::try_from(by).expect("less than a page size");
        let start = if which > 0 { start + by } else { start };
        let len = if which < 2 { len - less } else { len };
        raw_request(start, len, Some(block.name().as_bytes()))
    });
    let past = (
        select(blocks.iter().cloned().collect::<Vec<_>>()),
        0..4_u64,
        1..=4_u32,
    );
    let past = past.prop_map(|(block, before, count)| {
        let start = block.len - (before * PAGE).min(block.len);
        raw_request(start, count << 12, Some(block.name.name().as_bytes()))
    });
    let empty = (pages(blocks), any::<bool>()).prop_map(|((block, start, _), named)| {
        let block = named.then(|| block.name().as_bytes());
        raw_request(start, 0, block)
    });
    let nul = (pages(blocks), vec(any::<u8>(), 0..8)).prop_map(|((block, start, len), more)| {
        let name = [block.name().as_bytes(), &[0], &more].concat();
        raw_request(start, len, Some(&name))
    });
    let oversize = (0..9_u16, 513..600_usize).prop_map(|(number, len)| raw(number, &vec![1; len]));
    let unknown = prop_oneof![Just(0), 8..=u16::MAX];
    let unknown =
        (unknown, vec(any::<u8>(), 0..20)).prop_map(|(number, payload)| raw(number, &payload));
    prop_oneof![
        2 => any::<Message<NameBuf>>().prop_map(|message| encode(&message)),
        3 => any_message(blocks).prop_map(|message| encode(&message)),
        2 => mutated::<Qemu>().prop_map(|(frame, _)| frame),
        4 => mutated_message,
        1 => shifted,
        2 => past,
        2 => empty,
        1 => nul,
        1 => oversize,
        1 => unknown,
    ]
    .boxed()
}

/// Encodes a message that is encodable.
pub(crate) fn encode(message: &Message<NameBuf>) -> Vec<u8> {
    let mut frame = Vec::new();
    message
        .encode(&mut frame)
        .expect("strategies generate encodable messages");
    frame
}

/// Encodes a request with unchecked values.
fn raw_request(start: u64, len: u32, block: Option<&[u8]>) -> Vec<u8> {
    let mut payload = [&start.to_be_bytes()[..], &len.to_be_bytes()].concat();
    if let Some(block) = block {
        payload.push(u8::try_from(block.len()).expect("name length fits in u8"));
        payload.extend(block);
    }
    raw(if block.is_some() { 3 } else { 4 }, &payload)
}

/// Encodes a frame with any number and payload.
pub(crate) fn raw(number: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("less than 64 KiB");
    [&number.to_be_bytes()[..], &len.to_be_bytes(), payload].concat()
}

//! RAM records that name their block, in streams with few and with many blocks.
//!
//! Finding a block by its name must not depend on how many blocks the source
//! announced.

use std::hint::black_box;

use retpath_codec::Name;
use retpath_codec::forward::{Decoded, Decoder, Options, write};
use retpath_random::Random;

use crate::measure::{Lane, race};
use crate::mix::MESSAGES;

/// Numbers of blocks; ratios are relative to the first. The last is the
/// decoder's default limit.
const COUNTS: [u32; 3] = [1, 64, 4096];

/// Maximum time per record with the last number of blocks, as a multiple of the time
/// with the first.
const GOAL: f64 = 10.0;

/// Length of a block.
const LEN: u64 = 1 << 30;

/// Measures, prints a table and returns whether the goal holds.
pub(crate) fn run() -> bool {
    let streams: Vec<Stream> = COUNTS.into_iter().map(Stream::new).collect();
    let lanes = streams.iter().map(Stream::lane).collect();
    let paces = race(lanes, MESSAGES);
    println!(
        "\n| ZERO records that name a block | ns per record | MB/s | ratio |\n|---|---|---|---|"
    );
    for (pace, stream) in paces.iter().zip(&streams) {
        let size = stream.records.len() as f64 / f64::from(MESSAGES);
        let rate = size / pace.nanos * 1e3;
        println!(
            "| {} | {:.1} | {rate:.0} | {:.2}x |",
            pace.name, pace.nanos, pace.ratio
        );
    }
    let ratio = paces.last().map_or(0.0, |pace| pace.ratio);
    let holds = ratio <= GOAL;
    let verdict = if holds { "holds" } else { "missed" };
    println!("\nmany_blocks: {ratio:.2}x, goal {GOAL:.2}x: {verdict}.");
    holds
}

/// A stream whose header and block list have been decoded.
struct Stream {
    name: &'static str,
    decoder: Decoder,
    records: Vec<u8>,
}

impl Stream {
    fn new(count: u32) -> Self {
        let name = match count {
            1 => "1 block",
            64 => "64 blocks",
            _ => "4,096 blocks",
        };
        let names: Vec<_> = (0..count).map(|i| format!("/objects/mem{i}")).collect();
        let names: Vec<_> = names
            .iter()
            .map(|name| Name::new(name.as_bytes()).unwrap())
            .collect();
        let mut random = Random::new(1);
        let mut records = Vec::new();
        for _ in 0..MESSAGES {
            let name = names[random.index(names.len())];
            let offset = (random.any() % LEN) & !0xfff;
            write::zero(offset, Some(name), &mut records).expect("a whole page");
        }
        Self {
            name,
            decoder: decoder(&names),
            records,
        }
    }

    fn lane(&self) -> Lane<'_> {
        let mut decoder = self.decoder.clone();
        Lane {
            name: self.name,
            run: Box::new(move || decode(&mut decoder, black_box(&self.records))),
        }
    }
}

/// Makes a decoder that has read the header and a list of blocks with these names, and
/// expects a RAM record.
pub(crate) fn decoder(names: &[Name<'_>]) -> Decoder {
    let mut start = Vec::new();
    write::header(&mut start);
    write::ram_start(1, &mut start);
    write::mem_size(names.len() as u64 * LEN, &mut start).expect("whole pages");
    for name in names {
        write::block(*name, LEN, None, None, &mut start);
    }
    let mut decoder = Decoder::new(Options::default());
    decode(&mut decoder, &start);
    decoder
}

/// Decodes all of `input`.
#[inline(never)]
fn decode(decoder: &mut Decoder, mut input: &[u8]) {
    while !input.is_empty() {
        let decoded = decoder.next(input).expect("valid input");
        black_box(&decoded);
        let Decoded::Event { size, .. } = decoded else {
            panic!("the input ends inside an event");
        };
        input = &input[size..];
    }
}

//! What the tests of the forward stream share.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::fs;
use std::io::Read;
use std::path::Path;

use retpath_codec::DecodeError;
use retpath_codec::forward::{Decoder, Event, Options, Step};

/// A recording of real QEMU; see corpus/README.md.
pub fn capture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus/capture")
        .join(name);
    let packed = path.with_added_extension("gz");
    let mut bytes = Vec::new();
    if packed.exists() {
        let file = fs::File::open(&packed).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut bytes)
            .unwrap();
    } else {
        bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    bytes
}

pub fn fresh() -> Decoder {
    Decoder::new(Options::default())
}

/// Decodes as much as there is, handing out every event with its offset.
/// Returns what is left.
pub fn drain<'a>(
    decoder: &mut Decoder,
    mut input: &'a [u8],
    mut take: impl FnMut(&Decoder, u64, Event<'a>),
) -> Result<&'a [u8], DecodeError> {
    loop {
        let offset = decoder.offset();
        match decoder.next(input)? {
            Step::Event { event, size } => {
                input = &input[size..];
                take(decoder, offset, event);
            }
            Step::Need(need) => {
                assert!(need > 0);
                return Ok(input);
            }
        }
    }
}

/// All events of a channel that must be whole and sound.
pub fn events<'a>(decoder: &mut Decoder, input: &'a [u8]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    let left = drain(decoder, input, |_, _, event| events.push(event)).unwrap();
    decoder.finish(left).unwrap();
    assert_eq!(left, []);
    events
}

/// The error of a channel that must have one.
pub fn error(decoder: &mut Decoder, input: &[u8]) -> DecodeError {
    match drain(decoder, input, |_, _, _| {}) {
        Err(error) => error,
        Ok(left) => decoder.finish(left).unwrap_err(),
    }
}

/// Small pseudo-random numbers, the same ones every time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

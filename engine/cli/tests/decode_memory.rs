//! The memory of `decode` has a limit for each kind of recording, however long it is and whatever
//! names and numbers its author chose.
//!
//! One test, because the peak is that of the process. The recordings are made while they are read,
//! so that only the decoder's memory counts.

use std::io::{self, Read, Write};

use peak_alloc::PeakAlloc;
use retpath_cli::decode::{Dialect, Format, Kind, Options, decode};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Reads pieces one after another.
struct Pieces<I> {
    pieces: I,
    piece: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = Vec<u8>>> Read for Pieces<I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(piece) = self.pieces.next() else {
                return Ok(0);
            };
            (self.piece, self.at) = (piece, 0);
        }
        let len = buf.len().min(self.piece.len() - self.at);
        buf[..len].copy_from_slice(&self.piece[self.at..][..len]);
        self.at += len;
        Ok(len)
    }
}

/// Counts the bytes of a report.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name of 255 characters, which no other number has.
fn name(number: u32) -> Vec<u8> {
    format!("\x0f{number:\\>254}").into_bytes().split_off(1)
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).expect("a short name");
    [&[len], bytes].concat()
}

const HEAD: &[u8] = b"QEVM\0\0\0\x03\x07\0\0\0\x02pc";
/// End mark of `ram`, and a footer.
const END_OF_RAM: &[u8] = b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01";
const EOF: &[u8] = b"\0";

/// The beginning of section 1, `ram`, with blocks of one page.
fn ram(blocks: u32) -> Vec<u8> {
    let total = (u64::from(blocks) * 4096) | 0x04;
    let mut bytes = [
        b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04",
        &total.to_be_bytes()[..],
    ]
    .concat();
    for number in 0..blocks {
        bytes.extend(string(&name(number)));
        bytes.extend(4096_u64.to_be_bytes());
    }
    [&bytes, END_OF_RAM].concat()
}

/// A device section without state.
fn device(id: u32) -> Vec<u8> {
    let id = id.to_be_bytes();
    let names = name(u32::from_be_bytes(id));
    [b"\x04", &id[..], &string(&names), &[0; 8], b"\x7e", &id[..]].concat()
}

/// A record of a page of zeros in the block of this name.
fn zero(number: u32) -> Vec<u8> {
    [&2_u64.to_be_bytes()[..], &string(&name(number)), b"\0"].concat()
}

/// A request for a page in the block of this name.
fn request(number: u32) -> Vec<u8> {
    let name = string(&name(number));
    let len = u16::try_from(12 + name.len()).expect("a short message");
    let head = [0_u16.to_be_bytes(), len.to_be_bytes()].concat();
    [
        &[0, 3],
        &head[2..],
        &[0; 8],
        &4096_u32.to_be_bytes()[..],
        &name,
    ]
    .concat()
}

/// A command that discards a page 4,000 times.
fn discard() -> Vec<u8> {
    let ranges = (0..4000).flat_map(|_| [0, 4096]);
    let ranges: Vec<u8> = ranges.flat_map(u64::to_be_bytes).collect();
    let payload = [&[0], &string(&name(0))[..], &[0], &ranges].concat();
    let len = u16::try_from(payload.len()).expect("it fits");
    [&[8, 0, 6], &len.to_be_bytes()[..], &payload].concat()
}

/// A received bitmap of so many mebibytes.
fn bitmap(mebibytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let head = [b"\0\x05\0\x03\x02pc", &(mebibytes << 20).to_be_bytes()[..]].concat();
    let bits = (0..mebibytes).map(|_| vec![0; 1 << 20]);
    let end = 0x0123_4567_89ab_cdef_u64.to_be_bytes().to_vec();
    std::iter::once(head).chain(bits).chain([end])
}

/// A recording, made again for each run.
type Recording = (
    &'static str,
    Kind,
    usize,
    fn() -> Box<dyn Iterator<Item = Vec<u8>>>,
);

/// Recordings, and the limits in mebibytes.
const RECORDINGS: [Recording; 6] = [
    ("4,000 sections", Kind::Forward, 3, || {
        let start = [HEAD.to_vec(), ram(1)].into_iter();
        let end = [b"\x03\0\0\0\x01", END_OF_RAM].concat();
        Box::new(
            start
                .chain([end])
                .chain((2..4_000).map(device))
                .chain([EOF.to_vec()]),
        )
    }),
    ("4,096 blocks", Kind::Forward, 4, || {
        let end = [b"\x03\0\0\0\x01", END_OF_RAM, EOF].concat();
        Box::new([HEAD.to_vec(), ram(4096), end].into_iter())
    }),
    ("4,096 blocks without a list", Kind::Preempt, 4, || {
        Box::new((0..4096).cycle().take(5_000).map(zero))
    }),
    ("requests in 4,000 blocks", Kind::ReturnPath, 2, || {
        Box::new((0..4_000).map(request))
    }),
    // At most twice the bytes that have arrived, while the buffer grows.
    ("a bitmap of 8 MiB", Kind::ReturnPath, 17, || {
        Box::new(bitmap(8))
    }),
    ("200,000 ranges", Kind::Forward, 4, || {
        let advise = b"\x08\0\x03\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0".to_vec();
        let start = [HEAD.to_vec(), advise, ram(1)].into_iter();
        // A package of LISTEN and RUN.
        let package = b"\x08\0\x07\0\x04\0\0\0\x0a\x08\0\x04\0\0\x08\0\x05\0\0";
        let end = [package, &b"\x03\0\0\0\x01"[..], END_OF_RAM, EOF].concat();
        Box::new(start.chain((0..50).map(|_| discard())).chain([end]))
    }),
];

#[test]
fn memory_of_decode_is_bounded_in_every_mode() {
    for (what, kind, limit, recording) in RECORDINGS {
        for (format, summary) in [
            (Format::Text, false),
            (Format::Text, true),
            (Format::Json, false),
            (Format::Json, true),
        ] {
            let options = Options {
                dialect: Dialect::Qemu,
                kind,
                format,
                summary,
                ..Options::default()
            };
            let mut input = Pieces {
                pieces: recording(),
                piece: Vec::new(),
                at: 0,
            };
            let mut output = Length(0);
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let result = decode(&options, &mut input, &mut output, &mut |_| {});
            let peak = (MEMORY.peak_usage() - before) >> 20;
            let what = format!("{what}, {format:?}, summary {summary}");
            assert!(result.is_ok(), "{what}: {result:?}");
            assert!(output.0 > 0, "{what}");
            assert!(peak < limit, "{what}: {peak} MiB of at most {limit}");
        }
    }
}

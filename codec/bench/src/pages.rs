//! PAGE records of 4 KiB, decoded as the engine feeds them, each page copied to its
//! offset in a destination.
//!
//! The decoder copies nothing: a record lends its page. It is measured against what its
//! caller does in any case, in the same run: copy each page from where it is known to
//! be. All memory fits into the second-level cache; slower memory would hide the
//! decoder behind the copies.
//!
//! * *Whole records* are in the buffer at once, as many as the engine's reads hold.
//! * *Words and pages* have been separated by the engine's scatter reads and are for
//!   [`Decoder::continued_page`].
//! * With *reads*, the stream is copied into the buffer piece by piece, as by read(2),
//!   and some or all records straddle two pieces. The copy from known offsets takes both
//!   parts of a page from where they arrived.
//!
//! Where memory is, in the cache and within a page, changes the time of such copies by
//! up to 40 %. So the lanes of a race share buffer and destination, and reads go to the
//! same places of the buffer.

use std::cell::RefCell;
use std::hint::black_box;
use std::ops::Range;
use std::rc::Rc;

use retpath_codec::Name;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoded, Decoder, Event, write};

use crate::many_blocks;
use crate::measure::{Lane, race};

/// Minimum bandwidth of decoding and copying, relative to copying alone.
const GOAL: f64 = 0.8;

/// Target page size.
const PAGE: usize = 4096;

/// Whole records in one read of the engine.
const BATCH: u32 = 15;

/// Records of a stream that arrives in reads.
const STREAM: u32 = 32;

/// One record in so many names its block.
const NAMED: u32 = 16;

/// Size of the engine's reads; its buffer is twice as long (`engine/src/driver/buffer.rs`).
const READ: usize = 64 * 1024;

/// Size of the smaller reads: two TCP segments of an Ethernet, less than a record.
const SEGMENTS: usize = 2 * 1448;

/// How often a lane processes its records in one measurement.
const PASSES: u32 = 16;

const FLOOR: &str = "copy from known offsets";
const DECODE: &str = "decode and copy";
const ALONE: &str = "decode only";

/// Fills the destination, the first argument, once; the second is the buffer.
type Pass<'a> = Box<dyn FnMut(&mut [u8], &mut [u8]) + 'a>;

/// Checks that all lanes do the same, measures them, prints a table and returns whether
/// the goals hold.
///
/// # Panics
///
/// If decoding does not fill the destination as copying from known offsets does.
pub(crate) fn run() -> bool {
    let (batch, stream) = (Stream::new(BATCH), Stream::new(STREAM));
    let [whole, words] = [batch.whole(), batch.words()];
    let [reads, segments] = [READ, SEGMENTS].map(|size| stream.reads(size));
    let races = [
        ("whole records", BATCH, whole),
        ("words and pages", BATCH, words),
        ("reads of 65,536 bytes", STREAM, reads),
        ("reads of 2,896 bytes", STREAM, segments),
    ];
    println!("\n| PAGE records | | ns per record | bandwidth |\n|---|---|---|---|");
    let mut verdicts = Vec::new();
    for (what, count, passes) in races {
        let memory = RefCell::new([Memory::new(offset(count)), Memory::new(2 * READ)]);
        let lanes = passes
            .into_iter()
            .map(|(name, pass)| lane(name, count, &memory, pass))
            .collect();
        for pace in race(lanes, count * PASSES) {
            print!("| {what} | {} | {:.1} |", pace.name, pace.nanos);
            let bandwidth = 1.0 / pace.ratio;
            match pace.name {
                ALONE => println!(" – |"),
                _ => println!(" {:.1} GB/s, {bandwidth:.2}x |", PAGE as f64 / pace.nanos),
            }
            if pace.name == DECODE {
                verdicts.push((what, bandwidth));
            }
        }
    }
    println!();
    for &(what, bandwidth) in &verdicts {
        let verdict = if bandwidth >= GOAL { "holds" } else { "missed" };
        println!("pages, {what}: {bandwidth:.3}x, goal at least {GOAL:.2}x: {verdict}.");
    }
    verdicts.iter().all(|&(_, bandwidth)| bandwidth >= GOAL)
}

/// Checks what `pass` does, and makes a lane of it. The memory is destination and buffer.
fn lane<'a>(
    name: &'static str,
    count: u32,
    memory: &'a RefCell<[Memory; 2]>,
    mut pass: Pass<'a>,
) -> Lane<'a> {
    let mut fill = move || {
        let [guest, buffer] = &mut *memory.borrow_mut();
        pass(black_box(guest.bytes()), black_box(buffer.bytes()));
    };
    memory.borrow_mut()[0].bytes().fill(0);
    fill();
    let guest = &mut memory.borrow_mut()[0];
    let pages = guest.bytes().chunks_exact(PAGE).zip(0..count);
    for (page, number) in pages.filter(|_| name != ALONE) {
        assert!(page == contents(number), "{name}: page {number} differs");
    }
    Lane {
        name,
        run: Box::new(move || (0..PASSES).for_each(|_| fill())),
    }
}

/// Offset of a page in the block and in the destination.
fn offset(number: u32) -> usize {
    number as usize * PAGE
}

fn contents(number: u32) -> [u8; PAGE] {
    std::array::from_fn(|i| (number as usize + i / 8 + 1) as u8)
}

fn copy(guest: &mut [u8], offset: usize, bytes: &[u8]) {
    guest[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// PAGE records in the order of their pages, from the start of a block.
struct Stream {
    decoder: Decoder,
    bytes: Vec<u8>,
    /// Where the contents of the pages are in `bytes`.
    pages: Vec<Range<usize>>,
}

impl Stream {
    fn new(count: u32) -> Self {
        let name = Name::new(b"pc.ram").expect("a valid name");
        let (mut bytes, mut pages) = (Vec::new(), Vec::new());
        for number in 0..count {
            let name = number.is_multiple_of(NAMED).then_some(name);
            write::page_header(offset(number) as u64, name, &mut bytes).expect("a whole page");
            let start = bytes.len();
            bytes.extend(contents(number));
            pages.push(start..bytes.len());
        }
        Self {
            decoder: many_blocks::decoder(&[name]),
            bytes,
            pages,
        }
    }

    fn whole(&self) -> Vec<(&'static str, Pass<'_>)> {
        let floor = |guest: &mut [u8], _: &mut [u8]| {
            for (number, page) in (0..).zip(&self.pages) {
                copy(guest, offset(number), &self.bytes[page.clone()]);
            }
        };
        let (mut first, mut second) = (self.decoder.clone(), self.decoder.clone());
        let decode = move |guest: &mut [u8], _: &mut [u8]| {
            let used = records(&mut first, &self.bytes, |offset, page| {
                copy(guest, offset, page);
            });
            assert_eq!(used, self.bytes.len());
        };
        let alone = move |_: &mut [u8], _: &mut [u8]| {
            records(&mut second, &self.bytes, |offset, page| {
                black_box((offset, page));
            });
        };
        vec![
            (FLOOR, Box::new(floor)),
            (DECODE, Box::new(decode)),
            (ALONE, Box::new(alone)),
        ]
    }

    fn words(&self) -> Vec<(&'static str, Pass<'_>)> {
        let mut decoder = self.decoder.clone();
        // After the first record, which names the block.
        records(&mut decoder, &self.bytes[..self.pages[0].end], |_, _| {});
        let words = (0..).zip(&self.pages).map(|(number, _)| {
            let mut word = Vec::new();
            write::page_header(offset(number) as u64, None, &mut word).expect("a whole page");
            <[u8; 8]>::try_from(word).expect("without a name")
        });
        let words: Vec<_> = words.collect();
        let pages: Rc<[u8]> = (0..).zip(&words).flat_map(|(i, _)| contents(i)).collect();
        let mut only = (decoder.clone(), words.clone());
        let same = Rc::clone(&pages);
        let floor = move |guest: &mut [u8], _: &mut [u8]| {
            for (number, page) in (0..).zip(same.chunks_exact(PAGE)) {
                copy(guest, offset(number), page);
            }
        };
        let decode = move |guest: &mut [u8], _: &mut [u8]| {
            for (&word, page) in words.iter().zip(pages.chunks_exact(PAGE)) {
                copy(guest, continued(&mut decoder, word), page);
            }
        };
        let alone = move |_: &mut [u8], _: &mut [u8]| {
            let (decoder, words) = &mut only;
            for &word in &*words {
                black_box(continued(decoder, word));
            }
        };
        vec![
            (FLOOR, Box::new(floor)),
            (DECODE, Box::new(decode)),
            (ALONE, Box::new(alone)),
        ]
    }

    fn reads(&self, size: usize) -> Vec<(&'static str, Pass<'_>)> {
        let reads = self.parts(size);
        let floor = move |guest: &mut [u8], buffer: &mut [u8]| {
            for (read, (end, parts)) in self.bytes.chunks(size).zip(&reads) {
                copy(buffer, *end, read);
                for (offset, part) in parts {
                    copy(guest, *offset, &buffer[part.clone()]);
                }
            }
        };
        let (mut decoder, mut inbox) = (self.decoder.clone(), Inbox::default());
        let decode = move |guest: &mut [u8], buffer: &mut [u8]| {
            for read in self.bytes.chunks(size) {
                inbox.fill(buffer, read);
                let unread = &buffer[inbox.start..inbox.end];
                let used = records(&mut decoder, unread, |offset, page| {
                    copy(guest, offset, page);
                });
                inbox.consume(used);
            }
        };
        vec![(FLOOR, Box::new(floor)), (DECODE, Box::new(decode))]
    }

    /// For each read, where it goes in the buffer, and the parts of pages in it: offset in
    /// the destination, and where in the buffer.
    fn parts(&self, size: usize) -> Vec<(usize, Vec<Part>)> {
        let (mut decoder, mut inbox) = (self.decoder.clone(), Inbox::default());
        let mut buffer = vec![0; 2 * READ];
        let starts = (0..).step_by(size);
        let reads = starts.zip(self.bytes.chunks(size)).map(|(start, read)| {
            inbox.fill(&mut buffer, read);
            let end = inbox.end - read.len();
            let unread = &buffer[inbox.start..inbox.end];
            let used = records(&mut decoder, unread, |_, _| {});
            inbox.consume(used);
            let part = |(number, page): (u32, &Range<usize>)| {
                let from = page.start.max(start);
                let to = page.end.min(start + read.len());
                let offset = offset(number) + from.saturating_sub(page.start);
                (from < to).then(|| (offset, from - start + end..to - start + end))
            };
            (end, (0..).zip(&self.pages).filter_map(part).collect())
        });
        reads.collect()
    }
}

/// Offset in the destination, and where the bytes are in the buffer.
type Part = (usize, Range<usize>);

/// Decodes all complete records of `input` and returns their size.
fn records(decoder: &mut Decoder, input: &[u8], mut page: impl FnMut(usize, &[u8])) -> usize {
    let mut used = 0;
    while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
        match decoder.next(rest).expect("a valid stream") {
            Decoded::Need(_) => break,
            Decoded::Event { event, size } => {
                used += size;
                let Event::Record(Record::Page { offset, data, .. }) = event else {
                    panic!("only pages are sent");
                };
                page(offset as usize, data);
            }
        }
    }
    used
}

/// Returns the offset in a record whose page has arrived.
fn continued(decoder: &mut Decoder, word: [u8; 8]) -> usize {
    let page = decoder.continued_page(word, true);
    let (_, offset) = page.expect("a page of the same block");
    offset as usize
}

/// Memory that starts at a page boundary.
struct Memory {
    allocated: Vec<u8>,
    start: usize,
}

impl Memory {
    fn new(len: usize) -> Self {
        let mut allocated = vec![0; len + PAGE];
        let start = allocated.as_ptr().align_offset(PAGE);
        allocated.truncate(start + len);
        Self { allocated, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.allocated[self.start..]
    }
}

/// The received bytes in the buffer, as the engine keeps them.
#[derive(Default)]
struct Inbox {
    start: usize,
    end: usize,
}

impl Inbox {
    fn fill(&mut self, buffer: &mut [u8], read: &[u8]) {
        if buffer.len() - self.end < READ {
            buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        copy(buffer, self.end, read);
        self.end += read.len();
    }

    fn consume(&mut self, size: usize) {
        self.start += size;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

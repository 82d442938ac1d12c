//! Generates the return paths sent to QEMU in a recovery: the received bitmap of
//! every block and the acknowledgement, often with one defect.
//!
//! There are at most as many bitmaps as blocks, and fewer if QEMU fails: how a
//! source reacts to additional bitmaps depends on timing.
//! source makes of more is a matter of luck.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::Index;
use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::{BlockName, Message};
use retpath_engine::blocks::Blocks;

use crate::forward::Page;
use crate::sequence::{Frame, PAGE, encode, raw, request};

/// The return path of a recovery.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    /// Whether all pages were sent before the link broke.
    pub(crate) sent: bool,
    /// The bitmaps, and any bytes between them.
    pub(crate) bitmaps: Vec<Frame>,
    /// The answer to POSTCOPY_RESUME, and what follows it.
    pub(crate) resumed: Vec<Frame>,
    /// Pages that the bitmaps mark as received if accepted, by block.
    claims: BTreeMap<usize, BTreeSet<u64>>,
}

/// A defect of a bitmap.
#[derive(Clone, Debug)]
enum BitmapDefect {
    /// Nothing.
    None,
    /// Its frame names an unknown block.
    Unknown,
    /// Its frame has no block name.
    Nameless,
    /// It repeats the previous block's bitmap.
    Twice,
    /// It repeats the previous block, with a frame truncated after the name's length.
    Short,
    /// Its name contains a NUL followed by these bytes.
    Nul(Vec<u8>),
    /// Its frame has this many bytes after the name.
    Leftover(usize),
    /// Its size field is off by this much.
    Size(i8),
    /// This bit of its end mark is flipped.
    EndMark(u8),
    /// It has a bit beyond the block's last page.
    Tail(Index),
    /// A PONG precedes it.
    Pong,
    /// A PONG separates its frame from its size.
    Inside,
}

/// Generates recoveries of a source with these blocks.
pub(crate) fn recoveries(blocks: &Blocks) -> impl Strategy<Value = Recovery> + use<> {
    let sent = prop_oneof![4 => Just(true), 1 => Just(false)];
    let words = blocks.iter().map(|block| {
        let words = bitmap::size(block.len / PAGE) / 8;
        let density = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
        vec(density, usize::try_from(words).expect("fits in usize"))
    });
    let words: Vec<_> = words.collect();
    let defect = (defect(), any::<Index>());
    let ack = prop_oneof![
        4 => Just(encode(&Message::ResumeAck)),
        1 => any::<u32>().prop_map(|value| raw(6, &value.to_be_bytes())),
        1 => Just(raw(6, &[])),
    ];
    let resumed = (ack, vec(request(blocks), 0..3));
    let blocks = blocks.clone();
    (sent, words, defect, resumed).prop_map(move |(sent, words, (defect, at), (ack, more))| {
        let mut recovery = Recovery {
            sent,
            bitmaps: Vec::new(),
            resumed: [ack].into_iter().chain(more).map(Frame).collect(),
            claims: BTreeMap::new(),
        };
        let at = at.index(words.len());
        for (id, words) in words.iter().enumerate() {
            match &defect {
                BitmapDefect::Twice | BitmapDefect::Short if id == at && id > 0 => {
                    recovery.bitmap(&blocks, id - 1, &[], &defect);
                }
                defect if id == at => recovery.bitmap(&blocks, id, words, defect),
                _ => recovery.bitmap(&blocks, id, words, &BitmapDefect::None),
            }
        }
        recovery
    })
}

fn defect() -> impl Strategy<Value = BitmapDefect> {
    prop_oneof![
        4 => Just(BitmapDefect::None),
        1 => Just(BitmapDefect::Unknown),
        1 => Just(BitmapDefect::Nameless),
        1 => Just(BitmapDefect::Twice),
        1 => Just(BitmapDefect::Short),
        1 => vec(any::<u8>(), 0..5).prop_map(BitmapDefect::Nul),
        1 => (1..300_usize).prop_map(BitmapDefect::Leftover),
        1 => prop_oneof![Just(-8), Just(8), any::<i8>()].prop_map(BitmapDefect::Size),
        1 => (0..64_u8).prop_map(BitmapDefect::EndMark),
        2 => any::<Index>().prop_map(BitmapDefect::Tail),
        1 => Just(BitmapDefect::Pong),
        1 => Just(BitmapDefect::Inside),
    ]
}

impl Recovery {
    /// Appends the bitmap of a block with a defect.
    fn bitmap(&mut self, blocks: &Blocks, id: usize, words: &[u64], defect: &BitmapDefect) {
        let block = blocks.block(id).expect("block exists");
        let pages = block.len / PAGE;
        let size = usize::try_from(bitmap::size(pages)).expect("fits in usize");
        let mut bits: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bits.resize(size, 0);
        for page in pages..bitmap::size(pages) * 8 {
            set(&mut bits, page, false);
        }
        let claims = (0..pages).filter(|page| Bitmap::new(&bits).is_received(*page));
        self.claims.insert(id, claims.collect());

        let mut name = block.name.name().as_bytes().to_vec();
        match defect {
            BitmapDefect::Unknown => name.push(b'x'),
            BitmapDefect::Nameless => name.clear(),
            BitmapDefect::Nul(more) => name.extend([0].iter().chain(more)),
            BitmapDefect::Tail(at) if !pages.is_multiple_of(64) => {
                let beyond = usize::try_from(64 - pages % 64).expect("fits in the integer type");
                let bit =
                    pages + u64::try_from(at.index(beyond)).expect("fits in the integer type");
                set(&mut bits, bit, true);
            }
            _ => {}
        }
        let mut payload = vec![u8::try_from(name.len()).expect("name length fits in u8")];
        match defect {
            BitmapDefect::Short => {}
            BitmapDefect::Leftover(more) => payload.extend(name.iter().chain(&vec![1; *more])),
            _ => payload.extend(name),
        }
        let mut trailer = Vec::new();
        bitmap::encode(Bitmap::new(&bits), &mut trailer).expect("length is whole words");
        match defect {
            BitmapDefect::Size(more) => {
                let wrong = bitmap::size(pages).wrapping_add_signed((*more).into());
                trailer[..8].copy_from_slice(&wrong.to_be_bytes());
            }
            BitmapDefect::EndMark(bit) => {
                let at = trailer.len() - 8 + usize::from(bit / 8);
                trailer[at] ^= 1 << (bit % 8);
            }
            _ => {}
        }
        let pong = || Frame(encode(&Message::Pong { value: 5 }));
        if let BitmapDefect::Pong = defect {
            self.bitmaps.push(pong());
        }
        self.bitmaps.push(Frame(raw(5, &payload)));
        if let BitmapDefect::Inside = defect {
            self.bitmaps.push(pong());
        }
        self.bitmaps.push(Frame(trailer));
    }

    /// Returns the pages of the announced blocks that their bitmaps do not mark:
    /// those a source sends after it accepted all bitmaps.
    pub(crate) fn missing(&self, blocks: &Blocks) -> BTreeSet<Page> {
        let mut missing = BTreeSet::new();
        for (id, claims) in &self.claims {
            let block = blocks.block(*id).expect("block exists");
            let pages = (0..block.len / PAGE).filter(|page| !claims.contains(page));
            missing.extend(pages.map(|page| (*id, page * PAGE)));
        }
        missing
    }

    /// Whether the block has a bitmap.
    pub(crate) fn has(&self, id: usize) -> bool {
        self.claims.contains_key(&id)
    }
}

fn set(bits: &mut [u8], page: u64, on: bool) {
    let at = usize::try_from(page / 8).expect("fits in usize");
    let mask = 1 << (page % 8);
    match on {
        true => bits[at] |= mask,
        false => bits[at] &= !mask,
    }
}

//! What QEMU is sent in a recovery: the received bitmap of every block, and
//! what follows; in many of them one of the bitmaps, or the acknowledgement, is
//! not as it must be.
//!
//! There are as many bitmaps as blocks, or fewer because QEMU gives up: what a
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
use crate::plan::{Frame, PAGE, encode, raw, request};

/// A recovery.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    /// Whether everything had been sent before.
    pub(crate) sent: bool,
    /// The bitmaps, and what stands between them.
    pub(crate) bitmaps: Vec<Frame>,
    /// What answers POSTCOPY_RESUME, and what follows.
    pub(crate) resumed: Vec<Frame>,
    /// What the bitmaps claim if they are taken: the pages of a block.
    claims: BTreeMap<usize, BTreeSet<u64>>,
}

/// What is wrong with a bitmap.
#[derive(Clone, Debug)]
enum Twist {
    /// Nothing.
    None,
    /// It is of no block.
    Unknown,
    /// Its frame names no block.
    Nameless,
    /// It is the one of the block before once more.
    Twice,
    /// The same, and its frame is cut off behind the name's length.
    Short,
    /// Its name goes on behind a NUL.
    Nul(Vec<u8>),
    /// Its frame goes on behind the name.
    Leftover(usize),
    /// Its size says this much more.
    Size(i8),
    /// Its end mark has this bit flipped.
    EndMark(u8),
    /// It has a bit beyond the block's last page.
    Tail(Index),
    /// A PONG stands in front of it.
    Pong,
    /// A PONG stands between its frame and its size.
    Inside,
}

/// Recoveries of a source with these blocks.
pub(crate) fn recoveries(blocks: &Blocks) -> impl Strategy<Value = Recovery> + use<> {
    let sent = prop_oneof![4 => Just(true), 1 => Just(false)];
    let words = blocks.iter().map(|block| {
        let words = bitmap::size(block.len / PAGE) / 8;
        let density = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
        vec(density, usize::try_from(words).expect("small blocks"))
    });
    let words: Vec<_> = words.collect();
    let twist = (twist(), any::<Index>());
    let ack = prop_oneof![
        4 => Just(encode(&Message::ResumeAck)),
        1 => any::<u32>().prop_map(|value| raw(6, &value.to_be_bytes())),
        1 => Just(raw(6, &[])),
    ];
    let resumed = (ack, vec(request(blocks), 0..3));
    let blocks = blocks.clone();
    (sent, words, twist, resumed).prop_map(move |(sent, words, (twist, at), (ack, more))| {
        let mut recovery = Recovery {
            sent,
            bitmaps: Vec::new(),
            resumed: [ack].into_iter().chain(more).map(Frame).collect(),
            claims: BTreeMap::new(),
        };
        let at = at.index(words.len());
        for (id, words) in words.iter().enumerate() {
            match &twist {
                Twist::Twice | Twist::Short if id == at && id > 0 => {
                    recovery.bitmap(&blocks, id - 1, &[], &twist);
                }
                twist if id == at => recovery.bitmap(&blocks, id, words, twist),
                _ => recovery.bitmap(&blocks, id, words, &Twist::None),
            }
        }
        recovery
    })
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        4 => Just(Twist::None),
        1 => Just(Twist::Unknown),
        1 => Just(Twist::Nameless),
        1 => Just(Twist::Twice),
        1 => Just(Twist::Short),
        1 => vec(any::<u8>(), 0..5).prop_map(Twist::Nul),
        1 => (1..300_usize).prop_map(Twist::Leftover),
        1 => prop_oneof![Just(-8), Just(8), any::<i8>()].prop_map(Twist::Size),
        1 => (0..64_u8).prop_map(Twist::EndMark),
        2 => any::<Index>().prop_map(Twist::Tail),
        1 => Just(Twist::Pong),
        1 => Just(Twist::Inside),
    ]
}

impl Recovery {
    /// Adds the bitmap of a block, with a twist.
    fn bitmap(&mut self, blocks: &Blocks, id: usize, words: &[u64], twist: &Twist) {
        let block = blocks.block(id).expect("one of them");
        let pages = block.len / PAGE;
        let size = usize::try_from(bitmap::size(pages)).expect("small blocks");
        let mut bits: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bits.resize(size, 0);
        for page in pages..bitmap::size(pages) * 8 {
            set(&mut bits, page, false);
        }
        let claims = (0..pages).filter(|page| Bitmap::new(&bits).is_received(*page));
        self.claims.insert(id, claims.collect());

        let mut name = block.name.name().as_bytes().to_vec();
        match twist {
            Twist::Unknown => name.push(b'x'),
            Twist::Nameless => name.clear(),
            Twist::Nul(more) => name.extend([0].iter().chain(more)),
            Twist::Tail(at) if !pages.is_multiple_of(64) => {
                let beyond = usize::try_from(64 - pages % 64).expect("less than 64");
                let bit = pages + u64::try_from(at.index(beyond)).expect("less than 64");
                set(&mut bits, bit, true);
            }
            _ => {}
        }
        let mut payload = vec![u8::try_from(name.len()).expect("a short name")];
        match twist {
            Twist::Short => {}
            Twist::Leftover(more) => payload.extend(name.iter().chain(&vec![1; *more])),
            _ => payload.extend(name),
        }
        let mut trailer = Vec::new();
        bitmap::encode(Bitmap::new(&bits), &mut trailer).expect("whole words");
        match twist {
            Twist::Size(more) => {
                let wrong = bitmap::size(pages).wrapping_add_signed((*more).into());
                trailer[..8].copy_from_slice(&wrong.to_be_bytes());
            }
            Twist::EndMark(bit) => {
                let at = trailer.len() - 8 + usize::from(bit / 8);
                trailer[at] ^= 1 << (bit % 8);
            }
            _ => {}
        }
        let pong = || Frame(encode(&Message::Pong { value: 5 }));
        if let Twist::Pong = twist {
            self.bitmaps.push(pong());
        }
        self.bitmaps.push(Frame(raw(5, &payload)));
        if let Twist::Inside = twist {
            self.bitmaps.push(pong());
        }
        self.bitmaps.push(Frame(trailer));
    }

    /// The pages of the blocks whose bitmaps are there that these do not claim:
    /// what a source sends after it has taken all of them.
    pub(crate) fn missing(&self, blocks: &Blocks) -> BTreeSet<Page> {
        let mut missing = BTreeSet::new();
        for (id, claims) in &self.claims {
            let block = blocks.block(*id).expect("one of them");
            let pages = (0..block.len / PAGE).filter(|page| !claims.contains(page));
            missing.extend(pages.map(|page| (*id, page * PAGE)));
        }
        missing
    }

    /// Whether there is a bitmap of the block.
    pub(crate) fn has(&self, id: usize) -> bool {
        self.claims.contains_key(&id)
    }
}

fn set(bits: &mut [u8], page: u64, on: bool) {
    let at = usize::try_from(page / 8).expect("small blocks");
    let mask = 1 << (page % 8);
    match on {
        true => bits[at] |= mask,
        false => bits[at] &= !mask,
    }
}

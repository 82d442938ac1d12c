//! Sample values of every message: smallest, typical and largest.
//!
//! They are derived from the rows and written by the oracle, never by the codec.
//! The seed corpus and the examples of the reference consist of them. Samples
//! obey every rule of the tables: [`crate::oracle::read`] accepts them.

use alloc::vec::Vec;

use crate::model::{Dialect, Field, Kind, MAX_NAME, Message, Rule, Trailer};
use crate::oracle::{self, Value};
use crate::table::command::{COMMAND, DISCARD_RANGES, PING_IN_PACKAGE, PING_PACKAGE_LOADED};
use crate::table::return_path::BITMAP_END;

/// Name of the RAM block in typical samples: the guest's main memory.
pub const BLOCK: &[u8] = b"pc.ram";

/// Page size in typical samples, in bytes.
pub const PAGE: u64 = 4096;

/// Size of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The smallest value of every field.
    Minimal,
    /// Values of an ordinary migration.
    Typical,
    /// The largest value of every field; as many ranges as QEMU writes.
    Maximal,
}

impl Size {
    /// All sizes, ascending.
    pub const ALL: [Self; 3] = [Self::Minimal, Self::Typical, Self::Maximal];

    /// Name in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Typical => "typical",
            Self::Maximal => "maximal",
        }
    }

    /// One of three values.
    fn pick<T>(self, minimal: T, typical: T, maximal: T) -> T {
        match self {
            Self::Minimal => minimal,
            Self::Typical => typical,
            Self::Maximal => maximal,
        }
    }
}

/// Values of a message's fields, and the data behind its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Size of the sample.
    pub size: Size,
    /// One value for each field of the row.
    pub values: Vec<Value>,
    /// Trailer; empty for a message without one.
    pub trailer: Vec<u8>,
}

impl Sample {
    /// Frame and trailer.
    pub fn bytes(&self, dialect: &Dialect, message: &Message) -> Vec<u8> {
        let mut bytes = oracle::write(dialect, message, &self.values);
        bytes.extend(&self.trailer);
        bytes
    }
}

/// The samples of a message, without duplicates.
pub fn samples(message: &Message) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    for size in Size::ALL {
        let new = sample(message, size);
        if !samples.iter().any(|old| old.values == new.values) {
            samples.push(new);
        }
    }
    samples
}

/// One sample of a message.
pub fn sample(message: &Message, size: Size) -> Sample {
    let trailer = match message.trailer {
        None | Some(Trailer::End) => Vec::new(),
        Some(Trailer::Bitmap) => bitmap(size),
        Some(Trailer::Package) => package(size),
    };
    let values = message
        .fields
        .iter()
        .enumerate()
        .map(|(i, field)| match message.trailer {
            Some(Trailer::Package) => Value::Number(length(&trailer)),
            _ => value(field, message.fields.get(i + 1), size),
        })
        .collect();
    Sample {
        size,
        values,
        trailer,
    }
}

/// The row with this label.
///
/// # Panics
///
/// Panics when no row has this label.
pub fn row(dialect: &'static Dialect, label: &str) -> &'static Message {
    let found = dialect.messages.iter().find(|m| m.label == label);
    found.expect("a label of the table")
}

/// A [`Trailer::Bitmap`] around `pages`, one bit for each page. The number of
/// bytes must be a multiple of 8.
pub fn bitmap_trailer(pages: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(length(pages).to_be_bytes());
    out.extend(pages);
    out.extend(BITMAP_END.to_be_bytes());
    out
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length has at most 64 bits")
}

fn value(field: &Field, next: Option<&Field>, size: Size) -> Value {
    let number = |minimal, typical, maximal| match field.rule {
        Rule::Equals(value) => Value::Number(value),
        Rule::Any | Rule::Span => Value::Number(size.pick(minimal, typical, maximal)),
    };
    let span = field.rule == Rule::Span;
    match field.kind {
        Kind::U8 => number(0, 1, u64::from(u8::MAX)),
        Kind::Be32 if span => number(1, PAGE, longest(field.kind)),
        Kind::Be32 => number(0, 1, u64::from(u32::MAX)),
        Kind::Be64 => {
            let room = match next {
                Some(len) if len.rule == Rule::Span => longest(len.kind),
                _ => 0,
            };
            number(0, 0x331_6000, u64::MAX - room)
        }
        Kind::FlaggedBe64 => number(2, PAGE, longest(field.kind)),
        Kind::Name => Value::Name(name(size)),
        Kind::FlaggedName => match size {
            Size::Minimal => Value::NoName,
            Size::Typical | Size::Maximal => Value::Name(name(size)),
        },
        Kind::PageSizes => {
            // 4 KiB, 2 MiB and 1 GiB pages in one guest.
            let all = PAGE | 2 << 20 | 1 << 30;
            Value::PageSizes(size.pick(None, Some((PAGE, PAGE)), Some((all, PAGE))))
        }
        Kind::Ranges => Value::Ranges(match size {
            Size::Minimal => Vec::from([(0, 1)]),
            Size::Typical => Vec::from([(0, 0xa_0000), (0x10_0000, 0xf0_0000)]),
            Size::Maximal => (0_u64..)
                .take(DISCARD_RANGES)
                .map(|i| (i << 60, 1 << 59))
                .collect(),
        }),
    }
}

/// Largest length in a sample for a field of this kind. The sample's start
/// leaves room for it below 2^64.
fn longest(kind: Kind) -> u64 {
    match kind {
        Kind::FlaggedBe64 => u64::MAX / 2 - 1,
        _ => u64::from(u32::MAX),
    }
}

/// A name. The longest one contains every valid byte once.
fn name(size: Size) -> Vec<u8> {
    match size {
        Size::Minimal => b"a".to_vec(),
        Size::Typical => BLOCK.to_vec(),
        Size::Maximal => (1..=u8::MAX).take(MAX_NAME).collect(),
    }
}

fn bitmap(size: Size) -> Vec<u8> {
    match size {
        // A block of up to 64 pages, none received.
        Size::Minimal => bitmap_trailer(&[0; 8]),
        // 130 pages, all received but the tenth.
        Size::Typical => {
            let mut pages = [0; 24];
            pages[..16].fill(0xff);
            pages[1] = 0xfd;
            pages[16] = 0x03;
            bitmap_trailer(&pages)
        }
        // 4096 pages (16 MiB), all received.
        Size::Maximal => bitmap_trailer(&[0xff; 512]),
    }
}

/// A package without device states.
fn package(size: Size) -> Vec<u8> {
    let ping = |value: u32| {
        let values = Vec::from([Value::Number(value.into())]);
        (row(&COMMAND, "PING"), values)
    };
    let bare = |label| (row(&COMMAND, label), Vec::new());
    let mut commands = Vec::from([bare("POSTCOPY_LISTEN")]);
    if size != Size::Minimal {
        commands.push(ping(PING_IN_PACKAGE));
    }
    if size == Size::Maximal {
        commands.push(ping(PING_PACKAGE_LOADED));
    }
    commands.push(bare("POSTCOPY_RUN"));
    commands
        .iter()
        .flat_map(|(message, values)| oracle::write(&COMMAND, message, values))
        .collect()
}

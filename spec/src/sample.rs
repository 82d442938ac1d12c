//! Sample values of every message: the smallest, an everyday one, the largest.
//!
//! Derived from the rows alone, and written by the walker, never by the codec:
//! the seed corpus and the examples of the reference are made of them. What is
//! here obeys every rule of the tables; [`crate::oracle::read`] takes it.

use alloc::vec::Vec;

use crate::model::{BITMAP_END, Dialect, Field, Kind, MAX_NAME, Message, Rule, Trailer};
use crate::oracle::{self, Value};
use crate::table::command::COMMAND;

/// Name of the RAM block in everyday samples: the guest's main memory.
pub const BLOCK: &[u8] = b"pc.ram";

/// A page size that everyday samples use, in bytes.
pub const PAGE: u64 = 4096;

/// Which sample of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Every field as small as it can be.
    Minimal,
    /// What a migration is likely to carry.
    Typical,
    /// Every field as large as it can be; as many ranges as QEMU writes.
    Maximal,
}

impl Size {
    /// All of them, in order.
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

/// A message with a value for each field, and what follows its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which one.
    pub size: Size,
    /// One value for each field of the row.
    pub values: Vec<Value>,
    /// Bytes behind the frame; empty for a message without trailer.
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

/// The samples of a message, without those that would be equal to an earlier
/// one.
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
/// If there is none: labels in this workspace are written next to the tables.
pub fn row(dialect: &'static Dialect, label: &str) -> &'static Message {
    let found = dialect.messages.iter().find(|m| m.label == label);
    found.expect("a label of the table")
}

/// A trailer of [`Trailer::Bitmap`] around `pages`, one bit each, whose number
/// of bytes is a multiple of 8.
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
            // As many as QEMU puts into one command.
            Size::Maximal => (0..12).map(|i| (i << 60, 1 << 59)).collect(),
        }),
    }
}

/// Largest length that a sample gives a field of this kind. The start before
/// it leaves room for it below 2^64.
fn longest(kind: Kind) -> u64 {
    match kind {
        Kind::FlaggedBe64 => u64::MAX / 2 - 1,
        _ => u64::from(u32::MAX),
    }
}

/// The longest name holds every byte that a name may hold, once.
fn name(size: Size) -> Vec<u8> {
    match size {
        Size::Minimal => b"a".to_vec(),
        Size::Typical => BLOCK.to_vec(),
        Size::Maximal => (1..=u8::MAX).take(MAX_NAME).collect(),
    }
}

fn bitmap(size: Size) -> Vec<u8> {
    match size {
        // No page of a block of up to 64.
        Size::Minimal => bitmap_trailer(&[0; 8]),
        // 130 pages, all but the tenth.
        Size::Typical => {
            let mut pages = [0; 24];
            pages[..16].fill(0xff);
            pages[1] = 0xfd;
            pages[16] = 0x03;
            bitmap_trailer(&pages)
        }
        // The 4096 pages of 16 MiB.
        Size::Maximal => bitmap_trailer(&[0xff; 512]),
    }
}

/// What a package holds without the device state.
fn package(size: Size) -> Vec<u8> {
    let ping = |value: u64| (row(&COMMAND, "PING"), Vec::from([Value::Number(value)]));
    let bare = |label| (row(&COMMAND, label), Vec::new());
    let mut commands = Vec::from([bare("POSTCOPY_LISTEN")]);
    if size != Size::Minimal {
        commands.push(ping(3));
    }
    if size == Size::Maximal {
        commands.push(ping(0x42));
    }
    commands.push(bare("POSTCOPY_RUN"));
    commands
        .iter()
        .flat_map(|(message, values)| oracle::write(&COMMAND, message, values))
        .collect()
}

//! Frames in which exactly one thing is wrong.
//!
//! A near miss knows by its making what a receiver must say of it: which rule
//! is broken, in which field, at which offset. Nobody reads the frame to find
//! out.

use proptest::prelude::{Strategy, any};
use proptest::sample::Index;
use proptest::strategy::Union;
use retpath_spec::model::{Dialect, Field, Kind, Message, RANGE_SIZE, Rule};
use retpath_spec::oracle::{self, Value};

use crate::rows::values;

/// A frame in which one thing is wrong, and what that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The frame.
    pub frame: Vec<u8>,
    /// Where it is wrong, in bytes from its start.
    pub offset: usize,
    /// Label of the message, if its number is right.
    pub message: Option<&'static str>,
    /// The field that is wrong, if it is a field.
    pub field: Option<&'static str>,
    /// Name of the rule that is broken.
    pub rule: &'static str,
}

/// Frames of a dialect in which one thing is wrong.
pub fn misses(dialect: &'static Dialect) -> impl Strategy<Value = Miss> {
    let rows = dialect.messages.iter();
    let frames = Union::new(rows.map(|row| values(row).prop_map(move |values| (row, values))));
    (frames, 0..DEFECTS, any::<u16>(), any::<Index>()).prop_filter_map(
        "has no such defect",
        move |((row, values), defect, number, index)| {
            let whole = Whole::new(dialect, row, &values);
            whole.miss(defect, number, index)
        },
    )
}

/// How many kinds of defects [`Whole::miss`] knows.
const DEFECTS: u8 = 14;

/// A frame that is right, and where its fields are.
struct Whole<'a> {
    dialect: &'static Dialect,
    row: &'static Message,
    values: &'a [Value],
    frame: Vec<u8>,
    /// Where each field starts.
    starts: Vec<usize>,
}

impl<'a> Whole<'a> {
    fn new(dialect: &'static Dialect, row: &'static Message, values: &'a [Value]) -> Self {
        let mut at = oracle::header_size(dialect);
        let mut starts = Vec::new();
        for (field, value) in row.fields.iter().zip(values) {
            starts.push(at);
            at += match value {
                Value::Number(_) => field.kind.min_size(),
                Value::Name(name) => 1 + name.len(),
                Value::NoName | Value::PageSizes(None) => 0,
                Value::PageSizes(Some(_)) => 16,
                Value::Ranges(ranges) => ranges.len() * RANGE_SIZE,
            };
        }
        let frame = oracle::write(dialect, row, values);
        assert_eq!(at, frame.len());
        Self {
            dialect,
            row,
            values,
            frame,
            starts,
        }
    }

    /// The frame with a defect, if it can have it. Numbers from 1 up to what
    /// makes sense come from `number`, places from `index`.
    fn miss(&self, defect: u8, number: u16, index: Index) -> Option<Miss> {
        match defect {
            0 => self.lead(number),
            1 => Some(self.number(number)),
            2 => self.length(number),
            3 => self.longer(number),
            4 => self.shorter(number),
            5 => self.leftover(number),
            6 => self.other_value(number),
            7 => self.empty_span(),
            8 => self.wrapping_span(number),
            9 => self.name(|whole, at, _| whole.with(at, "empty-name", at, &[0])),
            10 => self.name(|whole, at, len| {
                let place = at + 1 + index.index(len);
                whole.with(at, "nul", place, &[0])
            }),
            11 => self.longer_name(number),
            12 => self.shorter_name(number),
            _ => self.range(number, index),
        }
    }

    /// Another byte than the one with which every frame opens.
    fn lead(&self, number: u16) -> Option<Miss> {
        let (&first, _) = self.dialect.lead.split_first()?;
        let [_, more] = number.to_be_bytes();
        let mut frame = self.frame.clone();
        frame[0] = first.wrapping_add(more.max(1));
        Some(Miss {
            frame,
            offset: 0,
            message: None,
            field: None,
            rule: "lead",
        })
    }

    /// A number that is no message's.
    fn number(&self, number: u16) -> Miss {
        let at = self.dialect.lead.len();
        let last = self.dialect.messages.last().expect("a message").number;
        let free = u16::MAX - last;
        // The reserved number as often as any other.
        let (number, rule) = match number % 4 {
            0 => (self.dialect.reserved.number, "reserved"),
            _ => (last + 1 + number % free, "unknown"),
        };
        let mut frame = self.frame.clone();
        frame[at..at + 2].copy_from_slice(&number.to_be_bytes());
        Miss {
            frame,
            offset: at,
            message: None,
            field: None,
            rule,
        }
    }

    /// A length field that the message cannot have, whatever follows.
    fn length(&self, number: u16) -> Option<Miss> {
        let len = usize::from(number);
        let (min, max) = oracle::payload_bounds(self.dialect, self.row);
        let rule = match len {
            _ if len > self.dialect.max_payload => "too-long",
            _ if len < min || len > max => "length",
            _ => return None,
        };
        let at = self.dialect.lead.len() + 2;
        let mut frame = self.frame.clone();
        frame[at..at + 2].copy_from_slice(&number.to_be_bytes());
        Some(self.at(frame, at, None, rule))
    }

    /// The frame has more payload, and its length says so; by so much that no
    /// message of its kind has as much.
    fn longer(&self, number: u16) -> Option<Miss> {
        let (_, max) = oracle::payload_bounds(self.dialect, self.row);
        let more = max - self.payload() + 1 + usize::from(number % 3);
        let rule = match self.payload() + more {
            len if len > self.dialect.max_payload => "too-long",
            _ => "length",
        };
        let frame = self.resized(self.payload() + more)?;
        Some(self.at(frame, self.dialect.lead.len() + 2, None, rule))
    }

    /// The last field ends too early, and the length says so.
    fn shorter(&self, number: u16) -> Option<Miss> {
        let (min, _) = oracle::payload_bounds(self.dialect, self.row);
        let (field, at) = (self.row.fields.last()?, *self.starts.last()?);
        let (size, at) = match self.values.last()? {
            // The last range.
            Value::Ranges(ranges) => (RANGE_SIZE, at + (ranges.len() - 1) * RANGE_SIZE),
            Value::NoName | Value::PageSizes(None) => return None,
            _ => (self.frame.len() - at, at),
        };
        // Sizes that are not there at all, and ranges, are no shorter fields.
        let whole = matches!(field.kind, Kind::PageSizes | Kind::Ranges);
        let most = if whole { size - 1 } else { size };
        let len = self.payload() - 1 - usize::from(number) % most;
        let frame = self.resized(len)?;
        if len < min {
            return Some(self.at(frame, self.dialect.lead.len() + 2, None, "length"));
        }
        Some(self.at(frame, at, Some(field.name), "short"))
    }

    /// Bytes behind the last field, of which the length knows.
    fn leftover(&self, number: u16) -> Option<Miss> {
        let (_, max) = oracle::payload_bounds(self.dialect, self.row);
        let len = self.payload() + 1 + usize::from(number) % 20;
        let open = matches!(
            self.values.last(),
            Some(Value::Ranges(_) | Value::PageSizes(None))
        );
        if open || len > max {
            return None;
        }
        let frame = self.resized(len)?;
        Some(self.at(frame, self.frame.len(), None, "leftover"))
    }

    /// Another value than the only one that a field may have.
    fn other_value(&self, number: u16) -> Option<Miss> {
        let fields = self.row.fields.iter().zip(&self.starts);
        let fixed = fields.filter(|(field, _)| matches!(field.rule, Rule::Equals(_)));
        let fixed: Vec<_> = fixed.collect();
        let [which, more] = number.to_be_bytes();
        let which = usize::from(which).checked_rem(fixed.len())?;
        let (field, at) = fixed[which];
        let last = at + field.kind.min_size() - 1;
        let value = self.frame[last].wrapping_add(more.max(1));
        Some(self.in_field(field, *at, "value", last, &[value]))
    }

    /// A length of 0.
    fn empty_span(&self) -> Option<Miss> {
        let (len, at) = self.span()?;
        let zeros = vec![0; len.kind.min_size()];
        Some(self.in_field(len, at, "zero", at, &zeros))
    }

    /// A start that is too far up for the length.
    fn wrapping_span(&self, number: u16) -> Option<Miss> {
        let (len, at) = self.span()?;
        let bytes = &self.frame[at..at + len.kind.min_size()];
        let size = bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let size = if len.kind == Kind::FlaggedBe64 {
            size & !1
        } else {
            size
        };
        let start = u64::MAX - u64::from(number) % size;
        Some(self.in_field(len, at, "overflow", at - 8, &start.to_be_bytes()))
    }

    /// The length field of a span, and where it is.
    fn span(&self) -> Option<(&'static Field, usize)> {
        let mut fields = self.row.fields.iter().zip(&self.starts);
        let (field, at) = fields.find(|(field, _)| field.rule == Rule::Span)?;
        Some((field, *at))
    }

    /// What `make` does with a name's place and length.
    fn name(&self, make: impl FnOnce(&Self, usize, usize) -> Miss) -> Option<Miss> {
        let mut values = self.values.iter().zip(&self.starts);
        values
            .find_map(|(value, at)| match value {
                Value::Name(name) => Some((*at, name.len())),
                _ => None,
            })
            .map(|(at, len)| make(self, at, len))
    }

    /// A name that is longer than what is left of the payload.
    fn longer_name(&self, number: u16) -> Option<Miss> {
        let (at, left) = self.name_and_rest()?;
        let more = u8::try_from(left).ok()?.checked_add(1)?;
        let [_, by] = number.to_be_bytes();
        let len = more.saturating_add(by);
        Some(self.with(at, "short", at, &[len]))
    }

    /// A name that is shorter than what is left of the payload, as its last
    /// field.
    fn shorter_name(&self, number: u16) -> Option<Miss> {
        let (at, left) = self.name_and_rest()?;
        let last = self.starts.last() == Some(&at);
        if !last || left < 2 {
            return None;
        }
        let len = 1 + usize::from(number) % (left - 1);
        let mut frame = self.frame.clone();
        frame[at] = u8::try_from(len).expect("shorter than a name");
        Some(self.at(frame, at + 1 + len, None, "leftover"))
    }

    /// Where a name is, and how many bytes follow its length.
    fn name_and_rest(&self) -> Option<(usize, usize)> {
        let mut values = self.values.iter().zip(&self.starts);
        let (_, at) = values.find(|(value, _)| matches!(value, Value::Name(_)))?;
        Some((*at, self.frame.len() - at - 1))
    }

    /// A range that is none.
    fn range(&self, number: u16, index: Index) -> Option<Miss> {
        let mut values = self.row.fields.iter().zip(self.values).zip(&self.starts);
        let (field, ranges, start) = values.find_map(|((field, value), at)| match value {
            Value::Ranges(ranges) => Some((field, ranges, *at)),
            _ => None,
        })?;
        let which = index.index(ranges.len());
        let at = start + which * RANGE_SIZE;
        Some(match number % 2 {
            0 => self.in_field(field, at, "zero", at + 8, &[0; 8]),
            _ => {
                let first = u64::MAX - u64::from(number) % ranges[which].1;
                self.in_field(field, at, "overflow", at, &first.to_be_bytes())
            }
        })
    }

    /// Bytes of payload.
    fn payload(&self) -> usize {
        self.frame.len() - oracle::header_size(self.dialect)
    }

    /// The frame with a payload of `len` bytes, and a length that says so.
    fn resized(&self, len: usize) -> Option<Vec<u8>> {
        let mut frame = self.frame.clone();
        frame.resize(oracle::header_size(self.dialect) + len, 0xa5);
        let at = self.dialect.lead.len() + 2;
        frame[at..at + 2].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        Some(frame)
    }

    /// Other bytes in the name.
    fn with(&self, at: usize, rule: &'static str, place: usize, bytes: &[u8]) -> Miss {
        let mut fields = self.row.fields.iter().zip(&self.starts);
        let found = fields.find(|(_, start)| **start == at);
        let (field, _) = found.expect("a field starts there");
        self.in_field(field, at, rule, place, bytes)
    }

    fn in_field(
        &self,
        field: &Field,
        offset: usize,
        rule: &'static str,
        place: usize,
        bytes: &[u8],
    ) -> Miss {
        let mut frame = self.frame.clone();
        frame[place..place + bytes.len()].copy_from_slice(bytes);
        self.at(frame, offset, Some(field.name), rule)
    }

    fn at(
        &self,
        frame: Vec<u8>,
        offset: usize,
        field: Option<&'static str>,
        rule: &'static str,
    ) -> Miss {
        Miss {
            frame,
            offset,
            message: Some(self.row.label),
            field,
            rule,
        }
    }
}

//! Generates frames with exactly one defect.
//!
//! A mutated frame records how it was made and therefore which error a receiver
//! must report: the violated rule, the field and the offset.

use proptest::prelude::{Strategy, any};
use proptest::sample::Index;
use proptest::strategy::Union;
use retpath_spec::model::{Dialect, Field, Kind, Message, RANGE_SIZE, Rule};
use retpath_spec::oracle::{self, Value};

use crate::rows::values;

/// A frame with one defect, and the error it must cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutatedFrame {
    /// The frame.
    pub frame: Vec<u8>,
    /// Offset of the defect, in bytes from the start of the frame.
    pub offset: usize,
    /// Label of the message, if its number is valid.
    pub message: Option<&'static str>,
    /// The field at fault, if the defect is in a field.
    pub field: Option<&'static str>,
    /// Name of the violated rule.
    pub rule: &'static str,
}

/// Generates frames of a dialect with one defect.
pub fn mutated_frames(dialect: &'static Dialect) -> impl Strategy<Value = MutatedFrame> {
    let rows = dialect.messages.iter();
    let frames = Union::new(rows.map(|row| values(row).prop_map(move |values| (row, values))));
    (frames, 0..DEFECTS, any::<u16>(), any::<Index>()).prop_filter_map(
        "defect does not apply to this message",
        move |((row, values), defect, number, index)| {
            let whole = ValidFrame::new(dialect, row, &values);
            whole.mutate(defect, number, index)
        },
    )
}

/// Number of defects that [`ValidFrame::mutate`] knows.
const DEFECTS: u8 = 14;

/// A valid frame and the positions of its fields.
struct ValidFrame<'a> {
    dialect: &'static Dialect,
    row: &'static Message,
    values: &'a [Value],
    frame: Vec<u8>,
    /// Start of each field.
    starts: Vec<usize>,
}

impl<'a> ValidFrame<'a> {
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

    /// Applies a defect, if the frame can have it. `number` determines the size of
    /// the change, and `index` its position.
    fn mutate(&self, defect: u8, number: u16, index: Index) -> Option<MutatedFrame> {
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

    /// Changes the byte that begins every frame.
    fn lead(&self, number: u16) -> Option<MutatedFrame> {
        let (&first, _) = self.dialect.lead.split_first()?;
        let [_, more] = number.to_be_bytes();
        let mut frame = self.frame.clone();
        frame[0] = first.wrapping_add(more.max(1));
        Some(MutatedFrame {
            frame,
            offset: 0,
            message: None,
            field: None,
            rule: "lead",
        })
    }

    /// Replaces the message number with an unknown one.
    fn number(&self, number: u16) -> MutatedFrame {
        let at = self.dialect.lead.len();
        let last = self
            .dialect
            .messages
            .last()
            .expect("dialect has messages")
            .number;
        let free = u16::MAX - last;
        // Choose the reserved number as often as the other cases.
        let (number, rule) = match number % 4 {
            0 => (self.dialect.reserved.number, "reserved"),
            _ => (last + 1 + number % free, "unknown"),
        };
        let mut frame = self.frame.clone();
        frame[at..at + 2].copy_from_slice(&number.to_be_bytes());
        MutatedFrame {
            frame,
            offset: at,
            message: None,
            field: None,
            rule,
        }
    }

    /// Sets a length that is invalid for the message, whatever follows.
    fn length(&self, number: u16) -> Option<MutatedFrame> {
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

    /// Extends payload and length beyond the maximum of the message.
    fn longer(&self, number: u16) -> Option<MutatedFrame> {
        let (_, max) = oracle::payload_bounds(self.dialect, self.row);
        let more = max - self.payload() + 1 + usize::from(number % 3);
        let rule = match self.payload() + more {
            len if len > self.dialect.max_payload => "too-long",
            _ => "length",
        };
        let frame = self.resized(self.payload() + more)?;
        Some(self.at(frame, self.dialect.lead.len() + 2, None, rule))
    }

    /// Truncates the last field and adjusts the length.
    fn shorter(&self, number: u16) -> Option<MutatedFrame> {
        let (min, _) = oracle::payload_bounds(self.dialect, self.row);
        let (field, at) = (self.row.fields.last()?, *self.starts.last()?);
        let (size, at) = match self.values.last()? {
            // Truncate the last range.
            Value::Ranges(ranges) => (RANGE_SIZE, at + (ranges.len() - 1) * RANGE_SIZE),
            Value::NoName | Value::PageSizes(None) => return None,
            _ => (self.frame.len() - at, at),
        };
        // Missing page sizes or ranges are valid, so these need a partial element.
        let whole = matches!(field.kind, Kind::PageSizes | Kind::Ranges);
        let most = if whole { size - 1 } else { size };
        let len = self.payload() - 1 - usize::from(number) % most;
        let frame = self.resized(len)?;
        if len < min {
            return Some(self.at(frame, self.dialect.lead.len() + 2, None, "length"));
        }
        Some(self.at(frame, at, Some(field.name), "short"))
    }

    /// Appends bytes after the last field and adjusts the length.
    fn leftover(&self, number: u16) -> Option<MutatedFrame> {
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

    /// Changes a field that has a fixed value.
    fn other_value(&self, number: u16) -> Option<MutatedFrame> {
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

    /// Sets the length of a span to 0.
    fn empty_span(&self) -> Option<MutatedFrame> {
        let (len, at) = self.span()?;
        let zeros = vec![0; len.kind.min_size()];
        Some(self.in_field(len, at, "zero", at, &zeros))
    }

    /// Sets a start that overflows when the length is added.
    fn wrapping_span(&self, number: u16) -> Option<MutatedFrame> {
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

    /// Returns the length field of a span and its position.
    fn span(&self) -> Option<(&'static Field, usize)> {
        let mut fields = self.row.fields.iter().zip(&self.starts);
        let (field, at) = fields.find(|(field, _)| field.rule == Rule::Span)?;
        Some((field, *at))
    }

    /// Applies `make` to the position and length of the name.
    fn name(&self, make: impl FnOnce(&Self, usize, usize) -> MutatedFrame) -> Option<MutatedFrame> {
        let mut values = self.values.iter().zip(&self.starts);
        values
            .find_map(|(value, at)| match value {
                Value::Name(name) => Some((*at, name.len())),
                _ => None,
            })
            .map(|(at, len)| make(self, at, len))
    }

    /// Makes the name longer than the rest of the payload.
    fn longer_name(&self, number: u16) -> Option<MutatedFrame> {
        let (at, left) = self.name_and_rest()?;
        let more = u8::try_from(left).ok()?.checked_add(1)?;
        let [_, by] = number.to_be_bytes();
        let len = more.saturating_add(by);
        Some(self.with(at, "short", at, &[len]))
    }

    /// Makes a name that is the last field shorter than the rest of the payload.
    fn shorter_name(&self, number: u16) -> Option<MutatedFrame> {
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

    /// Returns the position of the name and the number of bytes after its length.
    fn name_and_rest(&self) -> Option<(usize, usize)> {
        let mut values = self.values.iter().zip(&self.starts);
        let (_, at) = values.find(|(value, _)| matches!(value, Value::Name(_)))?;
        Some((*at, self.frame.len() - at - 1))
    }

    /// Makes a range invalid.
    fn range(&self, number: u16, index: Index) -> Option<MutatedFrame> {
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

    /// Returns the payload length.
    fn payload(&self) -> usize {
        self.frame.len() - oracle::header_size(self.dialect)
    }

    /// Returns the frame with a payload of `len` bytes and a matching length.
    fn resized(&self, len: usize) -> Option<Vec<u8>> {
        let mut frame = self.frame.clone();
        frame.resize(oracle::header_size(self.dialect) + len, 0xa5);
        let at = self.dialect.lead.len() + 2;
        frame[at..at + 2].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        Some(frame)
    }

    /// Replaces bytes of the name.
    fn with(&self, at: usize, rule: &'static str, place: usize, bytes: &[u8]) -> MutatedFrame {
        let mut fields = self.row.fields.iter().zip(&self.starts);
        let found = fields.find(|(_, start)| **start == at);
        let (field, _) = found.expect("a field starts at this position");
        self.in_field(field, at, rule, place, bytes)
    }

    fn in_field(
        &self,
        field: &Field,
        offset: usize,
        rule: &'static str,
        place: usize,
        bytes: &[u8],
    ) -> MutatedFrame {
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
    ) -> MutatedFrame {
        MutatedFrame {
            frame,
            offset,
            message: Some(self.row.label),
            field,
            rule,
        }
    }
}

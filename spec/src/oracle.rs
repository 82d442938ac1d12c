//! The oracle: reads and writes messages by interpreting their rows.
//!
//! The codec is tested against it, so it is as simple as possible: no generated
//! code, no parser library, no optimization. [`read`] never panics, whatever
//! the bytes. [`write()`] trusts its caller; [`is_valid`] tells whether values
//! obey the rules.
//!
//! The order of the checks is part of the contract, because the codec must
//! report the same defect: number, limit, length, the fields in order, leftover
//! bytes.

use alloc::vec::Vec;

use crate::model::{Dialect, Field, Kind, MAX_NAME, Message, Rule};

/// Outcome of [`read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is incomplete: at least this many more bytes are needed. Never 0.
    Need(usize),
    /// A complete message.
    Message(Parsed),
}

/// A message, and the number of bytes it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Number on the wire.
    pub number: u16,
    /// One value for each field of the row.
    pub values: Vec<Value>,
    /// Bytes from the start of the input, header included, trailer excluded.
    pub size: usize,
}

/// The value of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer; for [`Kind::FlaggedBe64`] without its flag.
    Number(u64),
    /// A name.
    Name(Vec<u8>),
    /// An absent [`Kind::FlaggedName`].
    NoName,
    /// The two integers of [`Kind::PageSizes`], if they are present.
    PageSizes(Option<(u64, u64)>),
    /// Start and length of each range.
    Ranges(Vec<(u64, u64)>),
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Position of the defect, in bytes from the start of the input.
    pub offset: usize,
    /// Label of the message, if its number is valid.
    pub message: Option<&'static str>,
    /// Name of the field, if the defect is in the payload.
    pub field: Option<&'static str>,
    /// The violated rule, one of [`RULES`].
    pub rule: &'static str,
}

/// Names of the rules that [`read`] checks.
pub const RULES: &[&str] = &[
    "lead",
    "reserved",
    "unknown",
    "too-long",
    "length",
    "short",
    "leftover",
    "value",
    "zero",
    "overflow",
    "empty-name",
    "nul",
];

/// Size of a frame's header, in bytes.
pub const fn header_size(dialect: &Dialect) -> usize {
    dialect.lead.len() + 4
}

/// Smallest and largest payload of a message, in bytes.
pub const fn payload_bounds(dialect: &Dialect, message: &Message) -> (usize, usize) {
    let (mut min, mut max) = (0, 0);
    let mut i = 0;
    while i < message.fields.len() {
        let kind = message.fields[i].kind;
        min += kind.min_size();
        max += kind.max_size(dialect.max_payload.saturating_sub(max));
        i += 1;
    }
    (min, max)
}

/// Reads one message from the start of `input`.
pub fn read(dialect: &Dialect, input: &[u8]) -> Result<Outcome, Refused> {
    let header = header_size(dialect);
    if input.len() < header {
        return Ok(Outcome::Need(header - input.len()));
    }
    let refused = |offset, message, rule| Refused {
        offset,
        message,
        field: None,
        rule,
    };

    let lead = dialect.lead.len();
    if &input[..lead] != dialect.lead {
        return Err(refused(0, None, "lead"));
    }
    let number = u16::from_be_bytes([input[lead], input[lead + 1]]);
    let length = usize::from(u16::from_be_bytes([input[lead + 2], input[lead + 3]]));
    if number == dialect.reserved.number {
        return Err(refused(lead, None, "reserved"));
    }
    let Some(message) = dialect.messages.iter().find(|m| m.number == number) else {
        return Err(refused(lead, None, "unknown"));
    };
    let label = Some(message.label);
    if length > dialect.max_payload {
        return Err(refused(lead + 2, label, "too-long"));
    }
    let (min, max) = payload_bounds(dialect, message);
    if length < min || length > max {
        return Err(refused(lead + 2, label, "length"));
    }
    if input.len() < header + length {
        return Ok(Outcome::Need(header + length - input.len()));
    }

    let mut payload = Payload {
        bytes: &input[header..header + length],
        at: 0,
        flagged: false,
    };
    let mut values = Vec::new();
    for field in message.fields {
        let start = payload.at;
        let value = payload.field(field).map_err(|(at, rule)| Refused {
            offset: header + at,
            message: label,
            field: Some(field.name),
            rule,
        })?;
        let before = values.last();
        if let Some(rule) = violated_rule(field, before, &value) {
            return Err(Refused {
                offset: header + start,
                message: label,
                field: Some(field.name),
                rule,
            });
        }
        values.push(value);
    }
    if payload.at < length {
        return Err(refused(header + payload.at, label, "leftover"));
    }
    Ok(Outcome::Message(Parsed {
        number,
        values,
        size: header + length,
    }))
}

/// Writes a message without its trailer.
///
/// # Panics
///
/// Panics unless there is one value of the right kind for each field of the
/// row, or if a name or the payload is too long for its length field.
pub fn write(dialect: &Dialect, message: &Message, values: &[Value]) -> Vec<u8> {
    assert_eq!(
        values.len(),
        message.fields.len(),
        "one value for each field"
    );
    let mut payload = Vec::new();
    for (i, (field, value)) in message.fields.iter().zip(values).enumerate() {
        match (field.kind, value) {
            (Kind::U8, Value::Number(n)) => payload.push(u8::try_from(*n).expect("one byte")),
            (Kind::Be32, Value::Number(n)) => {
                payload.extend(u32::try_from(*n).expect("32 bits").to_be_bytes());
            }
            (Kind::Be64, Value::Number(n)) => payload.extend(n.to_be_bytes()),
            (Kind::FlaggedBe64, Value::Number(n)) => {
                let flag = matches!(values.get(i + 1), Some(Value::Name(_)));
                payload.extend((n | u64::from(flag)).to_be_bytes());
            }
            (Kind::Name | Kind::FlaggedName, Value::Name(name)) => {
                payload.push(u8::try_from(name.len()).expect("at most 255 bytes"));
                payload.extend(name);
            }
            (Kind::FlaggedName, Value::NoName) | (Kind::PageSizes, Value::PageSizes(None)) => {}
            (Kind::PageSizes, Value::PageSizes(Some((summary, target)))) => {
                payload.extend(summary.to_be_bytes());
                payload.extend(target.to_be_bytes());
            }
            (Kind::Ranges, Value::Ranges(ranges)) => {
                for (start, len) in ranges {
                    payload.extend(start.to_be_bytes());
                    payload.extend(len.to_be_bytes());
                }
            }
            (kind, value) => panic!("{}: {value:?} is no {kind:?}", field.name),
        }
    }
    let mut out = Vec::from(dialect.lead);
    out.extend(message.number.to_be_bytes());
    out.extend(u16::try_from(payload.len()).expect("16 bits").to_be_bytes());
    out.extend(payload);
    out
}

/// Whether the values obey the rules of their fields.
pub fn is_valid(message: &Message, values: &[Value]) -> bool {
    values.len() == message.fields.len()
        && message
            .fields
            .iter()
            .zip(values)
            .enumerate()
            .all(|(i, (field, value))| {
                let before = i.checked_sub(1).map(|before| &values[before]);
                violated_rule(field, before, value).is_none()
            })
}

/// The rule that a value violates, if any.
fn violated_rule(field: &Field, before: Option<&Value>, value: &Value) -> Option<&'static str> {
    match (field.rule, value) {
        (Rule::Equals(want), Value::Number(got)) if *got != want => return Some("value"),
        (_, Value::Number(n)) if field.kind == Kind::FlaggedBe64 && n % 2 != 0 => {
            return Some("odd");
        }
        (Rule::Span, Value::Number(len)) => {
            let Some(Value::Number(start)) = before else {
                return None;
            };
            return span(*start, *len);
        }
        _ => {}
    }
    match value {
        Value::Name(name) if name.is_empty() => Some("empty-name"),
        Value::Name(name) if name.len() > MAX_NAME => Some("name-too-long"),
        Value::Name(name) if name.contains(&0) => Some("nul"),
        _ => None,
    }
}

fn span(start: u64, len: u64) -> Option<&'static str> {
    if len == 0 {
        return Some("zero");
    }
    start.checked_add(len).is_none().then_some("overflow")
}

/// A payload and the position of its reader.
struct Payload<'a> {
    bytes: &'a [u8],
    at: usize,
    flagged: bool,
}

impl Payload<'_> {
    fn field(&mut self, field: &Field) -> Result<Value, (usize, &'static str)> {
        match field.kind {
            Kind::U8 => Ok(Value::Number(self.number(1)?)),
            Kind::Be32 => Ok(Value::Number(self.number(4)?)),
            Kind::Be64 => Ok(Value::Number(self.number(8)?)),
            Kind::FlaggedBe64 => {
                let n = self.number(8)?;
                self.flagged = n % 2 == 1;
                Ok(Value::Number(n - n % 2))
            }
            Kind::FlaggedName if !self.flagged => Ok(Value::NoName),
            Kind::Name | Kind::FlaggedName => {
                let start = self.at;
                let size = self.number(1)?;
                if size == 0 {
                    return Err((start, "empty-name"));
                }
                let mut name = Vec::new();
                for _ in 0..size {
                    // A name that exceeds the payload is reported as a whole.
                    let byte = self.number(1).map_err(|_| (start, "short"))?;
                    name.extend(u8::try_from(byte));
                }
                Ok(Value::Name(name))
            }
            Kind::PageSizes if self.at == self.bytes.len() => Ok(Value::PageSizes(None)),
            Kind::PageSizes => {
                let start = self.at;
                let summary = self.number(8)?;
                let target = self.number(8).map_err(|_| (start, "short"))?;
                Ok(Value::PageSizes(Some((summary, target))))
            }
            Kind::Ranges => {
                let mut ranges = Vec::new();
                while ranges.is_empty() || self.at < self.bytes.len() {
                    let at = self.at;
                    let (Ok(start), Ok(len)) = (self.number(8), self.number(8)) else {
                        return Err((at, "short"));
                    };
                    if let Some(rule) = span(start, len) {
                        return Err((at, rule));
                    }
                    ranges.push((start, len));
                }
                Ok(Value::Ranges(ranges))
            }
        }
    }

    /// A big-endian integer of `size` bytes.
    fn number(&mut self, size: usize) -> Result<u64, (usize, &'static str)> {
        let Some(bytes) = self.bytes.get(self.at..self.at + size) else {
            return Err((self.at, "short"));
        };
        self.at += size;
        Ok(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

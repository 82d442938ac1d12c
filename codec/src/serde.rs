//! `Serialize` and `Deserialize` for fields; those of messages are generated.
//!
//! Human-readable formats get the schema of `codec/JSON.md`. There, a name is a
//! string if it is UTF-8 and `{"hex": "…"}` if it is not, so that different
//! names stay different; in binary formats a name is its bytes. `Deserialize`
//! refuses what a receiver would refuse, and accepts hexadecimal digits of
//! either case. Nothing here panics.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ::serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use ::serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use crate::error::Rule;
use crate::forward::EventView;
use crate::frame::{Dialect, Value};
use crate::generated::MAX_NAME;
use crate::name::{BlockName, Name, NameBuf};
use crate::ranges::{PageSizes, Range, RangeBuf, RangeList, Ranges};

const HEX: &str = "hex";

/// Writes a map of the label, as `message`, and the fields.
fn map<S: Serializer>(
    to: S,
    label: &'static str,
    fields: impl FnOnce(&mut dyn FnMut(&'static str, Value<'_>)),
) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    let mut written = map.serialize_entry("message", label);
    fields(&mut |name, value| {
        if written.is_ok() && !value.is_absent() {
            written = map.serialize_entry(name, &value);
        }
    });
    written?;
    map.end()
}

/// Writes a message for a human-readable format.
pub(crate) fn by_fields<D: Dialect, S: Serializer>(
    message: &D::Message<'_>,
    to: S,
) -> Result<S::Ok, S::Error> {
    map(to, D::label(message), |show| D::fields(message, show))
}

/// Writes the event's label, as `message`, and its fields.
impl Serialize for EventView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        map(to, self.label(), |show| self.fields(show))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match *self {
            Value::Number(number) | Value::Offset(number) | Value::Bytes(number) => {
                to.serialize_u64(number)
            }
            Value::Name(name) => name.serialize(to),
            Value::PageSizes(sizes) => sizes.serialize(to),
            Value::Ranges(ranges) => ranges.serialize(to),
            Value::Text(bytes) => Text(bytes).serialize(to),
            Value::Hex(bytes) => Hex(bytes).serialize(to),
            Value::Capabilities(names) => to.collect_seq(names.iter().map(Text)),
        }
    }
}

/// A field that has one legal value.
#[derive(Default)]
pub(crate) struct Fixed<const VALUE: u64>;

impl<'de, const VALUE: u64> Deserialize<'de> for Fixed<VALUE> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let got = u64::deserialize(from)?;
        match got == VALUE {
            true => Ok(Self),
            false => Err(D::Error::custom(Rule::Value { got, want: VALUE })),
        }
    }
}

/// Bytes that are usually UTF-8.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return to.serialize_bytes(self.0);
        }
        match core::str::from_utf8(self.0) {
            Ok(text) => to.serialize_str(text),
            Err(_) => {
                let mut name = to.serialize_struct("Name", 1)?;
                name.serialize_field(HEX, &Hex(self.0))?;
                name.end()
            }
        }
    }
}

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Text(self.as_bytes()).serialize(to)
    }
}

impl Serialize for NameBuf {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(to)
    }
}

impl<'de> Deserialize<'de> for NameBuf {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            from.deserialize_any(NameVisitor)
        } else {
            from.deserialize_bytes(NameVisitor)
        }
    }
}

/// Bytes, written as lower-case hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = NameBuf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a RAM block name: a string, or {\"hex\": \"…\"} for bytes that are not UTF-8")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<NameBuf, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<NameBuf, E> {
        NameBuf::new(bytes).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<NameBuf, A::Error> {
        let mut name = Vec::new();
        // One byte more than a name may have is enough to refuse the name.
        while name.len() <= MAX_NAME {
            let Some(byte) = bytes.next_element()? else {
                break;
            };
            name.push(byte);
        }
        self.visit_bytes(&name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NameBuf, A::Error> {
        let Some((key, digits)) = map.next_entry::<String, String>()? else {
            return Err(A::Error::missing_field(HEX));
        };
        if key != HEX {
            return Err(A::Error::unknown_field(&key, &[HEX]));
        }
        if let Some(key) = map.next_key::<String>()? {
            return Err(A::Error::unknown_field(&key, &[HEX]));
        }
        let bytes = unhex(&digits)
            .ok_or_else(|| A::Error::custom("`hex` is not an even number of hexadecimal digits"))?;
        self.visit_bytes(&bytes)
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

/// A range that has not been checked.
#[derive(::serde::Deserialize)]
#[serde(rename = "Range", deny_unknown_fields)]
struct RangeMirror {
    start: u64,
    len: u64,
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let RangeMirror { start, len } = RangeMirror::deserialize(from)?;
        Range::new(start, len).map_err(D::Error::custom)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut range = to.serialize_struct("Range", 2)?;
        range.serialize_field("start", &self.start)?;
        range.serialize_field("len", &self.len)?;
        range.end()
    }
}

impl Serialize for Ranges<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // `Vec` because binary formats write the length first.
        to.collect_seq(self.iter().collect::<Vec<_>>())
    }
}

impl Serialize for RangeBuf {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.as_slice())
    }
}

impl<'de> Deserialize<'de> for RangeBuf {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ranges = Vec::deserialize(from)?;
        if ranges.is_empty() {
            return Err(D::Error::invalid_length(0, &"at least one range"));
        }
        RangeBuf::new(ranges).map_err(D::Error::custom)
    }
}

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "PageSizes", deny_unknown_fields)]
struct PageSizesMirror {
    summary: u64,
    target: u64,
}

impl Serialize for PageSizes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let PageSizes { summary, target } = *self;
        PageSizesMirror { summary, target }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for PageSizes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let PageSizesMirror { summary, target } = PageSizesMirror::deserialize(from)?;
        Ok(PageSizes { summary, target })
    }
}

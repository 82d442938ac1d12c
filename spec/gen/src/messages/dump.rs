//! Hex dumps: bytes on the left, their meaning on the right.

use super::super::text::Text;
use retpath_spec::model::{Dialect, Kind, Message, Trailer, Unit};
use retpath_spec::oracle::{Value, header_size, write};
use retpath_spec::sample::Sample;

/// Bytes per line.
const LINE: usize = 8;
/// Longest span that is shown in full, in bytes.
const MOST: usize = 32;

/// Some bytes of a message or a stream.
pub(super) struct Span {
    /// Bytes.
    pub(super) bytes: Vec<u8>,
    /// Meaning.
    pub(super) what: String,
}

impl Span {
    pub(super) fn new(bytes: &[u8], what: impl Into<String>) -> Self {
        Self {
            bytes: bytes.into(),
            what: what.into(),
        }
    }
}

/// A sample, split into its fields.
pub(super) fn message(dialect: &Dialect, message: &Message, sample: &Sample) -> Vec<Span> {
    let bytes = write(dialect, message, &sample.values);
    let lead = dialect.lead.len();
    let header = header_size(dialect);
    let mut spans = Vec::new();
    if lead > 0 {
        spans.push(Span::new(&bytes[..lead], "COMMAND"));
    }
    let kind = format!("{} = {}", type_name(dialect), message.number);
    spans.push(Span::new(
        &bytes[lead..lead + 2],
        format!("{kind}, {}", message.label),
    ));
    let length = format!("length = {}", bytes.len() - header);
    spans.push(Span::new(&bytes[lead + 2..header], length));

    let mut rest = &bytes[header..];
    let mut take = |size: usize, what: String| {
        let (taken, after) = rest.split_at(size);
        rest = after;
        spans.push(Span::new(taken, what));
    };
    for (field, value) in message.fields.iter().zip(&sample.values) {
        let name = field.name;
        match value {
            Value::Number(n) => {
                let shown = match field.unit {
                    Unit::Offset => format!("{name} = {n:#x}"),
                    Unit::Plain | Unit::Bytes => format!("{name} = {n}"),
                };
                let flagged = field.kind == Kind::FlaggedBe64;
                let named = flagged && matches!(sample.values.last(), Some(Value::Name(_)));
                let note = if named { ", and a name follows" } else { "" };
                take(field.kind.min_size(), shown + note);
            }
            Value::Name(bytes) => {
                take(1, format!("length of {name} = {}", bytes.len()));
                take(
                    bytes.len(),
                    format!("{name} = \"{}\"", bytes.escape_ascii()),
                );
            }
            Value::NoName | Value::PageSizes(None) => {}
            Value::PageSizes(Some((summary, target))) => {
                take(8, format!("page-size summary = {summary}"));
                take(8, format!("target page size = {target}"));
            }
            Value::Ranges(ranges) => {
                for (start, len) in ranges {
                    take(8, format!("start = {start:#x}"));
                    take(8, format!("length = {len:#x}"));
                }
            }
        }
    }
    spans.extend(trailer(message, sample));
    spans
}

fn trailer(message: &Message, sample: &Sample) -> Vec<Span> {
    let bytes = &sample.trailer;
    match message.trailer {
        None | Some(Trailer::End) => Vec::new(),
        Some(Trailer::Package) => Vec::from([Span::new(bytes, "nested stream")]),
        Some(Trailer::Bitmap) => {
            let size = bytes.len() - 16;
            let bitmap = &bytes[8..8 + size];
            let received: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
            Vec::from([
                Span::new(&bytes[..8], format!("S = {size}")),
                Span::new(bitmap, format!("bitmap, {received} pages received")),
                Span::new(&bytes[8 + size..], "end mark"),
            ])
        }
    }
}

/// The dialect's word for the number of a message.
pub(super) fn type_name(dialect: &Dialect) -> &'static str {
    match dialect.lead {
        [] => "type",
        _ => "command",
    }
}

/// The spans as a listing with offsets.
pub(super) fn listing(out: &mut Text, spans: &[Span]) {
    out.line("```text");
    let mut offset = 0;
    for span in spans {
        let mut what = span.what.as_str();
        let long = span.bytes.len() > MOST;
        let shown = if long { LINE } else { span.bytes.len() };
        for (i, line) in span.bytes[..shown].chunks(LINE).enumerate() {
            let mut hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            if long {
                hex.push(String::from("…"));
            }
            let text = format!("{:04x}  {:25} {what}", offset + i * LINE, hex.join(" "));
            out.line(text.trim_end());
            what = "";
        }
        offset += span.bytes.len();
    }
    out.line("```");
    out.line("");
}

/// A number of bytes, with the unit.
pub(super) fn bytes(n: &dyn ToString) -> String {
    match n.to_string().as_str() {
        "1" => String::from("1 byte"),
        n => format!("{n} bytes"),
    }
}

//! Messages and summaries as JSON: one object per line.
//!
//! Numbers are exact 64-bit integers and lengths are bytes. A string of the
//! stream that is not UTF-8 is written as `{"hex":"706300ff"}`, so nothing is
//! lost and nothing is invented.

use retpath_codec::command::RangeList;

use super::fields::{Cell, Fields, push};

/// An object that is being written.
pub(super) struct Line<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Line<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>, offset: u64, label: &str) -> Self {
        push(
            out,
            format_args!(r#"{{"offset":{offset},"message":"{label}""#),
        );
        Self { out }
    }

    pub(super) fn close(self) {
        self.out.extend(b"}\n");
    }
}

impl Fields for Line<'_> {
    fn put(&mut self, name: &'static str, cell: Cell<'_>) {
        push(self.out, format_args!(r#","{name}":"#));
        value(self.out, cell);
    }

    fn note(&mut self, _: &'static str, _: std::fmt::Arguments<'_>) {}
}

fn value(out: &mut Vec<u8>, cell: Cell<'_>) {
    match cell {
        Cell::Number(number) | Cell::Offset(number) | Cell::Bytes(number) => {
            push(out, format_args!("{number}"));
        }
        Cell::Name(bytes) => string(out, bytes),
        Cell::Word(word) => string(out, word.as_bytes()),
        Cell::Hex(bytes) => {
            out.push(b'"');
            hex(out, bytes);
            out.push(b'"');
        }
        Cell::PageSizes(sizes) => push(
            out,
            format_args!(
                r#"{{"summary":{},"target":{}}}"#,
                sizes.summary, sizes.target
            ),
        ),
        Cell::Ranges(ranges) => list(out, ranges.iter(), |out, range| {
            push(
                out,
                format_args!(r#"{{"start":{},"len":{}}}"#, range.start, range.len),
            );
        }),
        Cell::Names(names) => list(out, names.iter(), string),
    }
}

/// Writes an array.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Writes bytes: a string if they are UTF-8, else `{"hex":"…"}`.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        // A Vec takes everything, and a string can always be serialized.
        Ok(text) => drop(serde_json::to_writer(out, text)),
        Err(_) => {
            out.extend(br#"{"hex":""#);
            hex(out, bytes);
            out.extend(br#""}"#);
        }
    }
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        push(out, format_args!("{byte:02x}"));
    }
}

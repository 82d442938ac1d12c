//! Messages and summaries as JSON: one object per line.
//!
//! The schema is that of the codec's feature `serde`, described in
//! `codec/JSON.md`; values are written by that feature.

use retpath_codec::Value;

use super::fields::{Fields, push};
use super::report::Buffer;
use crate::output::escape_json;

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
    fn put(&mut self, name: &'static str, value: Value<'_>) {
        if !value.is_absent() {
            push(self.out, format_args!(r#","{name}":"#));
            json(self.out, &value);
        }
    }

    fn note(&mut self, _: &'static str, _: std::fmt::Arguments<'_>) {}
}

/// Writes an array.
pub(super) fn list<T>(
    out: &mut Buffer<'_>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.text.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.text.push(b',');
        }
        write(&mut out.text, item);
        out.spill();
    }
    out.text.push(b']');
}

/// Writes bytes: a string if they are UTF-8, else `{"hex":"…"}`.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    json(out, &Value::Text(bytes));
}

fn json(out: &mut Vec<u8>, value: &Value<'_>) {
    // Does not fail to serialize.
    let text = serde_json::to_string(value).unwrap_or_default();
    out.extend(escape_json(text).into_bytes());
}

//! Messages as text for people: offset, label and fields, in columns.
//!
//! Offsets are hexadecimal, as in a hex dump; lengths have a unit. Text of the stream is
//! escaped before it reaches the terminal.

use std::fmt;

use anstyle::{AnsiColor, Style};
use retpath_codec::Value;
use retpath_codec::command::RangeList;
use retpath_codec::escape::Escaped;

use super::fields::{Fields, push};
use crate::size::Human;

const OFFSET: Style = Style::new().dimmed();
const LABEL: Style = AnsiColor::Cyan.on_default().bold();
const FIELD: Style = Style::new().dimmed();

/// Number of discard ranges that a line shows.
const SHOWN_RANGES: usize = 12;

/// A line that is being written.
pub(super) struct Line<'o> {
    out: &'o mut Vec<u8>,
    color: bool,
    /// Spaces to write if anything follows.
    gap: usize,
}

impl<'o> Line<'o> {
    pub(super) fn open(
        out: &'o mut Vec<u8>,
        color: bool,
        offset: u64,
        nested: bool,
        label: &str,
        width: usize,
    ) -> Self {
        let mut line = Self { out, color, gap: 0 };
        line.styled(OFFSET, format_args!("{offset:#012x}"));
        let indent = if nested { 2 } else { 0 };
        line.out.resize(line.out.len() + 2 + indent, b' ');
        line.styled(LABEL, format_args!("{label}"));
        line.gap = width.saturating_sub(label.len() + indent) + 2;
        line
    }

    pub(super) fn close(self) {
        self.out.push(b'\n');
    }

    fn styled(&mut self, style: Style, text: fmt::Arguments<'_>) {
        if self.color {
            push(self.out, format_args!("{style}{text}{style:#}"));
        } else {
            push(self.out, text);
        }
    }

    fn name(&mut self, name: &'static str) {
        let gap = std::mem::take(&mut self.gap);
        self.out.resize(self.out.len() + gap, b' ');
        self.styled(FIELD, format_args!("{name}"));
        self.out.push(b' ');
    }

    /// Pads what was written from `start` on to `width` columns.
    fn column(&mut self, start: usize, width: usize) {
        let taken = self.out.len() - start;
        self.gap = width.saturating_sub(taken) + 2;
    }
}

impl Fields for Line<'_> {
    fn put(&mut self, name: &'static str, value: Value<'_>) {
        if value.is_absent() {
            return;
        }
        self.name(name);
        let start = self.out.len();
        let width = match value {
            Value::Number(number) => {
                push(self.out, format_args!("{number}"));
                0
            }
            Value::Offset(offset) => {
                push(self.out, format_args!("{offset:#x}"));
                11
            }
            Value::Bytes(bytes) => {
                push(self.out, format_args!("{}", Human(bytes)));
                7
            }
            Value::Name(Some(name)) => {
                push(self.out, format_args!("{}", Escaped::new(name.as_bytes())));
                0
            }
            Value::Text(bytes) => {
                push(self.out, format_args!("{}", Escaped::new(bytes)));
                0
            }
            Value::Hex(bytes) => {
                for byte in bytes {
                    push(self.out, format_args!("{byte:02x}"));
                }
                0
            }
            Value::PageSizes(Some(sizes)) => {
                let (summary, target) = (Sizes(sizes.summary), Human(sizes.target));
                push(self.out, format_args!("{summary}, target page {target}"));
                0
            }
            Value::Ranges(ranges) => {
                separated(self.out, ranges.iter().take(SHOWN_RANGES), |out, range| {
                    let (start, len) = (range.start, Human(range.len));
                    push(out, format_args!("{start:#x}+{len}"));
                });
                let hidden = ranges.count().saturating_sub(SHOWN_RANGES);
                if hidden > 0 {
                    push(self.out, format_args!(" and {hidden} more"));
                }
                0
            }
            Value::Capabilities(names) => {
                separated(self.out, names.iter(), |out, name| {
                    push(out, format_args!("{}", Escaped::new(name)));
                });
                0
            }
            _ => 0,
        };
        self.column(start, width);
    }

    fn note(&mut self, name: &'static str, text: fmt::Arguments<'_>) {
        self.name(name);
        let start = self.out.len();
        push(self.out, text);
        self.column(start, 8);
    }
}

/// The sizes whose bitwise OR this is, each a power of two.
struct Sizes(u64);

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        if left == 0 {
            return f.write_str("none");
        }
        let mut between = "";
        while left != 0 {
            let lowest = left & left.wrapping_neg();
            write!(f, "{between}{}", Human(lowest))?;
            left ^= lowest;
            between = " | ";
        }
        Ok(())
    }
}

fn separated<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.extend(b", ");
        }
        write(out, item);
    }
}

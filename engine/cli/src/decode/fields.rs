//! The fields of a message, as the lines of a report take them.

use std::fmt;

use retpath_codec::Value;
use retpath_codec::command::{PageSizes, Ranges};
use retpath_codec::forward::Capabilities;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    /// A number without a unit.
    Number(u64),
    /// An offset in a RAM block, in bytes.
    Offset(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A string of the stream: bytes, not necessarily UTF-8.
    Name(&'a [u8]),
    /// A word that is not in the stream.
    Word(&'static str),
    /// Bytes that are not text.
    Hex(&'a [u8]),
    /// Page sizes of POSTCOPY_ADVISE.
    PageSizes(PageSizes),
    /// Ranges of POSTCOPY_RAM_DISCARD.
    Ranges(Ranges<'a>),
    /// Names of capabilities.
    Names(Capabilities<'a>),
}

impl<'a> Cell<'a> {
    /// The cell of a codec's value; `None` for a field that is absent.
    pub(super) fn of(value: Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Number(number) => Cell::Number(number),
            Value::Offset(offset) => Cell::Offset(offset),
            Value::Bytes(bytes) => Cell::Bytes(bytes),
            Value::Name(name) => Cell::Name(name?.as_bytes()),
            Value::PageSizes(sizes) => Cell::PageSizes(sizes?),
            Value::Ranges(ranges) => Cell::Ranges(ranges),
        })
    }
}

/// A line that takes the fields of a message.
pub(super) trait Fields {
    /// Adds a field of the message.
    fn put(&mut self, name: &'static str, cell: Cell<'_>);

    /// Adds a remark for people, which programs can derive themselves.
    fn note(&mut self, name: &'static str, text: fmt::Arguments<'_>);

    /// Notes the page of `size` bytes that contains an offset, and the offset in it; nothing if
    /// `size` is 0.
    fn page(&mut self, offset: u64, size: u64) {
        let (Some(page), Some(into)) = (offset.checked_div(size), offset.checked_rem(size)) else {
            return;
        };
        match into {
            0 => self.note("page", format_args!("{page}")),
            _ => self.note("page", format_args!("{page}+{into:#x}")),
        }
    }
}

/// Appends formatted text.
pub(super) fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A Vec takes everything.
    let _ = std::io::Write::write_fmt(out, text);
}

//! The fields of a message, as the lines of a report take them.

use std::fmt;

use retpath_codec::Value;

/// A line that takes the fields of a message.
pub(super) trait Fields {
    /// Adds a field of the message; absent ones are left out.
    fn put(&mut self, name: &'static str, value: Value<'_>);

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

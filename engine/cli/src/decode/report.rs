//! What is printed: one line per message, or one summary.
//!
//! A report is written to memory; nothing here fails or blocks. The caller
//! empties [`Report::out`] often enough to keep it small.

use std::fmt;

use retpath_codec::Value;

use super::{Format, Options, json, text};

/// A report in the making.
#[derive(Debug)]
pub(super) struct Report {
    form: Form,
    /// Columns that the messages' labels take in text.
    width: usize,
    /// Whether messages stand inside another one, for the eye.
    pub(super) nested: bool,
    /// What has been printed and not yet been written.
    pub(super) out: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text {
        colour: bool,
    },
    Json,
    /// Only the summary is wanted.
    Silent,
}

/// Where the fields of a message go.
pub(super) trait Fields {
    /// A field of the wire; absent ones are left out.
    fn put(&mut self, name: &'static str, value: Value<'_>);

    /// A remark for people, which programs can work out themselves.
    fn note(&mut self, name: &'static str, text: fmt::Arguments<'_>);

    /// Notes which page of `size` bytes an offset is in, and where in it. A
    /// size of 0 is noted as no page.
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

impl Report {
    pub(super) fn new(options: &Options, width: usize) -> Self {
        let form = match (options.summary, options.format) {
            (true, _) => Form::Silent,
            (false, Format::Json) => Form::Json,
            (false, Format::Text) => Form::Text {
                colour: options.colour,
            },
        };
        Self {
            form,
            width,
            nested: false,
            out: Vec::new(),
        }
    }

    /// Whether lines are printed at all.
    pub(super) fn is_silent(&self) -> bool {
        self.form == Form::Silent
    }

    /// Prints a message that starts `offset` bytes into the recording.
    pub(super) fn message(
        &mut self,
        offset: u64,
        label: &str,
        fields: impl FnOnce(&mut dyn Fields),
    ) {
        match self.form {
            Form::Silent => {}
            Form::Json => {
                let mut line = json::Line::open(&mut self.out, offset, label);
                fields(&mut line);
                line.close();
            }
            Form::Text { colour } => {
                let mut line = text::Line::open(
                    &mut self.out,
                    colour,
                    offset,
                    self.nested,
                    label,
                    self.width,
                );
                fields(&mut line);
                line.close();
            }
        }
    }
}

/// Appends formatted text.
pub(super) fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A Vec takes everything.
    let _ = std::io::Write::write_fmt(out, text);
}

//! The report: one line per message, or one summary.
//!
//! It is written to memory, so nothing here fails or blocks. The caller empties [`Report::out`]
//! often enough to keep it small.

use super::fields::Fields;
use super::{Format, Options, json, text};

/// A report that is being written.
#[derive(Debug)]
pub(super) struct Report {
    form: Form,
    /// Columns of the messages' labels in text.
    width: usize,
    /// Whether messages are inside another one, and so indented.
    pub(super) nested: bool,
    /// The part that has not been written.
    pub(super) out: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text {
        color: bool,
    },
    Json,
    /// Only the summary is wanted.
    Silent,
}

impl Report {
    pub(super) fn new(options: &Options, width: usize) -> Self {
        let form = match (options.summary, options.format) {
            (true, _) => Form::Silent,
            (false, Format::Json) => Form::Json,
            (false, Format::Text) => Form::Text {
                color: options.color,
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
            Form::Text { color } => {
                let mut line =
                    text::Line::open(&mut self.out, color, offset, self.nested, label, self.width);
                fields(&mut line);
                line.close();
            }
        }
    }
}

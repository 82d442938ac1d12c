//! The report: one line per message, or one summary.
//!
//! It is written through a buffer of bounded size. An error of the output stays in the buffer until
//! [`Buffer::flush`] returns it, so decoding and printing need not handle it.

use std::io::{self, Write};

use super::fields::Fields;
use super::{Format, Options, json, text};

/// The part of a report that is not written yet, and where it goes.
pub(super) struct Buffer<'o> {
    pub(super) text: Vec<u8>,
    output: &'o mut dyn Write,
    is_flushed: bool,
    error: Option<io::Error>,
}

/// Size in bytes from which the buffer is written.
const FULL: usize = 64 << 10;

impl<'o> Buffer<'o> {
    fn new(output: &'o mut dyn Write) -> Self {
        Self {
            text: Vec::new(),
            output,
            is_flushed: true,
            error: None,
        }
    }

    /// Writes the text if there is much of it; to be called after each line.
    pub(super) fn spill(&mut self) {
        if self.text.len() >= FULL {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.error.is_none() {
            self.error = self.output.write_all(&self.text).err();
        }
        self.text.clear();
        self.is_flushed = false;
    }

    /// Writes everything, so that the output's reader sees it.
    ///
    /// # Errors
    ///
    /// The output cannot be written, now or earlier.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() && self.is_flushed {
            return Ok(());
        }
        self.write();
        self.is_flushed = true;
        match self.error.take() {
            Some(error) => Err(error),
            None => self.output.flush(),
        }
    }
}

/// A report that is being written.
pub(super) struct Report<'o> {
    form: Form,
    /// Columns of the messages' labels in text.
    width: usize,
    /// Whether messages are inside another one, and so indented.
    pub(super) nested: bool,
    pub(super) out: Buffer<'o>,
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

impl<'o> Report<'o> {
    pub(super) fn new(options: &Options, width: usize, output: &'o mut dyn Write) -> Self {
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
            out: Buffer::new(output),
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
        let text = &mut self.out.text;
        match self.form {
            Form::Silent => {}
            Form::Json => {
                let mut line = json::Line::open(text, offset, label);
                fields(&mut line);
                line.close();
            }
            Form::Text { color } => {
                let mut line =
                    text::Line::open(text, color, offset, self.nested, label, self.width);
                fields(&mut line);
                line.close();
            }
        }
        self.out.spill();
    }
}

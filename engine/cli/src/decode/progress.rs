//! The progress bar: on a terminal, for recordings that take a while.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Recordings up to this many bytes are decoded before a bar could be read.
const NOTICEABLE: u64 = 64 << 20;

pub(super) struct Progress {
    size: Option<u64>,
    done: u64,
    /// Counts from the start, for the rate; hidden until it is worth a look.
    bar: Option<ProgressBar>,
    is_shown: bool,
}

impl Progress {
    /// Of a recording of `size` bytes, or of a pipe. A terminal that shows the
    /// report's lines shows no bar.
    pub(super) fn new(size: Option<u64>, summary: bool, stdout: &io::Stdout) -> Self {
        let is_wanted = io::stderr().is_terminal() && (summary || !stdout.is_terminal());
        Self {
            size,
            done: 0,
            bar: is_wanted.then(|| bar(size)),
            is_shown: false,
        }
    }

    /// Notes that `bytes` more bytes have been read.
    pub(super) fn add(&mut self, bytes: usize) {
        let Some(bar) = &self.bar else {
            return;
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.done = self.done.saturating_add(bytes);
        if !self.is_shown && self.size.unwrap_or(self.done) >= NOTICEABLE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            self.is_shown = true;
        }
        bar.set_position(self.done);
    }

    /// Takes the bar off the terminal.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(size: Option<u64>) -> ProgressBar {
    let template = match size {
        Some(_) => "{wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}",
        None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}",
    };
    let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
    // A template that does not parse would cost the looks, not the report.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

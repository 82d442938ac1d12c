//! Progress bars on standard error; hidden unless it is a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work on fewer bytes is over before a bar could be read.
const NOTICEABLE: u64 = 64 << 20;

/// A bar that counts bytes, and with `message` shows a message instead of the rate. Of an unknown
/// size without `size`. Nothing is drawn until the first update.
pub(crate) fn byte_bar(size: Option<u64>, has_message: bool) -> ProgressBar {
    let template = match (size, has_message) {
        (Some(_), true) => "{wide_bar} {binary_bytes}/{binary_total_bytes}  {msg}",
        (Some(_), false) => {
            "{wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}"
        }
        (None, _) => "{spinner} {binary_bytes}  {binary_bytes_per_sec}",
    };
    styled(
        ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden()),
        template,
    )
}

/// A live line that shows a message.
pub(crate) fn live_line() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target());
    styled(bar, "{msg}")
}

/// A bar with a template; an invalid template would only cost its looks.
pub(crate) fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Where bars are drawn.
pub(crate) fn target() -> ProgressDrawTarget {
    match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

/// The progress of reading a file or a pipe.
pub(crate) struct Progress {
    size: Option<u64>,
    /// Counts from the start, for the rate; hidden until it is worth a look.
    bar: ProgressBar,
    is_shown: bool,
    is_wanted: bool,
}

impl Progress {
    /// Progress through `size` bytes, or through a pipe.
    pub(crate) fn new(size: Option<u64>, is_wanted: bool) -> Self {
        Self {
            size,
            bar: byte_bar(size, false),
            is_shown: false,
            is_wanted,
        }
    }

    /// Sets the number of bytes done.
    pub(crate) fn set(&mut self, done: u64) {
        if !self.is_wanted {
            return;
        }
        if !self.is_shown && self.size.unwrap_or(done) >= NOTICEABLE {
            self.bar.set_draw_target(target());
            self.is_shown = true;
        }
        self.bar.set_position(done);
    }

    /// Sets the number of bytes done, and of all bytes.
    pub(crate) fn set_of(&mut self, done: u64, size: u64) {
        self.size = Some(size);
        self.bar.set_length(size);
        self.set(done);
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

//! The live line: the progress of the migration, on a terminal.

use indicatif::ProgressBar;

use crate::latency::Nanos;
use crate::output::{self, Lines};
use crate::progress;
use retpath_engine::destination::{Destination, Phase};

/// One line that changes.
pub(super) struct Live {
    bar: ProgressBar,
    lines: Lines,
}

impl Live {
    pub(super) fn new() -> Self {
        // Nothing is drawn here: a stopped terminal would block it.
        Self {
            bar: progress::live_line().with_message("waiting for a connection"),
            lines: Lines::default(),
        }
    }

    pub(super) fn show(&self, core: &Destination) {
        if self.goes_on() {
            self.bar.set_message(line(core));
        }
    }

    pub(super) fn writing(&self) {
        if self.goes_on() {
            self.bar
                .set_message("everything has been received; writing the image");
        }
    }

    /// Writes a lasting line above the live one.
    pub(super) fn say(&self, text: &str) {
        self.lines.say(text.to_owned(), |line| self.write(line));
    }

    /// Removes the line, and writes what is still queued.
    pub(super) fn clear(&mut self) {
        self.bar.finish_and_clear();
        self.lines.finish(|line| output::note(line));
    }

    /// Writes queued lines; returns whether standard error accepts more.
    fn goes_on(&self) -> bool {
        self.lines.go_on(|line| self.write(line))
    }

    fn write(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }
}

fn line(core: &Destination) -> String {
    let stats = core.stats();
    let (total, missing) = (core.blocks().total_pages(), core.pages().missing());
    match core.phase() {
        Phase::Fresh if total == 0 => "waiting for the source".into(),
        phase if phase.is_precopy() => {
            format!(
                "precopy: {} pages, {missing} of {total} missing",
                stats.precopy
            )
        }
        Phase::Paused => {
            format!("the link is down, waiting for a new one: {missing} of {total} pages missing")
        }
        Phase::Recovering => format!("recovering: {missing} of {total} pages missing"),
        _ => {
            let latency = &stats.latency.total;
            format!(
                "postcopy: {missing} of {total} pages missing, {} came by request, p50 {} p99 {}",
                stats.demand,
                Nanos(latency.quantile(0.5)),
                Nanos(latency.quantile(0.99))
            )
        }
    }
}

//! The live line: on a terminal, where the migration stands.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::latency::Nanos;
use crate::output::{self, Lines};
use retpath_engine::destination::{Destination, Phase};

/// One line that changes.
pub(super) struct Live {
    bar: ProgressBar,
    lines: Lines,
}

impl Live {
    pub(super) fn new() -> Self {
        let target = match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        // Nothing is drawn here: a held terminal would block it.
        let bar = ProgressBar::with_draw_target(None, target);
        Self {
            bar: bar
                .with_style(style())
                .with_message("waiting for a connection"),
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
                .set_message("everything is here; writing the image");
        }
    }

    /// Says something for good, above the line.
    pub(super) fn say(&self, text: &str) {
        self.lines.say(text.to_owned(), |line| self.write(line));
    }

    /// Takes the line off, and says what could not be said so far.
    pub(super) fn clear(&mut self) {
        self.bar.finish_and_clear();
        self.lines.finish(|line| output::note(line));
    }

    /// Says what waits to be said; whether there is room for the line.
    fn goes_on(&self) -> bool {
        self.lines.go_on(|line| self.write(line))
    }

    fn write(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }
}

fn style() -> indicatif::ProgressStyle {
    // A template that does not parse would cost the looks, nothing else.
    indicatif::ProgressStyle::with_template("{msg}")
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner())
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

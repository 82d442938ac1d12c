//! The log: `tracing` events as lines on standard error, behind `-v` and `--log`.
//!
//! ```text
//! [    0.012] INFO  retpath::receive: connection accepted from="unix:/tmp/in"
//! ```
//!
//! A line is dropped while standard error accepts no more, as on a terminal that is stopped with
//! Ctrl-S: a guest may depend on this process. Nothing here panics or blocks.

use std::fmt::{self, Write};
use std::time::Instant;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::output;

/// The least important events that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What makes a command fail.
    Error,
    /// What may.
    Warn,
    /// Connections and phases.
    Info,
    /// Commands, sections and requests for connections.
    Debug,
    /// Everything but pages.
    Trace,
}

impl LogLevel {
    /// The level of so many `-v`.
    fn of(verbose: u8) -> Self {
        match verbose {
            0 => Self::Off,
            1 => Self::Info,
            2 => Self::Debug,
            _ => Self::Trace,
        }
    }

    fn level(self) -> Option<Level> {
        match self {
            Self::Off => None,
            Self::Error => Some(Level::ERROR),
            Self::Warn => Some(Level::WARN),
            Self::Info => Some(Level::INFO),
            Self::Debug => Some(Level::DEBUG),
            Self::Trace => Some(Level::TRACE),
        }
    }
}

/// Starts logging: at `level`, or else at what `verbose` stands for.
pub(crate) fn start(level: Option<LogLevel>, verbose: u8) {
    let level = level.unwrap_or(LogLevel::of(verbose)).level();
    if let Some(level) = level {
        let start = Instant::now();
        // Fails if there is a subscriber, as in a test that calls this twice.
        let _ = tracing::subscriber::set_global_default(Log { level, start });
    }
}

struct Log {
    level: Level,
    start: Instant,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let (metadata, mut text) = (event.metadata(), Text::default());
        event.record(&mut text);
        let seconds = self.start.elapsed().as_secs_f64();
        let target = metadata.target().replace("retpath_cli", "retpath");
        let Text { message, fields } = text;
        let level = metadata.level();
        output::note_or_drop(format_args!(
            "[{seconds:9.3}] {level:<5} {target}: {message}{fields}"
        ));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Never called: no span is enabled.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message, and its other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

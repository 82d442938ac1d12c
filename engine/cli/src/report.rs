//! What the reports of all commands have in common.

use std::fmt::{Display, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::output::{escape, escape_json};

/// Format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Format {
    /// Renders a report; JSON as one line. Nothing in it controls a terminal.
    pub(crate) fn render(
        self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> String {
        match self {
            Self::Text => escape(text()),
            Self::Json => escape_json(json().to_string()) + "\n",
        }
    }
}

/// Rows for people: a name, a number and what it means.
#[derive(Debug, Default)]
pub(crate) struct Table(pub(crate) String);

impl Table {
    /// Appends a row.
    pub(crate) fn row(&mut self, name: &str, value: impl Display, more: impl Display) {
        let row = format!("{name:<18} {value:>12}   {more}");
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{}", row.trim_end());
    }

    /// Appends the rows of the pages of which `demand` were requested.
    pub(crate) fn pages(&mut self, (demand, sweep, zero): (u64, u64, u64)) {
        let all = demand + sweep;
        let share = |pages: u64| format!("{:.1} %", 100.0 * pages as f64 / all.max(1) as f64);
        self.row("  by demand", demand, share(demand));
        self.row("  by sweep", sweep, share(sweep));
        self.row("  zero", zero, share(zero));
    }
}

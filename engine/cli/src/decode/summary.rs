//! Counts instead of messages.

use super::Format;
use super::report::push;

/// How often each label occurred, in order of first occurrence.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// A handful: labels come from the tables, never from the recording.
    labels: Vec<(&'static str, u64)>,
    /// Where the label before was found; they come in runs.
    last: usize,
}

impl Counts {
    pub(super) fn add(&mut self, label: &'static str) {
        if let Some((known, count)) = self.labels.get_mut(self.last)
            && *known == label
        {
            *count += 1;
            return;
        }
        let found = self.labels.iter().position(|(known, _)| *known == label);
        self.last = found.unwrap_or_else(|| {
            self.labels.push((label, 0));
            self.labels.len() - 1
        });
        self.labels[self.last].1 += 1;
    }

    /// How often this label occurred.
    pub(super) fn of(&self, label: &str) -> u64 {
        let found = self.iter().find(|(known, _)| *known == label);
        found.map_or(0, |(_, count)| count)
    }

    /// Labels and counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.labels.iter().copied()
    }

    /// Prints a return path's summary.
    pub(super) fn print(&self, bytes: u64, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => {
                push(out, format_args!(r#"{{"bytes":{bytes},"messages":"#));
                self.json(out);
                out.extend(b"}\n");
            }
            Format::Text => {
                push(out, format_args!("bytes     {bytes}\n"));
                self.text("messages", out);
            }
        }
    }

    /// Writes an object with a member for each label.
    pub(super) fn json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (label, count)) in self.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            push(out, format_args!(r#"{comma}"{label}":{count}"#));
        }
        out.push(b'}');
    }

    /// Writes a table: a line for each label.
    pub(super) fn text(&self, title: &'static str, out: &mut Vec<u8>) {
        let mut table = Table::new(title, &[""]);
        for (label, count) in self.iter() {
            table.row(label.to_owned(), vec![count.to_string()]);
        }
        table.print(out);
    }
}

/// A table of text: labels on the left, columns of numbers.
pub(super) struct Table {
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(super) fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self {
            rows: vec![(title.to_owned(), columns)],
        }
    }

    pub(super) fn row(&mut self, label: String, cells: Vec<String>) {
        self.rows.push((format!("  {label}"), cells));
    }

    /// Writes the table, or nothing if it has no rows.
    pub(super) fn print(&self, out: &mut Vec<u8>) {
        if self.rows.len() < 2 {
            return;
        }
        let wide = |text: &String| text.chars().count();
        let labels = self.rows.iter().map(|(label, _)| wide(label)).max();
        let cells = self
            .rows
            .iter()
            .flat_map(|(_, cells)| cells)
            .map(wide)
            .max();
        let (labels, cells) = (labels.unwrap_or(0).max(20), cells.unwrap_or(0).max(8));
        for (label, row) in &self.rows {
            push(out, format_args!("{label:<labels$}"));
            for cell in row {
                push(out, format_args!("  {cell:>cells$}"));
            }
            while out.last() == Some(&b' ') {
                out.pop();
            }
            out.push(b'\n');
        }
    }
}

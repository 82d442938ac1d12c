//! Counts instead of messages: of a return path by message, of a forward stream by section,
//! command, RAM record and block.
//!
//! Memory grows with the sections that have different numbers, which the decoder limits.

use std::collections::HashMap;

use retpath_codec::BlockName;
use retpath_codec::command::Command;
use retpath_codec::escape::Escaped;
use retpath_codec::forward::{Event, Identity, SectionKind, StreamBlock};

use super::fields::push;
use super::{Format, json};
use crate::size::Human;

/// The count of each label, in order of first occurrence.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// A few: labels come from the tables, never from the recording.
    labels: Vec<(&'static str, u64)>,
    /// Position of the previous label; labels come in runs.
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

    /// The count of a label.
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

/// Counts of a forward stream.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// In order of first occurrence.
    sections: Vec<Section>,
    /// Position in `sections` of each section's number.
    places: HashMap<u32, usize>,
    commands: Counts,
    records: Counts,
    /// Those after POSTCOPY_LISTEN.
    after_listen: Counts,
    is_listening: bool,
}

#[derive(Debug)]
struct Section {
    id: u32,
    /// `None` if it was announced on a channel that is not in this recording.
    name: Option<Vec<u8>>,
    pieces: Counts,
    /// Bytes of device state.
    state: u64,
}

impl Tally {
    /// Counts of a channel; `is_listening` if all of it comes after POSTCOPY_LISTEN.
    pub(super) fn new(is_listening: bool) -> Self {
        Self {
            is_listening,
            ..Self::default()
        }
    }

    /// Counts an event.
    pub(super) fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Section { kind, id, identity } => self.section(*kind, *id, *identity),
            Event::Command(command) => {
                self.commands.add(command.label());
                self.is_listening |= matches!(command, Command::PostcopyListen);
            }
            Event::Record(record) => {
                self.records.add(record.label());
                if self.is_listening {
                    self.after_listen.add(record.label());
                }
            }
            Event::DeviceState { id, bytes } => {
                let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let state = &mut self.place(*id).state;
                *state = state.saturating_add(more);
            }
            _ => {}
        }
    }

    /// Name of a section, if it is known.
    pub(super) fn name(&self, id: u32) -> Option<&[u8]> {
        let section = self.sections.get(*self.places.get(&id)?)?;
        section.name.as_deref()
    }

    fn section(&mut self, kind: SectionKind, id: u32, identity: Option<Identity<'_>>) {
        let section = self.place(id);
        section.pieces.add(kind.label());
        if let Some(identity) = identity {
            section.name = Some(identity.idstr.to_vec());
        }
    }

    fn place(&mut self, id: u32) -> &mut Section {
        let next = self.sections.len();
        let place = *self.places.entry(id).or_insert(next);
        if place == next {
            self.sections.push(Section {
                id,
                name: None,
                pieces: Counts::default(),
                state: 0,
            });
        }
        // Either an old position or the one that was just added.
        &mut self.sections[place]
    }

    /// Prints the summary of a stream of `bytes` bytes with these RAM blocks.
    pub(super) fn print(
        &self,
        bytes: u64,
        blocks: &[StreamBlock],
        format: Format,
        out: &mut Vec<u8>,
    ) {
        match format {
            Format::Json => self.json(bytes, blocks, out),
            Format::Text => self.text(bytes, blocks, out),
        }
    }

    fn json(&self, bytes: u64, blocks: &[StreamBlock], out: &mut Vec<u8>) {
        push(out, format_args!(r#"{{"bytes":{bytes},"sections":"#));
        json::list(out, self.sections.iter(), |out, section| {
            push(out, format_args!(r#"{{"section":{}"#, section.id));
            if let Some(name) = &section.name {
                out.extend(br#","name":"#);
                json::string(out, name);
            }
            for (label, count) in section.pieces.iter() {
                push(out, format_args!(r#","{label}":{count}"#));
            }
            if section.state > 0 {
                push(out, format_args!(r#","state":{}"#, section.state));
            }
            out.push(b'}');
        });
        for (name, counts) in [
            ("commands", &self.commands),
            ("records", &self.records),
            ("records_after_listen", &self.after_listen),
        ] {
            push(out, format_args!(r#","{name}":"#));
            counts.json(out);
        }
        out.extend(br#","blocks":"#);
        json::list(out, blocks.iter(), |out, block| {
            out.extend(br#"{"block":"#);
            json::string(out, block.name.name().as_bytes());
            if let Some(len) = block.len {
                push(out, format_args!(r#","len":{len}"#));
            }
            push(out, format_args!(r#","page_size":{}}}"#, block.page_size));
        });
        out.extend(b"}\n");
    }

    fn text(&self, bytes: u64, blocks: &[StreamBlock], out: &mut Vec<u8>) {
        push(out, format_args!("bytes     {bytes}\n"));
        let kinds = [
            SectionKind::Start,
            SectionKind::Part,
            SectionKind::End,
            SectionKind::Full,
        ];
        let mut table = Table::new("sections", &["START", "PART", "END", "FULL", "state"]);
        for section in &self.sections {
            let name = Escaped::new(section.name.as_deref().unwrap_or(b"?"));
            let mut cells = kinds
                .map(|kind| section.pieces.of(kind.label()).to_string())
                .to_vec();
            let state = (section.state > 0).then(|| Human(section.state).to_string());
            cells.push(state.unwrap_or_default());
            table.row(format!("{:<4} {name}", section.id), cells);
        }
        table.print(out);
        self.commands.text("commands", out);
        let mut table = Table::new("RAM records", &["all", "after LISTEN"]);
        for (label, count) in self.records.iter() {
            let after = self.after_listen.of(label);
            table.row(label.to_owned(), vec![count.to_string(), after.to_string()]);
        }
        table.print(out);
        let mut table = Table::new("RAM blocks", &["length", "page size"]);
        for block in blocks {
            let name = block.name.to_string();
            let len = block
                .len
                .map_or("unknown".to_owned(), |len| Human(len).to_string());
            table.row(name, vec![len, Human(block.page_size).to_string()]);
        }
        table.print(out);
    }
}

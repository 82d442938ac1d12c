//! Counts instead of messages: of a return path by message, of a forward stream by section,
//! command, RAM record and block.
//!
//! Memory grows with the sections that have different numbers: 65,536 of them at most, as the decoder
//! allows, and each at most 400 bytes, most of which are its name.

use std::collections::HashMap;

use retpath_codec::BlockName;
use retpath_codec::command::Command;
use retpath_codec::escape::Escaped;
use retpath_codec::forward::{Event, Identity, SectionKind, StreamBlock};

use super::fields::push;
use super::report::Buffer;
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
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + Clone {
        self.labels.iter().copied()
    }

    /// Prints a return path's summary.
    pub(super) fn print(&self, bytes: u64, format: Format, out: &mut Buffer<'_>) {
        match format {
            Format::Json => {
                let text = &mut out.text;
                push(text, format_args!(r#"{{"bytes":{bytes},"messages":"#));
                self.json(text);
                text.extend(b"}\n");
            }
            Format::Text => {
                push(&mut out.text, format_args!("bytes     {bytes}\n"));
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
    pub(super) fn text(&self, title: &str, out: &mut Buffer<'_>) {
        let rows = self.iter();
        let rows = rows.map(|(label, count)| (label.to_owned(), vec![count.to_string()]));
        table(out, title, &[""], rows);
    }
}

/// Writes a table, or nothing without rows: labels on the left, columns of numbers.
///
/// The rows are made twice, first to measure the columns, so that they need not all be in memory.
fn table(
    out: &mut Buffer<'_>,
    title: &str,
    columns: &[&str],
    rows: impl Iterator<Item = (String, Vec<String>)> + Clone,
) {
    let mut body = rows.map(|(label, cells)| (format!("  {label}"), cells));
    let columns = columns.iter().map(|&column| column.to_owned()).collect();
    let head = (title.to_owned(), columns);
    let rows = std::iter::once(head).chain(body.clone());
    if body.next().is_none() {
        return;
    }
    let wide = |text: &String| text.chars().count();
    let (labels, cells) = rows.clone().fold((20, 8), |(labels, cells), (label, row)| {
        let widest = row.iter().map(wide).max().unwrap_or(0);
        (wide(&label).max(labels), widest.max(cells))
    });
    for (label, row) in rows {
        let text = &mut out.text;
        push(text, format_args!("{label:<labels$}"));
        for cell in row {
            push(text, format_args!("  {cell:>cells$}"));
        }
        while text.last() == Some(&b' ') {
            text.pop();
        }
        text.push(b'\n');
        out.spill();
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
    name: Option<Box<[u8]>>,
    /// The number of pieces of each of [`KINDS`].
    pieces: [u64; KINDS.len()],
    /// Bytes of device state.
    state: u64,
}

const KINDS: [SectionKind; 4] = [
    SectionKind::Start,
    SectionKind::Part,
    SectionKind::End,
    SectionKind::Full,
];

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
        for (count, known) in section.pieces.iter_mut().zip(KINDS) {
            *count += u64::from(kind == known);
        }
        if let Some(identity) = identity {
            section.name = Some(identity.idstr.into());
        }
    }

    fn place(&mut self, id: u32) -> &mut Section {
        let next = self.sections.len();
        let place = *self.places.entry(id).or_insert(next);
        if place == next {
            self.sections.push(Section {
                id,
                name: None,
                pieces: [0; KINDS.len()],
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
        out: &mut Buffer<'_>,
    ) {
        match format {
            Format::Json => self.json(bytes, blocks, out),
            Format::Text => self.text(bytes, blocks, out),
        }
    }

    fn json(&self, bytes: u64, blocks: &[StreamBlock], out: &mut Buffer<'_>) {
        push(
            &mut out.text,
            format_args!(r#"{{"bytes":{bytes},"sections":"#),
        );
        json::list(out, self.sections.iter(), |out, section| {
            push(out, format_args!(r#"{{"section":{}"#, section.id));
            if let Some(name) = &section.name {
                out.extend(br#","name":"#);
                json::string(out, name);
            }
            let pieces = KINDS.iter().zip(section.pieces);
            for (kind, count) in pieces.filter(|(_, count)| *count > 0) {
                push(out, format_args!(r#","{}":{count}"#, kind.label()));
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
            push(&mut out.text, format_args!(r#","{name}":"#));
            counts.json(&mut out.text);
        }
        out.text.extend(br#","blocks":"#);
        json::list(out, blocks.iter(), |out, block| {
            out.extend(br#"{"block":"#);
            json::string(out, block.name.name().as_bytes());
            if let Some(len) = block.len {
                push(out, format_args!(r#","len":{len}"#));
            }
            push(out, format_args!(r#","page_size":{}}}"#, block.page_size));
        });
        out.text.extend(b"}\n");
    }

    fn text(&self, bytes: u64, blocks: &[StreamBlock], out: &mut Buffer<'_>) {
        push(&mut out.text, format_args!("bytes     {bytes}\n"));
        let rows = self.sections.iter().map(|section| {
            let name = Escaped::new(section.name.as_deref().unwrap_or(b"?"));
            let state = (section.state > 0).then(|| Human(section.state).to_string());
            let mut cells = section.pieces.map(|count| count.to_string()).to_vec();
            cells.push(state.unwrap_or_default());
            (format!("{:<4} {name}", section.id), cells)
        });
        table(
            out,
            "sections",
            &["START", "PART", "END", "FULL", "state"],
            rows,
        );
        self.commands.text("commands", out);
        let rows = self.records.iter().map(|(label, count)| {
            let after = self.after_listen.of(label);
            (label.to_owned(), vec![count.to_string(), after.to_string()])
        });
        table(out, "RAM records", &["all", "after LISTEN"], rows);
        let rows = blocks.iter().map(|block| {
            let name = Escaped::new(block.name.name().as_bytes()).to_string();
            let len = block
                .len
                .map_or("unknown".to_owned(), |len| Human(len).to_string());
            (name, vec![len, Human(block.page_size).to_string()])
        });
        table(out, "RAM blocks", &["length", "page size"], rows);
    }
}

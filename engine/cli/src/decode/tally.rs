//! Counts of a forward stream: sections, commands, RAM records, blocks.
//!
//! Grows with sections of different numbers, which the decoder limits.

use std::collections::HashMap;

use retpath_codec::BlockName;
use retpath_codec::command::Command;
use retpath_codec::forward::{Block, Event, Identity, SectionKind};

use super::report::push;
use super::summary::{Counts, Table};
use super::text::Escaped;
use super::{Format, json};
use crate::size::Human;

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// In order of first occurrence.
    sections: Vec<Section>,
    /// Where in `sections` a section's number is.
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
    /// Of a channel on which everything comes after POSTCOPY_LISTEN, or not.
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
        // A place is either old or the one that has just been filled.
        &mut self.sections[place]
    }

    /// Prints the summary of a stream of `bytes` bytes with these RAM blocks.
    pub(super) fn print(&self, bytes: u64, blocks: &[Block], format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => self.json(bytes, blocks, out),
            Format::Text => self.text(bytes, blocks, out),
        }
    }

    fn json(&self, bytes: u64, blocks: &[Block], out: &mut Vec<u8>) {
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

    fn text(&self, bytes: u64, blocks: &[Block], out: &mut Vec<u8>) {
        push(out, format_args!("bytes     {bytes}\n"));
        let kinds = [
            SectionKind::Start,
            SectionKind::Part,
            SectionKind::End,
            SectionKind::Full,
        ];
        let mut table = Table::new("sections", &["START", "PART", "END", "FULL", "state"]);
        for section in &self.sections {
            let name = Escaped(section.name.as_deref().unwrap_or(b"?"));
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
            let name = Escaped(block.name.name().as_bytes()).to_string();
            let len = block
                .len
                .map_or("unknown".to_owned(), |len| Human(len).to_string());
            table.row(name, vec![len, Human(block.page_size).to_string()]);
        }
        table.print(out);
    }
}

//! The forward stream, event by event: main channel, resumed channel, preempt channel.
//!
//! Device state has no structure here. Its pieces depend on how the input is split, so they become
//! one line with their length. Only the decoder can fail.

use retpath_codec::command::{Command, Commands};
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{self, BlockId, Decoder, Event, Step, Subsection};
use retpath_codec::{BlockName, DecodeError, Dialect};

use super::fields::{Cell, Fields};
use super::report::Report;
use super::summary::Tally;
use super::text::Escaped;
use super::{Kind, Options};

/// Columns of the longest label, POSTCOPY_RAM_DISCARD.
pub(super) const WIDTH: usize = 20;

/// A forward stream that is being decoded.
#[derive(Debug)]
pub(super) struct Forward {
    decoder: Decoder,
    tally: Tally,
    /// Device state of which more may follow.
    opaque: Option<Opaque>,
}

#[derive(Clone, Copy, Debug)]
struct Opaque {
    offset: u64,
    section: u32,
    bytes: u64,
}

impl Forward {
    pub(super) fn new(kind: Kind, options: &Options) -> Self {
        let forward = forward::Options {
            host_page: Options::DEFAULT_PAGE,
            page_sizes: options
                .page_sizes
                .iter()
                .map(|known| (known.name.clone(), known.size))
                .collect(),
            ..forward::Options::default()
        };
        let decoder = match kind {
            Kind::Resumed => Decoder::blind_resumed(forward),
            Kind::Preempt => Decoder::blind_preempt(forward),
            _ => Decoder::new(forward),
        };
        Self {
            decoder,
            tally: Tally::new(matches!(kind, Kind::Resumed | Kind::Preempt)),
            opaque: None,
        }
    }

    /// Prints the complete events in `input`; returns how many bytes they are.
    pub(super) fn feed(&mut self, input: &[u8], report: &mut Report) -> Result<usize, DecodeError> {
        let mut left = input;
        loop {
            let offset = self.decoder.offset();
            match self.decoder.next(left)? {
                Step::Need(_) => return Ok(input.len() - left.len()),
                Step::Event { event, size } => {
                    self.event(offset, &event, report);
                    left = left.get(size..).unwrap_or_default();
                }
            }
        }
    }

    /// Prints the events in `left`, which is the end of the recording.
    pub(super) fn finish(&mut self, left: &[u8], report: &mut Report) -> Result<(), DecodeError> {
        self.decoder.close();
        let taken = self.feed(left, report)?;
        self.decoder.finish(left.get(taken..).unwrap_or_default())
    }

    /// Bytes that have been decoded.
    pub(super) fn bytes(&self) -> u64 {
        self.decoder.offset()
    }

    /// Prints what follows the last event or an error.
    pub(super) fn close(&mut self, options: &Options, report: &mut Report) {
        self.flush(report);
        if options.summary {
            let blocks = self.decoder.blocks();
            self.tally
                .print(self.bytes(), blocks, options.format, &mut report.out);
        }
    }

    fn event(&mut self, offset: u64, event: &Event<'_>, report: &mut Report) {
        self.tally.add(event);
        if report.is_silent() {
            return;
        }
        match event {
            Event::DeviceState { id, bytes } => {
                return self.opaque(offset, *id, bytes.len(), report);
            }
            // The line of its header has its length.
            Event::DescriptionBytes(_) => return,
            _ => self.flush(report),
        }
        if let Event::PackageEnd = event {
            report.nested = false;
        }
        report.message(offset, event.label(), |fields| self.fields(event, fields));
        if let Event::Command(Command::Packaged { .. }) = event {
            report.nested = true;
        }
    }

    /// Adds a piece of device state to its line.
    fn opaque(&mut self, offset: u64, section: u32, len: usize, report: &mut Report) {
        let more = u64::try_from(len).unwrap_or(u64::MAX);
        if let Some(opaque) = &mut self.opaque
            && opaque.section == section
        {
            opaque.bytes = opaque.bytes.saturating_add(more);
            return;
        }
        self.flush(report);
        self.opaque = Some(Opaque {
            offset,
            section,
            bytes: more,
        });
    }

    /// Prints the line of device state that has ended.
    fn flush(&mut self, report: &mut Report) {
        let Some(opaque) = self.opaque.take() else {
            return;
        };
        report.message(opaque.offset, "DEVICE_STATE", |fields| {
            fields.put("section", Cell::Number(opaque.section.into()));
            fields.put("len", Cell::Bytes(opaque.bytes));
            self.name(opaque.section, fields);
        });
    }

    fn fields(&self, event: &Event<'_>, fields: &mut dyn Fields) {
        match event {
            Event::Header => fields.put("version", Cell::Number(3)),
            Event::Configuration { machine } => fields.put("machine", Cell::Name(machine)),
            Event::Subsection(subsection) => print_subsection(subsection, fields),
            Event::Section { id, identity, .. } => match identity {
                None => self.section(*id, fields),
                Some(identity) => {
                    fields.put("section", Cell::Number((*id).into()));
                    fields.put("name", Cell::Name(identity.idstr));
                    fields.put("instance", Cell::Number(identity.instance.into()));
                    fields.put("version", Cell::Number(identity.version.into()));
                }
            },
            Event::Footer { id } => self.section(*id, fields),
            Event::Command(command) => Commands::fields(command, &mut |name, value| {
                if let Some(cell) = Cell::of(value) {
                    fields.put(name, cell);
                }
            }),
            Event::Record(record) => self.record(record, fields),
            Event::Description { size } => fields.put("len", Cell::Bytes((*size).into())),
            Event::PackageEnd
            | Event::Eof
            | Event::DeviceState { .. }
            | Event::DescriptionBytes(_) => {}
        }
    }

    /// Adds a section's number, and for people its name.
    fn section(&self, id: u32, fields: &mut dyn Fields) {
        fields.put("section", Cell::Number(id.into()));
        self.name(id, fields);
    }

    /// Notes a section's name, which only its first piece has on the wire.
    fn name(&self, id: u32, fields: &mut dyn Fields) {
        if let Some(name) = self.tally.name(id) {
            fields.note("name", format_args!("({})", Escaped(name)));
        }
    }

    fn record(&self, record: &Record<'_>, fields: &mut dyn Fields) {
        match *record {
            Record::Zero {
                block,
                offset,
                fill,
                ..
            } => {
                self.page(block, offset, fields);
                if fill != 0 {
                    fields.put("fill", Cell::Number(fill.into()));
                }
            }
            Record::Page { block, offset, .. } => self.page(block, offset, fields),
            Record::Xbzrle {
                block,
                offset,
                data,
                ..
            }
            | Record::Compressed {
                block,
                offset,
                data,
                ..
            } => {
                self.page(block, offset, fields);
                let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
                fields.put("len", Cell::Bytes(len));
            }
            Record::MemSize { total } => fields.put("total", Cell::Bytes(total)),
            Record::Block {
                name,
                len,
                page_size,
                gpa,
                ..
            } => {
                fields.put("block", Cell::Name(name.as_bytes()));
                fields.put("len", Cell::Bytes(len));
                if let Some(size) = page_size {
                    fields.put("page_size", Cell::Bytes(size));
                }
                if let Some(gpa) = gpa {
                    fields.put("gpa", Cell::Offset(gpa));
                }
            }
            Record::Hook | Record::MultifdFlush | Record::Eos => {}
        }
    }

    /// Adds the page and the block of a record.
    fn page(&self, block: BlockId, offset: u64, fields: &mut dyn Fields) {
        fields.put("start", Cell::Offset(offset));
        let Some(block) = self.decoder.blocks().get(block.index()) else {
            return;
        };
        fields.page(offset, block.page_size);
        fields.put("block", Cell::Name(block.name.name().as_bytes()));
    }
}

fn print_subsection(subsection: &Subsection<'_>, fields: &mut dyn Fields) {
    match subsection {
        Subsection::TargetPageBits(bits) => {
            fields.put("name", Cell::Word("configuration/target-page-bits"));
            fields.put("bits", Cell::Number((*bits).into()));
        }
        Subsection::Capabilities(names) => {
            fields.put("name", Cell::Word("configuration/capabilities"));
            fields.put("capabilities", Cell::Names(*names));
        }
        Subsection::Uuid(uuid) => {
            fields.put("name", Cell::Word("configuration/uuid"));
            fields.put("uuid", Cell::Hex(uuid));
        }
    }
}

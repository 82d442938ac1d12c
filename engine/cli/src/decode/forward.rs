//! The forward stream, event by event: main channel, resumed channel, preempt channel.
//!
//! Device state has no structure here. Its pieces depend on how the input is split, so they become
//! one line with their length. Only the decoder can fail.

use retpath_codec::command::Command;
use retpath_codec::escape::Escaped;
use retpath_codec::forward::{self, Decoded, Decoder, Event};
use retpath_codec::{DecodeError, Value};

use super::fields::Fields;
use super::report::Report;
use super::summary::Tally;
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
        let forward = forward::Options::default()
            .host_page(Options::DEFAULT_PAGE)
            .page_sizes(
                options
                    .page_sizes
                    .iter()
                    .map(|known| (known.name.clone(), known.size)),
            );
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
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        report: &mut Report<'_>,
    ) -> Result<usize, DecodeError> {
        let mut left = input;
        loop {
            let offset = self.decoder.offset();
            match self.decoder.next(left)? {
                Decoded::Need(_) => return Ok(input.len() - left.len()),
                Decoded::Event { event, size } => {
                    self.event(offset, &event, report);
                    left = left.get(size..).unwrap_or_default();
                }
            }
        }
    }

    /// Prints the events in `left`, which is the end of the recording.
    pub(super) fn finish(
        &mut self,
        left: &[u8],
        report: &mut Report<'_>,
    ) -> Result<(), DecodeError> {
        self.decoder.close();
        let taken = self.feed(left, report)?;
        self.decoder.finish(left.get(taken..).unwrap_or_default())
    }

    /// Bytes that have been decoded.
    pub(super) fn bytes(&self) -> u64 {
        self.decoder.offset()
    }

    /// Prints what follows the last event or an error.
    pub(super) fn close(&mut self, options: &Options, report: &mut Report<'_>) {
        self.flush(report);
        if options.summary {
            let blocks = self.decoder.blocks();
            self.tally
                .print(self.bytes(), blocks, options.format, &mut report.out);
        }
    }

    fn event(&mut self, offset: u64, event: &Event<'_>, report: &mut Report<'_>) {
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
    fn opaque(&mut self, offset: u64, section: u32, len: usize, report: &mut Report<'_>) {
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
    fn flush(&mut self, report: &mut Report<'_>) {
        let Some(opaque) = self.opaque.take() else {
            return;
        };
        report.message(opaque.offset, "DEVICE_STATE", |fields| {
            fields.put("section", Value::Number(opaque.section.into()));
            fields.put("len", Value::Bytes(opaque.bytes));
            self.name(opaque.section, fields);
        });
    }

    fn fields(&self, event: &Event<'_>, fields: &mut dyn Fields) {
        let page_size = match event {
            Event::Record(record) => record.page().and_then(|(block, _)| {
                let block = self.decoder.blocks().get(block.index())?;
                Some(block.page_size)
            }),
            _ => None,
        };
        let view = event.view(self.decoder.blocks());
        view.fields(&mut |name, value| {
            fields.put(name, value);
            if let (Value::Offset(offset), Some(size)) = (value, page_size) {
                fields.page(offset, size);
            }
        });
        match event {
            Event::Section {
                id, identity: None, ..
            }
            | Event::Footer { id } => self.name(*id, fields),
            _ => {}
        }
    }

    /// Notes the name of a section, which only its first piece has on the wire.
    fn name(&self, id: u32, fields: &mut dyn Fields) {
        if let Some(name) = self.tally.name(id) {
            fields.note("name", format_args!("({})", Escaped::new(name)));
        }
    }
}

//! Names and values of an event's fields, for printing and for serde.

use crate::command::Commands;
use crate::forward::ram::Record;
use crate::forward::{BlockIndex, Event, StreamBlock, Subsection};
use crate::frame::{Dialect, Value};
use crate::generated::section;
use crate::name::BlockName;
use crate::num::wide;

/// An event together with the RAM blocks of its decoder, which RAM records
/// refer to.
///
/// Shows the event by its label and fields: [`EventView::fields`]. With feature
/// `serde` it is `Serialize`, in the schema of `codec/JSON.md`; contents of
/// pages, device state and descriptions are not part of that schema, only their
/// lengths.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    event: Event<'a>,
    blocks: &'a [StreamBlock],
}

impl<'a> Event<'a> {
    /// Combines the event with [`Decoder::blocks`](super::Decoder::blocks).
    pub const fn view(self, blocks: &'a [StreamBlock]) -> EventView<'a> {
        EventView {
            event: self,
            blocks,
        }
    }
}

impl EventView<'_> {
    /// Returns the name of the event; see [`Event::label`].
    pub fn label(&self) -> &'static str {
        self.event.label()
    }

    /// Calls `show` with the name and value of each field, in wire order.
    ///
    /// The block name is shown for every record of a page, whether or not the
    /// record repeats it on the wire.
    pub fn fields(&self, show: &mut dyn FnMut(&'static str, Value<'_>)) {
        match &self.event {
            Event::Header => show("version", Value::Number(section::VERSION.into())),
            Event::Configuration { machine } => show("machine", Value::Text(machine)),
            Event::Subsection(subsection) => show_subsection(subsection, show),
            Event::Section { id, identity, .. } => {
                show("section", Value::Number((*id).into()));
                if let Some(identity) = identity {
                    show("name", Value::Text(identity.idstr));
                    show("instance", Value::Number(identity.instance.into()));
                    show("version", Value::Number(identity.version.into()));
                }
            }
            Event::Footer { id } => show("section", Value::Number((*id).into())),
            Event::Command(command) => Commands::fields(command, show),
            Event::Record(record) => self.record(record, show),
            Event::DeviceState { id, bytes } => {
                show("section", Value::Number((*id).into()));
                show("len", Value::Bytes(wide(bytes.len())));
            }
            Event::Description { size } => show("len", Value::Bytes((*size).into())),
            Event::DescriptionBytes(bytes) => show("len", Value::Bytes(wide(bytes.len()))),
            Event::PackageEnd | Event::Eof => {}
        }
    }

    fn record(&self, record: &Record<'_>, show: &mut dyn FnMut(&'static str, Value<'_>)) {
        match *record {
            Record::Zero {
                block,
                offset,
                fill,
                ..
            } => {
                self.page(block, offset, show);
                if fill != 0 {
                    show("fill", Value::Number(fill.into()));
                }
            }
            Record::Page { block, offset, .. } => self.page(block, offset, show),
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
                self.page(block, offset, show);
                show("len", Value::Bytes(wide(data.len())));
            }
            Record::MemSize { total } => show("total", Value::Bytes(total)),
            Record::Block {
                name,
                len,
                page_size,
                gpa,
                ..
            } => {
                show("block", Value::Name(Some(name)));
                show("len", Value::Bytes(len));
                if let Some(size) = page_size {
                    show("page_size", Value::Bytes(size));
                }
                if let Some(gpa) = gpa {
                    show("gpa", Value::Offset(gpa));
                }
            }
            Record::Hook | Record::MultifdFlush | Record::Eos => {}
        }
    }

    fn page(&self, block: BlockIndex, offset: u64, show: &mut dyn FnMut(&'static str, Value<'_>)) {
        show("start", Value::Offset(offset));
        if let Some(block) = self.blocks.get(block.index()) {
            show("block", Value::Name(Some(block.name.name())));
        }
    }
}

fn show_subsection(subsection: &Subsection<'_>, show: &mut dyn FnMut(&'static str, Value<'_>)) {
    show("name", Value::Text(subsection.name()));
    match subsection {
        Subsection::TargetPageBits(bits) => show("bits", Value::Number((*bits).into())),
        Subsection::Capabilities(names) => show("capabilities", Value::Capabilities(*names)),
        Subsection::Uuid(uuid) => show("uuid", Value::Hex(uuid)),
    }
}

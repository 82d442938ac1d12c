//! Events that own their bytes.

use alloc::boxed::Box;
use core::fmt;

use crate::command::{Command, RangeBuf};
use crate::forward::ram::Record;
use crate::forward::{BlockIndex, Capabilities, Event, Identity, SectionKind, Subsection};
use crate::name::{BlockName, NameBuf};

/// An [`Event`] that owns its bytes; made by [`Event::to_buf`].
///
/// Everything that can be done with an event is done with
/// [`EventBuf::as_event`].
#[derive(Clone)]
pub struct EventBuf(Owned);

#[derive(Clone)]
enum Owned {
    /// An event that borrows nothing.
    Plain(Event<'static>),
    Command(Command<NameBuf, RangeBuf>),
    Configuration {
        machine: Box<[u8]>,
    },
    Capabilities {
        count: u32,
        bytes: Box<[u8]>,
    },
    Section {
        kind: SectionKind,
        id: u32,
        idstr: Box<[u8]>,
        instance: u32,
        version: u32,
    },
    Block {
        block: BlockIndex,
        name: NameBuf,
        len: u64,
        page_size: Option<u64>,
        gpa: Option<u64>,
    },
    Data {
        form: Form,
        block: BlockIndex,
        offset: u64,
        data: Box<[u8]>,
        named: bool,
    },
    DeviceState {
        id: u32,
        bytes: Box<[u8]>,
    },
    DescriptionBytes(Box<[u8]>),
}

/// The form of a page's contents.
#[derive(Clone, Copy)]
enum Form {
    Page,
    Xbzrle,
    Compressed,
}

impl Event<'_> {
    /// Copies what the event borrows.
    pub fn to_buf(&self) -> EventBuf {
        EventBuf(match *self {
            Event::Header => Owned::Plain(Event::Header),
            Event::Configuration { machine } => Owned::Configuration {
                machine: machine.into(),
            },
            Event::Subsection(subsection) => match subsection {
                Subsection::TargetPageBits(bits) => {
                    Owned::Plain(Event::Subsection(Subsection::TargetPageBits(bits)))
                }
                Subsection::Capabilities(Capabilities { count, bytes }) => Owned::Capabilities {
                    count,
                    bytes: bytes.into(),
                },
                Subsection::Uuid(uuid) => Owned::Plain(Event::Subsection(Subsection::Uuid(uuid))),
            },
            Event::Section { kind, id, identity } => match identity {
                None => Owned::Plain(Event::Section {
                    kind,
                    id,
                    identity: None,
                }),
                Some(identity) => Owned::Section {
                    kind,
                    id,
                    idstr: identity.idstr.into(),
                    instance: identity.instance,
                    version: identity.version,
                },
            },
            Event::Footer { id } => Owned::Plain(Event::Footer { id }),
            Event::Command(command) => Owned::Command(command.into_owned()),
            Event::PackageEnd => Owned::Plain(Event::PackageEnd),
            Event::Record(record) => owned_record(record),
            Event::DeviceState { id, bytes } => Owned::DeviceState {
                id,
                bytes: bytes.into(),
            },
            Event::Eof => Owned::Plain(Event::Eof),
            Event::Description { size } => Owned::Plain(Event::Description { size }),
            Event::DescriptionBytes(bytes) => Owned::DescriptionBytes(bytes.into()),
        })
    }
}

fn owned_record(record: Record<'_>) -> Owned {
    let data = |form, block, offset, data: &[u8], named| Owned::Data {
        form,
        block,
        offset,
        data: data.into(),
        named,
    };
    let plain = |record| Owned::Plain(Event::Record(record));
    match record {
        Record::Page {
            block,
            offset,
            data: page,
            named,
        } => data(Form::Page, block, offset, page, named),
        Record::Xbzrle {
            block,
            offset,
            data: difference,
            named,
        } => data(Form::Xbzrle, block, offset, difference, named),
        Record::Compressed {
            block,
            offset,
            data: compressed,
            named,
        } => data(Form::Compressed, block, offset, compressed, named),
        Record::Block {
            block,
            name,
            len,
            page_size,
            gpa,
        } => Owned::Block {
            block,
            name: name.to_buf(),
            len,
            page_size,
            gpa,
        },
        Record::Zero {
            block,
            offset,
            fill,
            named,
        } => plain(Record::Zero {
            block,
            offset,
            fill,
            named,
        }),
        Record::MemSize { total } => plain(Record::MemSize { total }),
        Record::Hook => plain(Record::Hook),
        Record::MultifdFlush => plain(Record::MultifdFlush),
        Record::Eos => plain(Record::Eos),
    }
}

impl EventBuf {
    /// Borrows the event.
    pub fn as_event(&self) -> Event<'_> {
        match &self.0 {
            Owned::Plain(event) => *event,
            Owned::Command(command) => Event::Command(command.as_borrowed()),
            Owned::Configuration { machine } => Event::Configuration { machine },
            Owned::Capabilities { count, bytes } => {
                Event::Subsection(Subsection::Capabilities(Capabilities {
                    count: *count,
                    bytes,
                }))
            }
            Owned::Section {
                kind,
                id,
                idstr,
                instance,
                version,
            } => Event::Section {
                kind: *kind,
                id: *id,
                identity: Some(Identity {
                    idstr,
                    instance: *instance,
                    version: *version,
                }),
            },
            Owned::Block {
                block,
                name,
                len,
                page_size,
                gpa,
            } => Event::Record(Record::Block {
                block: *block,
                name: name.name(),
                len: *len,
                page_size: *page_size,
                gpa: *gpa,
            }),
            Owned::Data {
                form,
                block,
                offset,
                data,
                named,
            } => {
                let (block, offset, named) = (*block, *offset, *named);
                Event::Record(match form {
                    Form::Page => Record::Page {
                        block,
                        offset,
                        data,
                        named,
                    },
                    Form::Xbzrle => Record::Xbzrle {
                        block,
                        offset,
                        data,
                        named,
                    },
                    Form::Compressed => Record::Compressed {
                        block,
                        offset,
                        data,
                        named,
                    },
                })
            }
            Owned::DeviceState { id, bytes } => Event::DeviceState { id: *id, bytes },
            Owned::DescriptionBytes(bytes) => Event::DescriptionBytes(bytes),
        }
    }
}

impl PartialEq for EventBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_event() == other.as_event()
    }
}

impl Eq for EventBuf {}

impl fmt::Debug for EventBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_event().fmt(f)
    }
}

//! Sections, what closes them, and the end of the stream.
//!
//! Each method reads one piece and changes the decoder only when the piece is
//! whole. Mirrors `savevm.c:qemu_loadvm_state_main` and what it calls.

use alloc::boxed::Box;

use nom::bytes::take;
use nom::number::{be_u8, be_u32};

use crate::error::Rule;
use crate::field::combinator::length_data;
use crate::field::input::Bytes;
use crate::field::parse::u32_equals;
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::Decoder;
use crate::forward::options::within;
use crate::forward::place::{Payload, Place, Section, wide};
use crate::forward::{Event, Identity, SectionKind, device, package};
use crate::generated::section;

/// A piece and what it took.
pub(super) type Piece<'a> = (Event<'a>, usize);

impl Decoder {
    pub(super) fn item<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input);
        match cursor.read(be_u8())? {
            section::SECTION_START => self.introduction(cursor, SectionKind::Start),
            section::SECTION_PART => self.continuation(cursor, SectionKind::Part),
            section::SECTION_END => self.continuation(cursor, SectionKind::End),
            section::SECTION_FULL => self.introduction(cursor, SectionKind::Full),
            section::COMMAND => self.command(input),
            section::EOF => {
                let cursor = cursor.of("EOF");
                self.position()
                    .eof()
                    .map_err(|rule| cursor.fault_at(0, None, rule))?;
                self.place = match self.phase.is_postcopy() {
                    true => Place::End,
                    false => Place::Eof,
                };
                Ok((Event::Eof, cursor.at()))
            }
            byte => Err(cursor.fault_at(0, None, Rule::SectionType { byte })),
        }
    }

    /// START and FULL.
    fn introduction<'a>(
        &mut self,
        cursor: Cursor<'a>,
        kind: SectionKind,
    ) -> Result<Piece<'a>, Stop> {
        let mut cursor = cursor.of(kind.label());
        self.position()
            .section(kind)
            .map_err(|rule| cursor.fault_at(0, None, rule))?;
        let id = cursor.read(be_u32())?;
        if self.sections.contains_key(&id) {
            return Err(cursor.fault(4, "id", Rule::SectionTwice { id }));
        }
        within(
            wide(self.sections.len()) + 1,
            wide(self.options.max_sections),
        )
        .map_err(|rule| cursor.fault(4, "sections", rule))?;
        let Bytes(idstr) = cursor.read(length_data(be_u8()))?;
        if idstr.is_empty() {
            return Err(cursor.fault(1, "idstr", Rule::Zero));
        }
        let (payload, place) = match (kind, idstr) {
            (SectionKind::Full, section::RAM_NAME) => {
                let state = "in one piece";
                return Err(cursor.fault(idstr.len(), "idstr", Rule::Illegal { state }));
            }
            (SectionKind::Full, _) => (Payload::Device, Place::Device { id }),
            (_, section::RAM_NAME) if self.ram.is_some() => {
                return Err(cursor.fault(idstr.len(), "idstr", Rule::Repeated));
            }
            (_, section::RAM_NAME) => (Payload::Ram, Place::Ram { id, start: true }),
            (_, section::DIRTY_BITMAP_NAME) => (Payload::DirtyBitmap, Place::DirtyBitmap { id }),
            _ => (Payload::Unknown, Place::Unskippable { id }),
        };
        let (instance, version) = match payload {
            Payload::Ram => {
                cursor.read((
                    u32_equals("instance", section::RAM_INSTANCE),
                    u32_equals("version", section::RAM_VERSION),
                ))?;
                self.ram = Some(id);
                (section::RAM_INSTANCE, section::RAM_VERSION)
            }
            _ => cursor.read((be_u32(), be_u32()))?,
        };
        let name = match kind {
            SectionKind::Full => Box::default(),
            _ => idstr.into(),
        };
        let section = Section {
            payload,
            name,
            ended: false,
        };
        self.sections.insert(id, section);
        self.place = place;
        let identity = Some(Identity {
            idstr,
            instance,
            version,
        });
        Ok((Event::Section { kind, id, identity }, cursor.at()))
    }

    /// PART and END.
    fn continuation<'a>(
        &mut self,
        cursor: Cursor<'a>,
        kind: SectionKind,
    ) -> Result<Piece<'a>, Stop> {
        let mut cursor = cursor.of(kind.label());
        self.position()
            .section(kind)
            .map_err(|rule| cursor.fault_at(0, None, rule))?;
        let id = cursor.read(be_u32())?;
        // Without the first connection nothing says which section is `ram`.
        if self.ram.is_none() && self.blocks.learns() {
            self.ram = Some(id);
            let section = Section {
                payload: Payload::Ram,
                name: section::RAM_NAME.into(),
                ended: false,
            };
            self.sections.insert(id, section);
        }
        let section = match self.sections.get_mut(&id) {
            Some(section) if section.payload != Payload::Device => section,
            _ => return Err(cursor.fault(4, "id", Rule::UnknownSection { id })),
        };
        if section.ended {
            return Err(cursor.fault(4, "id", Rule::SectionEnded { id }));
        }
        section.ended = kind == SectionKind::End;
        self.place = match section.payload {
            Payload::Ram => Place::Ram { id, start: false },
            Payload::DirtyBitmap => Place::DirtyBitmap { id },
            Payload::Device | Payload::Unknown => Place::Unskippable { id },
        };
        let identity = None;
        Ok((Event::Section { kind, id, identity }, cursor.at()))
    }

    pub(super) fn device<'a>(
        &mut self,
        input: &'a [u8],
        id: u32,
    ) -> Result<Option<Piece<'a>>, Stop> {
        let size = match (self.footers, self.package) {
            // Nothing tells where it ends: it is the rest of the stream.
            (Some(false), None) if input.is_empty() => return Err(Stop::Need(1)),
            (Some(false), None) => input.len(),
            (Some(false), Some(left)) => match package::next(input, left)? {
                Some(package::Next::State(size)) => size,
                Some(package::Next::Tail) => {
                    self.place = Place::Item;
                    return Ok(None);
                }
                None => return Err(Cursor::new(input).fault_at(0, None, Rule::NoRun)),
            },
            // A device before the first `ram` section is of a machine type
            // that is much younger than footers.
            (Some(true) | None, package) => {
                let around = device::Surroundings {
                    package: package.is_some(),
                    last: package.map_or(self.is_closed(), |left| left == wide(input.len())),
                    sections: &self.sections,
                    max_description: self.options.max_description,
                };
                match device::next(input, id, &around)? {
                    device::Next::State(size) => size,
                    device::Next::Footer => {
                        self.footers = Some(true);
                        self.place = Place::Footer { id };
                        return Ok(None);
                    }
                }
            }
        };
        let bytes = input.get(..size).unwrap_or(input);
        Ok(Some((Event::DeviceState { id, bytes }, bytes.len())))
    }

    /// The payload of a section that is neither RAM nor a device.
    pub(super) fn unskippable(input: &[u8], id: u32) -> Stop {
        let cursor = Cursor::new(input).of("SECTION");
        cursor.fault_at(0, Some("payload"), Rule::Unskippable { id })
    }

    pub(super) fn dirty_bitmap<'a>(&mut self, input: &'a [u8], id: u32) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input);
        let Bytes(bytes) = cursor.read(take(1_usize))?;
        if bytes != [section::DIRTY_BITMAP_NOTHING] {
            return Err(Self::unskippable(input, id));
        }
        self.place = Place::Footer { id };
        Ok((Event::DeviceState { id, bytes }, cursor.at()))
    }

    /// A footer, if there are footers: the first place where one could stand
    /// tells.
    pub(super) fn footer<'a>(
        &mut self,
        input: &'a [u8],
        id: u32,
    ) -> Result<Option<Piece<'a>>, Stop> {
        if self.footers == Some(false) {
            self.place = Place::Item;
            return Ok(None);
        }
        let mut cursor = Cursor::new(input).of("SECTION_FOOTER");
        match (cursor.read(be_u8())?, self.footers) {
            (section::SECTION_FOOTER, _) => {}
            (got, Some(true)) => return Err(cursor.fault_at(0, None, Rule::NoFooter { got })),
            _ => {
                self.footers = Some(false);
                self.place = Place::Item;
                return Ok(None);
            }
        }
        cursor.read(u32_equals("id", id))?;
        self.footers = Some(true);
        self.place = Place::Item;
        Ok(Some((Event::Footer { id }, cursor.at())))
    }

    pub(super) fn description<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("VMDESCRIPTION");
        if cursor.read(be_u8())? != section::VMDESCRIPTION {
            return Self::end(input);
        }
        let size = cursor.read(be_u32())?;
        within(size.into(), self.options.max_description.into())
            .map_err(|rule| cursor.fault(4, "description", rule))?;
        self.place = match size {
            0 => Place::End,
            size => Place::Description(size),
        };
        Ok((Event::Description { size }, cursor.at()))
    }

    pub(super) fn description_bytes<'a>(
        &mut self,
        input: &'a [u8],
        left: u32,
    ) -> Result<Piece<'a>, Stop> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let bytes = input.get(..most).unwrap_or(input);
        if bytes.is_empty() {
            return Err(Stop::Need(1));
        }
        let taken = u32::try_from(bytes.len()).unwrap_or(left);
        self.place = match left.saturating_sub(taken) {
            0 => Place::End,
            left => Place::Description(left),
        };
        Ok((Event::DescriptionBytes(bytes), bytes.len()))
    }

    /// Behind everything.
    pub(super) fn end(input: &[u8]) -> Result<Piece<'_>, Stop> {
        match input {
            [] => Err(Stop::Need(1)),
            _ => Err(Cursor::new(input).fault_at(0, None, Rule::AfterEnd)),
        }
    }
}

//! Sections, footers, and the end of the stream.
//!
//! Each method decodes one item and changes the decoder only when the item is
//! complete. Mirrors `savevm.c:qemu_loadvm_state_main` and its callees.

use alloc::boxed::Box;

use nom::bytes::take;
use nom::number::{be_u8, be_u32};

use crate::error::Rule;
use crate::field::combinator::length_data;
use crate::field::input::Bytes;
use crate::field::parse::u32_equals;
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::Decoder;
use crate::forward::expected::{Expected, Payload, Section, wide};
use crate::forward::options::within;
use crate::forward::{Event, Identity, SectionKind, device, package};
use crate::generated::section;

/// An event and its size in bytes.
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
                self.context()
                    .eof()
                    .map_err(|rule| cursor.error_at(0, None, rule))?;
                self.expected = match self.phase.is_postcopy() {
                    true => Expected::End,
                    false => Expected::Eof,
                };
                Ok((Event::Eof, cursor.at()))
            }
            byte => Err(cursor.error_at(0, None, Rule::SectionType { byte })),
        }
    }

    /// START and FULL.
    fn introduction<'a>(
        &mut self,
        cursor: Cursor<'a>,
        kind: SectionKind,
    ) -> Result<Piece<'a>, Stop> {
        let mut cursor = cursor.of(kind.label());
        self.context()
            .section(kind)
            .map_err(|rule| cursor.error_at(0, None, rule))?;
        let id = cursor.read(be_u32())?;
        if self.sections.contains_key(&id) {
            return Err(cursor.error(4, "id", Rule::SectionTwice { id }));
        }
        within(
            wide(self.sections.len()) + 1,
            wide(self.options.max_sections),
        )
        .map_err(|rule| cursor.error(4, "sections", rule))?;
        let Bytes(idstr) = cursor.read(length_data(be_u8()))?;
        if idstr.is_empty() {
            return Err(cursor.error(1, "idstr", Rule::Zero));
        }
        let (payload, expected) = match (kind, idstr) {
            (SectionKind::Full, section::RAM_NAME) => {
                let state = "in SECTION_FULL";
                return Err(cursor.error(idstr.len(), "idstr", Rule::Illegal { state }));
            }
            (SectionKind::Full, _) => (Payload::Device, Expected::Device { id }),
            (_, section::RAM_NAME) if self.ram.is_some() => {
                return Err(cursor.error(idstr.len(), "idstr", Rule::Repeated));
            }
            (_, section::RAM_NAME) => (Payload::Ram, Expected::Ram { id, start: true }),
            (_, section::DIRTY_BITMAP_NAME) => (Payload::DirtyBitmap, Expected::DirtyBitmap { id }),
            _ => (Payload::Unknown, Expected::Unskippable { id }),
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
        self.expected = expected;
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
        self.context()
            .section(kind)
            .map_err(|rule| cursor.error_at(0, None, rule))?;
        let id = cursor.read(be_u32())?;
        // Without the first channel, the id of the `ram` section is unknown.
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
            _ => return Err(cursor.error(4, "id", Rule::UnknownSection { id })),
        };
        if section.ended {
            return Err(cursor.error(4, "id", Rule::SectionEnded { id }));
        }
        section.ended = kind == SectionKind::End;
        self.expected = match section.payload {
            Payload::Ram => Expected::Ram { id, start: false },
            Payload::DirtyBitmap => Expected::DirtyBitmap { id },
            Payload::Device | Payload::Unknown => Expected::Unskippable { id },
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
            // Without footers, the state is the rest of the stream.
            (Some(false), None) if input.is_empty() => return Err(Stop::Need(1)),
            (Some(false), None) => input.len(),
            (Some(false), Some(left)) => match package::next(input, left)? {
                Some(package::Next::State(size)) => size,
                Some(package::Next::Tail) => {
                    self.expected = Expected::Item;
                    return Ok(None);
                }
                None => return Err(Cursor::new(input).error_at(0, None, Rule::NoRun)),
            },
            // Machine types with devices before the first `ram` section have
            // footers.
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
                        self.expected = Expected::Footer { id };
                        return Ok(None);
                    }
                }
            }
        };
        let bytes = input.get(..size).unwrap_or(input);
        Ok(Some((Event::DeviceState { id, bytes }, bytes.len())))
    }

    /// Makes the error for a payload of unknown format.
    pub(super) fn unskippable(input: &[u8], id: u32) -> Stop {
        let cursor = Cursor::new(input).of("SECTION");
        cursor.error_at(0, Some("payload"), Rule::Unskippable { id })
    }

    pub(super) fn dirty_bitmap<'a>(&mut self, input: &'a [u8], id: u32) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input);
        let Bytes(bytes) = cursor.read(take(1_usize))?;
        if bytes != [section::DIRTY_BITMAP_NOTHING] {
            return Err(Self::unskippable(input, id));
        }
        self.expected = Expected::Footer { id };
        Ok((Event::DeviceState { id, bytes }, cursor.at()))
    }

    /// Decodes a footer. Whether sections have footers is decided at the first
    /// position where one could occur.
    pub(super) fn footer<'a>(
        &mut self,
        input: &'a [u8],
        id: u32,
    ) -> Result<Option<Piece<'a>>, Stop> {
        if self.footers == Some(false) {
            self.expected = Expected::Item;
            return Ok(None);
        }
        let mut cursor = Cursor::new(input).of("SECTION_FOOTER");
        match (cursor.read(be_u8())?, self.footers) {
            (section::SECTION_FOOTER, _) => {}
            (got, Some(true)) => return Err(cursor.error_at(0, None, Rule::NoFooter { got })),
            _ => {
                self.footers = Some(false);
                self.expected = Expected::Item;
                return Ok(None);
            }
        }
        cursor.read(u32_equals("id", id))?;
        self.footers = Some(true);
        self.expected = Expected::Item;
        Ok(Some((Event::Footer { id }, cursor.at())))
    }

    pub(super) fn description<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("VMDESCRIPTION");
        if cursor.read(be_u8())? != section::VMDESCRIPTION {
            return Self::end(input);
        }
        let size = cursor.read(be_u32())?;
        within(size.into(), self.options.max_description.into())
            .map_err(|rule| cursor.error(4, "description", rule))?;
        self.expected = match size {
            0 => Expected::End,
            size => Expected::Description(size),
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
        self.expected = match left.saturating_sub(taken) {
            0 => Expected::End,
            left => Expected::Description(left),
        };
        Ok((Event::DescriptionBytes(bytes), bytes.len()))
    }

    /// Expects the end of the channel.
    pub(super) fn end(input: &[u8]) -> Result<Piece<'_>, Stop> {
        match input {
            [] => Err(Stop::Need(1)),
            _ => Err(Cursor::new(input).error_at(0, None, Rule::AfterEnd)),
        }
    }
}

//! Everything but RAM records: header, configuration, sections, commands.
//!
//! Each method reads one piece and changes the decoder only when the piece is
//! whole. Mirrors `savevm.c:qemu_loadvm_state` and what it calls.

use alloc::boxed::Box;

use crate::command::{Command, Commands, RangeList, Ranges};
use crate::error::Rule;
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::{Decoder, Payload, Place, Section, wide};
use crate::forward::options::within;
use crate::forward::order::Phase;
use crate::forward::ram::is_target_page;
use crate::forward::{Capabilities, Event, Identity, SectionKind, Subsection, device, package};
use crate::frame::{Decoded, decode};
use crate::generated::section;
use crate::name::Name;

/// A piece and what it took.
pub(super) type Piece<'a> = (Event<'a>, usize);

/// Most capabilities in the configuration; QEMU has two that can be there.
const MAX_CAPABILITIES: u32 = 64;

impl Decoder {
    pub(super) fn header<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("HEADER");
        let got = cursor.be32()?;
        if got != section::MAGIC {
            return Err(cursor.fault(4, "magic", Rule::Magic { got }));
        }
        expect(&mut cursor, "version", section::VERSION)?;
        self.place = Place::Configuration;
        Ok((Event::Header, cursor.at()))
    }

    pub(super) fn configuration<'a>(&mut self, input: &'a [u8]) -> Result<Option<Piece<'a>>, Stop> {
        let mut cursor = Cursor::new(input).of("CONFIGURATION");
        if cursor.u8()? != section::CONFIGURATION {
            self.place = Place::Item;
            return Ok(None);
        }
        let size = cursor.be32()?;
        let field = "machine";
        if size == 0 {
            return Err(cursor.fault(4, field, Rule::Zero));
        }
        within(size.into(), self.options.max_machine_name.into())
            .map_err(|rule| cursor.fault(4, field, rule))?;
        let machine = take(&mut cursor, size)?;
        self.place = Place::Subsections(0);
        Ok(Some((Event::Configuration { machine }, cursor.at())))
    }

    pub(super) fn subsection<'a>(
        &mut self,
        input: &'a [u8],
        seen: u8,
    ) -> Result<Option<Piece<'a>>, Stop> {
        let mut cursor = Cursor::new(input).of("CONFIGURATION");
        if cursor.u8()? != section::SUBSECTION {
            self.place = Place::Item;
            return Ok(None);
        }
        let name = cursor.str8()?;
        let bit = match name {
            section::TARGET_PAGE_BITS => 1,
            section::CAPABILITIES => 2,
            section::UUID => 4,
            _ => return Err(cursor.fault(name.len(), "subsection", Rule::UnknownSubsection)),
        };
        if seen & bit != 0 {
            return Err(cursor.fault(name.len(), "subsection", Rule::Repeated));
        }
        expect(&mut cursor, "version", section::SUBSECTION_VERSION)?;
        let subsection = match bit {
            1 => {
                let bits = cursor.be32()?;
                let size = 1_u64.checked_shl(bits).unwrap_or(0);
                if !is_target_page(size) {
                    return Err(cursor.fault(4, "bits", Rule::TargetPage { size }));
                }
                self.target_page = size;
                self.page_bits = true;
                Subsection::TargetPageBits(bits)
            }
            2 => {
                let capabilities = capabilities(&mut cursor)?;
                self.ignore_shared = capabilities.iter().any(|c| c == section::IGNORE_SHARED);
                self.mapped_ram = capabilities.iter().any(|c| c == section::MAPPED_RAM);
                Subsection::Capabilities(capabilities)
            }
            _ => Subsection::Uuid(cursor.uuid()?),
        };
        self.place = Place::Subsections(seen | bit);
        Ok(Some((Event::Subsection(subsection), cursor.at())))
    }

    pub(super) fn item<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input);
        match cursor.u8()? {
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
        let id = cursor.be32()?;
        if self.sections.contains_key(&id) {
            return Err(cursor.fault(4, "id", Rule::SectionTwice { id }));
        }
        within(
            wide(self.sections.len()) + 1,
            wide(self.options.max_sections),
        )
        .map_err(|rule| cursor.fault(4, "sections", rule))?;
        let idstr = cursor.str8()?;
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
        let (instance, version);
        if payload == Payload::Ram {
            instance = expect(&mut cursor, "instance", section::RAM_INSTANCE)?;
            version = expect(&mut cursor, "version", section::RAM_VERSION)?;
            self.ram = Some(id);
        } else {
            instance = cursor.be32()?;
            version = cursor.be32()?;
        }
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
        let id = cursor.be32()?;
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

    fn command<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let (command, size) = match decode::<Commands>(input)? {
            Decoded::Need(need) => return Err(Stop::Need(need)),
            Decoded::Message { message, rest } => (message, input.len() - rest.len()),
        };
        let cursor = Cursor::new(input).of(command.label());
        let phase = self
            .position()
            .command(&command)
            .map_err(|rule| cursor.fault_at(0, None, rule))?;
        match command {
            Command::OpenReturnPath => self.return_path = true,
            Command::PostcopyAdvise { sizes: Some(sizes) } => {
                let (summary, target) = (sizes.summary, sizes.target);
                if !is_target_page(target) {
                    let rule = Rule::TargetPage { size: target };
                    return Err(cursor.fault_at(5 + 8, Some("sizes"), rule));
                }
                if self.page_bits && target != self.target_page {
                    let (got, want) = (target, self.target_page);
                    return Err(cursor.fault_at(5 + 8, Some("sizes"), Rule::Value { got, want }));
                }
                if summary == 0 || !summary.is_multiple_of(target) {
                    return Err(cursor.fault_at(5, Some("sizes"), Rule::PageSummary { summary }));
                }
                self.target_page = target;
                self.blocks.sizes = Some(sizes);
            }
            Command::PostcopyRamDiscard { block, ranges } => self.discard(cursor, block, ranges)?,
            Command::Packaged { size: package } => {
                within(package.into(), self.options.max_package.into())
                    .map_err(|rule| cursor.fault_at(5, Some("size"), rule))?;
                self.package = Some(package.into());
            }
            Command::PostcopyRun => {
                let count = self.package.unwrap_or(0).saturating_sub(wide(size));
                if count > 0 {
                    return Err(cursor.fault_at(size, None, Rule::AfterRun { count }));
                }
            }
            Command::RecvBitmap { block } => {
                let found = self
                    .blocks
                    .find(block, &self.options)
                    .map_err(|rule| cursor.fault_at(5, Some("block"), rule))?;
                self.take_up(found, block);
            }
            _ => {}
        }
        self.phase = phase;
        Ok((Event::Command(command), size))
    }

    fn discard(&self, cursor: Cursor<'_>, block: Name<'_>, ranges: Ranges<'_>) -> Result<(), Stop> {
        // Frame, version.
        const NAME: usize = 5 + 1;
        if self.blocks.sizes.is_none() {
            let state = "without page sizes in POSTCOPY_ADVISE";
            return Err(cursor.fault_at(0, None, Rule::OutOfTurn { state }));
        }
        let Some(id) = self.blocks.id(block.as_bytes()) else {
            return Err(cursor.fault_at(NAME, Some("block"), Rule::UnknownBlock));
        };
        // Name, terminator.
        let first = NAME + 1 + block.as_bytes().len() + 1;
        for (i, range) in ranges.iter().enumerate() {
            self.blocks
                .check_range(id, range)
                .map_err(|rule| cursor.fault_at(first + 16 * i, Some("ranges"), rule))?;
        }
        Ok(())
    }

    /// The package has been read: it must have ended with RUN.
    pub(super) fn package_end<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        if self.phase != Phase::Running {
            return Err(Cursor::new(input).fault_at(0, None, Rule::NoRun));
        }
        self.package = None;
        Ok((Event::PackageEnd, 0))
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
                    known: &|id| self.sections.contains_key(&id),
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

    pub(super) fn dirty_bitmap<'a>(&mut self, input: &'a [u8], id: u32) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input);
        let bytes = cursor.bytes(1)?;
        if bytes != [section::DIRTY_BITMAP_NOTHING] {
            return Err(cursor.fault_at(0, None, Rule::Unskippable { id }));
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
        match (cursor.u8()?, self.footers) {
            (section::SECTION_FOOTER, _) => {}
            (got, Some(true)) => return Err(cursor.fault_at(0, None, Rule::NoFooter { got })),
            _ => {
                self.footers = Some(false);
                self.place = Place::Item;
                return Ok(None);
            }
        }
        expect(&mut cursor, "id", id)?;
        self.footers = Some(true);
        self.place = Place::Item;
        Ok(Some((Event::Footer { id }, cursor.at())))
    }

    pub(super) fn description<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("VMDESCRIPTION");
        if cursor.u8()? != section::VMDESCRIPTION {
            return Self::end(input);
        }
        let size = cursor.be32()?;
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

/// A number that must have one value.
fn expect(cursor: &mut Cursor<'_>, field: &'static str, want: u32) -> Result<u32, Stop> {
    let got = cursor.be32()?;
    if got != want {
        let (got, want) = (got.into(), want.into());
        return Err(cursor.fault(4, field, Rule::Value { got, want }));
    }
    Ok(got)
}

/// As many bytes as a length on the wire says.
fn take<'a>(cursor: &mut Cursor<'a>, size: u32) -> Result<&'a [u8], Stop> {
    cursor.bytes(usize::try_from(size).unwrap_or(usize::MAX))
}

fn capabilities<'a>(cursor: &mut Cursor<'a>) -> Result<Capabilities<'a>, Stop> {
    let field = "capabilities";
    let count = cursor.be32()?;
    within(count.into(), MAX_CAPABILITIES.into()).map_err(|rule| cursor.fault(4, field, rule))?;
    let all = cursor.rest();
    let start = cursor.at();
    for _ in 0..count {
        let name = cursor.str8()?;
        if name != section::IGNORE_SHARED && name != section::MAPPED_RAM {
            return Err(cursor.fault(name.len(), field, Rule::UnknownCapability));
        }
    }
    let bytes = all.get(..cursor.at() - start).unwrap_or(all);
    Ok(Capabilities { count, bytes })
}

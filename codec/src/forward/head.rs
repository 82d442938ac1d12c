//! The header and the configuration.
//!
//! ```text
//!  offset  size  field
//!       0  4     "QEVM"
//!       4  4     version, 3
//!       8  1     0x07, if there is a configuration
//!       9  4+n   machine type with its length
//!       .  ...   subsections, each: 0x05, name with its one-byte length,
//!                32-bit version 1, fields
//! ```
//!
//! Integers are big-endian. Nothing says whether there is a configuration, or
//! how many subsections: the next byte does. Mirrors
//! `savevm.c:qemu_loadvm_state_header` and `vmstate_configuration`, and
//! refuses a subsection that is there twice.

use crate::error::Rule;
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::Decoder;
use crate::forward::item::Piece;
use crate::forward::options::within;
use crate::forward::place::Place;
use crate::forward::ram::is_target_page;
use crate::forward::{Capabilities, Event, Subsection};
use crate::generated::capability::{IGNORE_SHARED, MAPPED_RAM};
use crate::generated::section;

/// Most capabilities in the configuration; QEMU has two that can be there.
const MAX_CAPABILITIES: u32 = 64;

impl Decoder {
    pub(super) fn header<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("HEADER");
        let got = cursor.be32()?;
        if got != section::MAGIC {
            return Err(cursor.fault(4, "magic", Rule::Magic { got }));
        }
        cursor.be32_is("version", section::VERSION)?;
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
        let machine = cursor.counted(size)?;
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
        cursor.be32_is("version", section::SUBSECTION_VERSION)?;
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
                self.ignore_shared = capabilities.iter().any(|c| c == IGNORE_SHARED.as_bytes());
                self.mapped_ram = capabilities.iter().any(|c| c == MAPPED_RAM.as_bytes());
                Subsection::Capabilities(capabilities)
            }
            _ => Subsection::Uuid(cursor.uuid()?),
        };
        self.place = Place::Subsections(seen | bit);
        Ok(Some((Event::Subsection(subsection), cursor.at())))
    }
}

fn capabilities<'a>(cursor: &mut Cursor<'a>) -> Result<Capabilities<'a>, Stop> {
    let field = "capabilities";
    let count = cursor.be32()?;
    within(count.into(), MAX_CAPABILITIES.into()).map_err(|rule| cursor.fault(4, field, rule))?;
    let all = cursor.rest();
    let start = cursor.at();
    for _ in 0..count {
        let name = cursor.str8()?;
        if name != IGNORE_SHARED.as_bytes() && name != MAPPED_RAM.as_bytes() {
            return Err(cursor.fault(name.len(), field, Rule::UnknownCapability));
        }
    }
    let bytes = all.get(..cursor.at() - start).unwrap_or(all);
    Ok(Capabilities { count, bytes })
}

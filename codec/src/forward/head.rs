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
//! Integers are big-endian. Whether there is a configuration or another subsection
//! follows from the next byte. Mirrors `savevm.c:qemu_loadvm_state_header` and
//! `vmstate_configuration`; stricter in that a subsection must not appear twice.

use nom::bytes::{tag, take};
use nom::combinator::{opt, recognize};
use nom::multi::fold;
use nom::number::{be_u8, be_u32, be_u128};
use nom::{Parser, ToUsize};

use crate::error::Rule;
use crate::field::combinator::{FieldError, field, flat_map, length_data};
use crate::field::input::Bytes;
use crate::field::parse::u32_equals;
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::Decoder;
use crate::forward::expected::Expected;
use crate::forward::item::Piece;
use crate::forward::options::within;
use crate::forward::ram::is_target_page;
use crate::forward::{Capabilities, Event, Subsection};
use crate::generated::capability::{IGNORE_SHARED, MAPPED_RAM};
use crate::generated::section;

/// Maximum number of capabilities in the configuration; QEMU knows two.
const MAX_CAPABILITIES: u64 = 64;

const CONFIGURATION: &[u8] = &[section::CONFIGURATION];
const SUBSECTION: &[u8] = &[section::SUBSECTION];

impl Decoder {
    pub(super) fn header<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("HEADER");
        let magic = |got| match got {
            section::MAGIC => Ok(()),
            _ => Err(Rule::Magic { got }),
        };
        cursor.read((
            field("magic", be_u32(), magic),
            u32_equals("version", section::VERSION),
        ))?;
        self.expected = Expected::Configuration;
        Ok((Event::Header, cursor.at()))
    }

    pub(super) fn configuration<'a>(&mut self, input: &'a [u8]) -> Result<Option<Piece<'a>>, Stop> {
        let mut cursor = Cursor::new(input).of("CONFIGURATION");
        if cursor.read(opt(tag(CONFIGURATION)))?.is_none() {
            self.expected = Expected::Item;
            return Ok(None);
        }
        let limit = self.options.max_machine_name.into();
        let size = |size: u32| match size {
            0 => Err(Rule::Zero),
            size => within(size.into(), limit).map(|()| size),
        };
        let Bytes(machine) = cursor.read(length_data(field("machine", be_u32(), size)))?;
        self.expected = Expected::Subsections(0);
        Ok(Some((Event::Configuration { machine }, cursor.at())))
    }

    pub(super) fn subsection<'a>(
        &mut self,
        input: &'a [u8],
        seen: u8,
    ) -> Result<Option<Piece<'a>>, Stop> {
        let mut cursor = Cursor::new(input).of("CONFIGURATION");
        if cursor.read(opt(tag(SUBSECTION)))?.is_none() {
            self.expected = Expected::Item;
            return Ok(None);
        }
        let bit = |name: Bytes<'_>| match name.0 {
            section::TARGET_PAGE_BITS => new(seen, 1),
            section::CAPABILITIES => new(seen, 2),
            section::UUID => new(seen, 4),
            _ => Err(Rule::UnknownSubsection),
        };
        let name = flat_map(be_u8(), |size| field("subsection", take(size), bit));
        let version = u32_equals("version", section::SUBSECTION_VERSION);
        let (bit, ()) = cursor.read((name, version))?;
        let subsection = match bit {
            1 => {
                let (bits, size) = cursor.read(field("bits", be_u32(), page_bits))?;
                self.target_page = size;
                self.page_bits = true;
                Subsection::TargetPageBits(bits)
            }
            2 => {
                let capabilities = cursor.read(capabilities())?;
                self.ignore_shared = capabilities.iter().any(|c| c == IGNORE_SHARED.as_bytes());
                self.mapped_ram = capabilities.iter().any(|c| c == MAPPED_RAM.as_bytes());
                Subsection::Capabilities(capabilities)
            }
            _ => Subsection::Uuid(cursor.read(be_u128().map(u128::to_be_bytes))?),
        };
        self.expected = Expected::Subsections(seen | bit);
        Ok(Some((Event::Subsection(subsection), cursor.at())))
    }
}

/// Returns the bit of a subsection that must not have been seen.
fn new(seen: u8, bit: u8) -> Result<u8, Rule> {
    match seen & bit {
        0 => Ok(bit),
        _ => Err(Rule::Repeated),
    }
}

/// Parses the logarithm of a target page size; returns it with the size.
fn page_bits(bits: u32) -> Result<(u32, u64), Rule> {
    let size = 1_u64.checked_shl(bits).unwrap_or(0);
    match is_target_page(size) {
        true => Ok((bits, size)),
        false => Err(Rule::TargetPage { size }),
    }
}

/// Parses the number of capabilities and the names, each after its length.
fn capabilities<'a>() -> impl Parser<Bytes<'a>, Output = Capabilities<'a>, Error = FieldError> {
    const FIELD: &str = "capabilities";
    let few = |count: u32| within(count.into(), MAX_CAPABILITIES).map(|()| count);
    let known = |name: Bytes<'_>| match [IGNORE_SHARED, MAPPED_RAM]
        .iter()
        .any(|known| known.as_bytes() == name.0)
    {
        true => Ok(()),
        false => Err(Rule::UnknownCapability),
    };
    let name = move || flat_map(be_u8(), move |size| field(FIELD, take(size), known));
    flat_map(field(FIELD, be_u32(), few), move |count| {
        let names = fold(count.to_usize(), name(), || (), |(), ()| ());
        recognize(names).map(move |Bytes(bytes)| Capabilities { count, bytes })
    })
}

//! Pieces of a forward stream, appended to a buffer.
//!
//! For a source that makes its stream as it goes; commands are written with
//! [`Encode`](crate::Encode). What is decoded is written with
//! [`Event::encode`](super::Event::encode), which uses these functions.
//! A function without a result cannot fail. Where one fails, the buffer is as
//! before.

use std::vec::Vec;

use crate::error::{EncodeError, Rule};
use crate::forward::event::{Identity, SectionKind, Subsection};
use crate::generated::{MAX_NAME, ram as flag, section};
use crate::name::Name;
use crate::num::wide;

/// "QEVM" and the version.
pub fn header(out: &mut Vec<u8>) {
    out.extend(section::MAGIC.to_be_bytes());
    out.extend(section::VERSION.to_be_bytes());
}

/// The machine type's resolved name.
///
/// # Errors
///
/// [`Rule::Zero`] or [`Rule::Limit`]: no name, or one of 4 GiB.
pub fn configuration(machine: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let fault = invalid("CONFIGURATION", "machine");
    if machine.is_empty() {
        return Err(fault(Rule::Zero));
    }
    let Ok(size) = u32::try_from(machine.len()) else {
        let (got, limit) = (wide(machine.len()), u32::MAX.into());
        return Err(fault(Rule::Limit { got, limit }));
    };
    out.push(section::CONFIGURATION);
    out.extend(size.to_be_bytes());
    out.extend(machine);
    Ok(())
}

/// A subsection of the configuration.
pub fn subsection(subsection: &Subsection<'_>, out: &mut Vec<u8>) {
    let name = subsection.name();
    out.push(section::SUBSECTION);
    // Names of the table, far shorter than 255 bytes.
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend(name);
    out.extend(section::SUBSECTION_VERSION.to_be_bytes());
    match subsection {
        Subsection::TargetPageBits(bits) => out.extend(bits.to_be_bytes()),
        Subsection::Capabilities(capabilities) => {
            out.extend(capabilities.count.to_be_bytes());
            out.extend(capabilities.bytes);
        }
        Subsection::Uuid(uuid) => out.extend(uuid),
    }
}

/// The start of a section's piece; START and FULL need an identity.
///
/// # Errors
///
/// [`Rule::Zero`] or [`Rule::NameTooLong`]: the section's name does not fit.
/// [`Rule::Short`]: there is an identity where none belongs, or none where one
/// does.
pub fn section(
    kind: SectionKind,
    id: u32,
    identity: Option<Identity<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let fault = invalid(kind.label(), "idstr");
    let introduces = matches!(kind, SectionKind::Start | SectionKind::Full);
    let Some(identity) = identity else {
        if introduces {
            return Err(fault(Rule::Short));
        }
        piece(kind, id, out);
        return Ok(());
    };
    let idstr = identity.idstr;
    match u8::try_from(idstr.len()) {
        _ if !introduces => Err(fault(Rule::Short)),
        Err(_) => Err(fault(Rule::NameTooLong)),
        Ok(0) => Err(fault(Rule::Zero)),
        Ok(size) => {
            piece(kind, id, out);
            out.push(size);
            out.extend(idstr);
            out.extend(identity.instance.to_be_bytes());
            out.extend(identity.version.to_be_bytes());
            Ok(())
        }
    }
}

/// The start of the `ram` section; MEM_SIZE and the list of blocks follow.
pub fn ram_start(id: u32, out: &mut Vec<u8>) {
    piece(SectionKind::Start, id, out);
    out.push(u8::try_from(section::RAM_NAME.len()).unwrap_or(u8::MAX));
    out.extend(section::RAM_NAME);
    out.extend(section::RAM_INSTANCE.to_be_bytes());
    out.extend(section::RAM_VERSION.to_be_bytes());
}

/// A further piece of a section.
pub fn part(id: u32, out: &mut Vec<u8>) {
    piece(SectionKind::Part, id, out);
}

/// The last piece of a section.
pub fn end(id: u32, out: &mut Vec<u8>) {
    piece(SectionKind::End, id, out);
}

fn piece(kind: SectionKind, id: u32, out: &mut Vec<u8>) {
    out.push(kind.byte());
    out.extend(id.to_be_bytes());
}

/// The end of a section's piece.
pub fn footer(id: u32, out: &mut Vec<u8>) {
    out.push(section::SECTION_FOOTER);
    out.extend(id.to_be_bytes());
}

/// The end of the stream.
pub fn eof(out: &mut Vec<u8>) {
    out.push(section::EOF);
}

/// The head of the device states' description; `size` bytes of JSON follow.
pub fn description(size: u32, out: &mut Vec<u8>) {
    out.push(section::VMDESCRIPTION);
    out.extend(size.to_be_bytes());
}

/// The head of the list of RAM blocks, whose lengths add up to `total` bytes.
///
/// # Errors
///
/// [`Rule::Misaligned`]: the total is no multiple of 1024.
pub fn mem_size(total: u64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let word = word(total, flag::MEM_SIZE)?;
    out.extend(word.to_be_bytes());
    Ok(())
}

/// An entry of the list of RAM blocks. `page_size`, in bytes, belongs there
/// with postcopy, if it is not the larger one of host page and target page;
/// `gpa` with `x-ignore-shared`.
pub fn block(
    name: Name<'_>,
    len: u64,
    page_size: Option<u64>,
    gpa: Option<u64>,
    out: &mut Vec<u8>,
) {
    str8(name, out);
    out.extend(len.to_be_bytes());
    for value in [page_size, gpa].into_iter().flatten() {
        out.extend(value.to_be_bytes());
    }
}

/// A target page of zeros; without a name, of the same block as the record
/// before on this channel.
///
/// # Errors
///
/// [`Rule::Misaligned`]: the offset is no multiple of 1024.
pub fn zero(offset: u64, name: Option<Name<'_>>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    filled(offset, name, 0, out)
}

pub(super) fn filled(
    offset: u64,
    name: Option<Name<'_>>,
    fill: u8,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    record(offset, flag::ZERO, name, out)?;
    out.push(fill);
    Ok(())
}

/// What stands in front of a target page's contents, which the caller sends
/// from where they lie; without a name, of the same block as the record
/// before on this channel.
///
/// # Errors
///
/// [`Rule::Misaligned`]: the offset is no multiple of 1024.
pub fn page_header(
    offset: u64,
    name: Option<Name<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    record(offset, flag::PAGE, name, out)
}

/// The end of a `ram` section's payload, or of a preempt channel.
pub fn eos(out: &mut Vec<u8>) {
    out.extend(flag::EOS.to_be_bytes());
}

/// A record that is nothing but its flag.
pub(super) fn bare(flag: u64, out: &mut Vec<u8>) {
    out.extend(flag.to_be_bytes());
}

/// The start of a record that belongs to a block.
pub(super) fn record(
    offset: u64,
    flag: u64,
    name: Option<Name<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let word = word(offset, flag)?;
    let Some(name) = name else {
        out.extend((word | flag::CONTINUE).to_be_bytes());
        return Ok(());
    };
    out.extend(word.to_be_bytes());
    str8(name, out);
    Ok(())
}

/// An offset and a flag in one word. The target page size is the caller's
/// business; what is checked is that the two do not overlap.
fn word(offset: u64, flag: u64) -> Result<u64, EncodeError> {
    if offset.is_multiple_of(flag::MIN_TARGET_PAGE) {
        return Ok(offset | flag);
    }
    let (value, page) = (offset, flag::MIN_TARGET_PAGE);
    let label = flag::label(flag).unwrap_or("RAM");
    Err(invalid(label, "offset")(Rule::Misaligned { value, page }))
}

fn str8(name: Name<'_>, out: &mut Vec<u8>) {
    const { assert!(MAX_NAME == 255, "a name's length fits one byte") };
    out.push(name.size());
    out.extend(name.as_bytes());
}

/// Makes errors about one field.
pub(super) fn invalid(message: &'static str, field: &'static str) -> impl Fn(Rule) -> EncodeError {
    move |rule| EncodeError {
        message,
        field: Some(field),
        rule,
    }
}

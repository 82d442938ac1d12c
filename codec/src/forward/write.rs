//! Writes the items of a forward stream.
//!
//! For a source that produces a stream. Commands are written with
//! [`Encode`](crate::Encode), decoded events with
//! [`Event::encode`](super::Event::encode). Each function appends to a buffer;
//! when one fails, the buffer is unchanged.
//!
//! ```
//! use retpath_codec::command::Command;
//! use retpath_codec::forward::write;
//! use retpath_codec::{Encode, Name};
//!
//! let mut out = Vec::new();
//! write::header(&mut out);
//! write::configuration(b"pc-i440fx-10.0", &mut out)?;
//! Command::open_return_path().encode(&mut out)?;
//! write::ram_start(1, &mut out);
//! write::mem_size(1 << 24, &mut out)?;
//! write::block(Name::new(b"pc.ram")?, 1 << 24, None, None, &mut out);
//! write::eos(&mut out);
//! write::footer(1, &mut out);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::vec::Vec;

use crate::error::{EncodeError, Rule};
use crate::forward::event::{Identity, SectionKind, Subsection};
use crate::generated::{MAX_NAME, ram as flag, section};
use crate::name::Name;
use crate::num::wide;

/// Writes the file header: "QEVM" and the version.
pub fn header(out: &mut Vec<u8>) {
    out.extend(section::MAGIC.to_be_bytes());
    out.extend(section::VERSION.to_be_bytes());
}

/// Writes the configuration: the resolved name of the machine type.
///
/// # Errors
///
/// [`Rule::Zero`] when the name is empty, [`Rule::Limit`] when it is 4 GiB or
/// longer.
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

/// Writes a subsection of the configuration.
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

/// Writes a section header. START and FULL need an identity, PART and END must
/// not have one.
///
/// # Errors
///
/// [`Rule::Zero`] when the name is empty, [`Rule::NameTooLong`] when it is longer
/// than 255 bytes, [`Rule::Short`] when an identity is missing or not allowed.
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

/// Writes the header of the `ram` section; [`mem_size`] and the block list
/// follow.
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

/// Writes a section footer.
pub fn footer(id: u32, out: &mut Vec<u8>) {
    out.push(section::SECTION_FOOTER);
    out.extend(id.to_be_bytes());
}

/// Writes EOF, the end of the stream.
pub fn eof(out: &mut Vec<u8>) {
    out.push(section::EOF);
}

/// Writes the header of the description; `size` bytes of JSON follow.
pub fn description(size: u32, out: &mut Vec<u8>) {
    out.push(section::VMDESCRIPTION);
    out.extend(size.to_be_bytes());
}

/// Writes the start of the block list; `total` is the sum of the lengths of the
/// RAM blocks, in bytes.
///
/// # Errors
///
/// [`Rule::Misaligned`] when the total is not a multiple of 1024.
pub fn mem_size(total: u64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let word = word(total, flag::MEM_SIZE)?;
    out.extend(word.to_be_bytes());
    Ok(())
}

/// Writes an entry of the block list.
///
/// `len` is the used length in bytes. `page_size`, in bytes, is required with
/// postcopy, if it is not the larger one of host page size and target page size;
/// `gpa` is required with `x-ignore-shared`.
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

/// Writes a ZERO record: a target page of zeros. Without a name, the page belongs
/// to the block of the previous record of this channel.
///
/// # Errors
///
/// [`Rule::Misaligned`] when the offset is not a multiple of 1024.
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

/// Writes a PAGE record without the contents of the page, which must follow.
/// Without a name, the page belongs to the block of the previous record of this
/// channel.
///
/// # Errors
///
/// [`Rule::Misaligned`] when the offset is not a multiple of 1024.
pub fn page_header(
    offset: u64,
    name: Option<Name<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    record(offset, flag::PAGE, name, out)
}

/// Writes EOS, the end of the payload of a `ram` section or of a preempt channel.
pub fn eos(out: &mut Vec<u8>) {
    out.extend(flag::EOS.to_be_bytes());
}

/// Writes a record that consists of its flag.
pub(super) fn bare(flag: u64, out: &mut Vec<u8>) {
    out.extend(flag.to_be_bytes());
}

/// Writes flags, offset and name of a record.
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

/// Combines an offset and a flag. The target page size is not known here; checked
/// is that offset and flag do not overlap.
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

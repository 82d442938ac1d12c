//! Pieces of a forward stream, appended to a buffer.
//!
//! For a source that makes its stream as it goes; commands are written with
//! [`Encode`](crate::Encode). What is decoded is written with
//! [`Event::encode`](super::Event::encode), which uses these functions.
//! A function without a result cannot fail. Where one fails, the buffer is as
//! before.

use std::io::Write;
use std::vec::Vec;

use cookie_factory::SerializeFn;
use cookie_factory::bytes::{be_u8, be_u32, be_u64};
use cookie_factory::combinator::slice;
use cookie_factory::multi::many_ref;

use crate::error::{EncodeError, Rule};
use crate::field::output::{append, tuple};
use crate::field::write;
use crate::forward::Capabilities;
use crate::forward::event::{Identity, SectionKind, Subsection};
use crate::generated::{ram as flag, section};
use crate::name::Name;
use crate::num::wide;

/// "QEVM" and the version.
pub fn header(out: &mut Vec<u8>) {
    append(
        out,
        tuple((be_u32(section::MAGIC), be_u32(section::VERSION))),
    );
}

/// The machine type's resolved name.
///
/// # Errors
///
/// [`Rule::Zero`] or [`Rule::Limit`]: no name, or one of 4 GiB.
pub fn configuration(machine: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let fault = unfit("CONFIGURATION", "machine");
    if machine.is_empty() {
        return Err(fault(Rule::Zero));
    }
    let Ok(size) = u32::try_from(machine.len()) else {
        let (got, limit) = (wide(machine.len()), u32::MAX.into());
        return Err(fault(Rule::Limit { got, limit }));
    };
    append(
        out,
        tuple((be_u8(section::CONFIGURATION), be_u32(size), slice(machine))),
    );
    Ok(())
}

/// A subsection of the configuration.
pub fn subsection(subsection: &Subsection<'_>, out: &mut Vec<u8>) {
    let name = match subsection {
        Subsection::TargetPageBits(_) => section::TARGET_PAGE_BITS,
        Subsection::Capabilities(_) => section::CAPABILITIES,
        Subsection::Uuid(_) => section::UUID,
    };
    append(
        out,
        tuple((
            be_u8(section::SUBSECTION),
            short_name(name),
            be_u32(section::SUBSECTION_VERSION),
        )),
    );
    match subsection {
        Subsection::TargetPageBits(bits) => append(out, be_u32(*bits)),
        Subsection::Capabilities(Capabilities { count, bytes }) => {
            append(out, tuple((be_u32(*count), slice(bytes))));
        }
        Subsection::Uuid(uuid) => append(out, slice(uuid)),
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
    let fault = unfit(kind.label(), "idstr");
    let introduces = matches!(kind, SectionKind::Start | SectionKind::Full);
    let Some(identity) = identity else {
        if introduces {
            return Err(fault(Rule::Short));
        }
        append(out, piece(kind, id));
        return Ok(());
    };
    let idstr = identity.idstr;
    match u8::try_from(idstr.len()) {
        _ if !introduces => Err(fault(Rule::Short)),
        Err(_) => Err(fault(Rule::NameTooLong)),
        Ok(0) => Err(fault(Rule::Zero)),
        Ok(_) => {
            append(out, introduction(kind, id, identity));
            Ok(())
        }
    }
}

/// The start of the `ram` section; MEM_SIZE and the list of blocks follow.
pub fn ram_start(id: u32, out: &mut Vec<u8>) {
    let identity = Identity {
        idstr: section::RAM_NAME,
        instance: section::RAM_INSTANCE,
        version: section::RAM_VERSION,
    };
    append(out, introduction(SectionKind::Start, id, identity));
}

/// A further piece of a section.
pub fn part(id: u32, out: &mut Vec<u8>) {
    append(out, piece(SectionKind::Part, id));
}

/// The last piece of a section.
pub fn end(id: u32, out: &mut Vec<u8>) {
    append(out, piece(SectionKind::End, id));
}

fn piece<W: Write>(kind: SectionKind, id: u32) -> impl SerializeFn<W> {
    tuple((be_u8(kind.byte()), be_u32(id)))
}

fn introduction<W: Write>(
    kind: SectionKind,
    id: u32,
    identity: Identity<'_>,
) -> impl SerializeFn<W> {
    tuple((
        piece(kind, id),
        short_name(identity.idstr),
        be_u32(identity.instance),
        be_u32(identity.version),
    ))
}

/// A name of at most 255 bytes behind its length.
fn short_name<W: Write>(name: &[u8]) -> impl SerializeFn<W> {
    tuple((
        be_u8(u8::try_from(name.len()).unwrap_or(u8::MAX)),
        slice(name),
    ))
}

/// The end of a section's piece.
pub fn footer(id: u32, out: &mut Vec<u8>) {
    append(out, tuple((be_u8(section::SECTION_FOOTER), be_u32(id))));
}

/// The end of the stream.
pub fn eof(out: &mut Vec<u8>) {
    append(out, be_u8(section::EOF));
}

/// The head of the device states' description; `size` bytes of JSON follow.
pub fn description(size: u32, out: &mut Vec<u8>) {
    append(out, tuple((be_u8(section::VMDESCRIPTION), be_u32(size))));
}

/// The head of the list of RAM blocks, whose lengths add up to `total` bytes.
///
/// # Errors
///
/// [`Rule::Misaligned`]: the total is no multiple of 1024.
pub fn mem_size(total: u64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    append(out, be_u64(word(total, flag::MEM_SIZE)?));
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
    append(
        out,
        tuple((
            write::name(name),
            be_u64(len),
            many_ref(page_size, be_u64),
            many_ref(gpa, be_u64),
        )),
    );
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
    append(out, tuple((record(offset, flag::ZERO, name)?, be_u8(fill))));
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
    append(out, record(offset, flag::PAGE, name)?);
    Ok(())
}

/// The end of a `ram` section's payload, or of a preempt channel.
pub fn eos(out: &mut Vec<u8>) {
    bare(flag::EOS, out);
}

/// A record that is nothing but its flag.
pub(super) fn bare(flag: u64, out: &mut Vec<u8>) {
    append(out, be_u64(flag));
}

/// The start of a record that belongs to a block.
pub(super) fn record<W: Write>(
    offset: u64,
    flag: u64,
    name: Option<Name<'_>>,
) -> Result<impl SerializeFn<W>, EncodeError> {
    let word = match name {
        Some(_) => word(offset, flag)?,
        None => word(offset, flag)? | flag::CONTINUE,
    };
    Ok(tuple((be_u64(word), many_ref(name, write::name))))
}

/// An offset and a flag in one word. The target page size is the caller's
/// business; what is checked is that the two do not overlap.
fn word(offset: u64, flag: u64) -> Result<u64, EncodeError> {
    if offset.is_multiple_of(flag::MIN_TARGET_PAGE) {
        return Ok(offset | flag);
    }
    let (value, page) = (offset, flag::MIN_TARGET_PAGE);
    let label = flag::label(flag).unwrap_or("RAM");
    Err(unfit(label, "offset")(Rule::Misaligned { value, page }))
}

/// Makes errors about one field.
pub(super) fn unfit(message: &'static str, field: &'static str) -> impl Fn(Rule) -> EncodeError {
    move |rule| EncodeError {
        message,
        field: Some(field),
        rule,
    }
}

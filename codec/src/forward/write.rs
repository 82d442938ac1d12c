//! Writes the items of a forward stream.
//!
//! For a source that produces a stream. Commands are written with
//! [`Encode`](crate::Encode), decoded events with
//! [`Event::encode`](super::Event::encode). Each function appends an item to a
//! [`Buffer`]: a `Vec`, a slice, any [`std::io::Write`]. When one fails, the
//! buffer is unchanged.
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

use std::io::Write;

use cookie_factory::SerializeFn;
use cookie_factory::bytes::{be_u8, be_u32, be_u64};
use cookie_factory::combinator::slice;
use cookie_factory::multi::many_ref;

use crate::error::{EncodeError, Rule};
use crate::field::output::tuple;
use crate::field::write;
use crate::forward::Capabilities;
use crate::forward::buffer::append;
use crate::forward::event::{Identity, SectionKind, Subsection};
use crate::generated::{ram as flag, section};
use crate::name::Name;
use crate::num::wide;

pub use crate::forward::buffer::{Buffer, IoBuffer, SliceBuffer};

/// Writes the file header: "QEVM" and the version.
pub fn header(out: &mut impl Buffer) {
    append(
        out,
        tuple((be_u32(section::MAGIC), be_u32(section::VERSION))),
    );
}

/// Writes the configuration: the resolved name of the machine type.
///
/// # Errors
///
/// [`Rule::Zero`] when the name is empty, [`Rule::Limit`] when it is 4 GiB or
/// longer.
pub fn configuration(machine: &[u8], out: &mut impl Buffer) -> Result<(), EncodeError> {
    let error = invalid("CONFIGURATION", "machine");
    if machine.is_empty() {
        return Err(error(Rule::Zero));
    }
    let Ok(size) = u32::try_from(machine.len()) else {
        let (got, limit) = (wide(machine.len()), u32::MAX.into());
        return Err(error(Rule::Limit { got, limit }));
    };
    append(
        out,
        tuple((be_u8(section::CONFIGURATION), be_u32(size), slice(machine))),
    );
    Ok(())
}

/// Writes a subsection of the configuration.
pub fn subsection(subsection: &Subsection<'_>, out: &mut impl Buffer) {
    let name = subsection.name();
    let head = tuple((
        be_u8(section::SUBSECTION),
        short_name(name),
        be_u32(section::SUBSECTION_VERSION),
    ));
    match subsection {
        Subsection::TargetPageBits(bits) => append(out, tuple((head, be_u32(*bits)))),
        Subsection::Capabilities(Capabilities { count, bytes }) => {
            append(out, tuple((head, be_u32(*count), slice(bytes))));
        }
        Subsection::Uuid(uuid) => append(out, tuple((head, slice(uuid)))),
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
    out: &mut impl Buffer,
) -> Result<(), EncodeError> {
    let error = invalid(kind.label(), "idstr");
    let introduces = matches!(kind, SectionKind::Start | SectionKind::Full);
    let Some(identity) = identity else {
        if introduces {
            return Err(error(Rule::Short));
        }
        append(out, piece(kind, id));
        return Ok(());
    };
    let idstr = identity.idstr;
    match u8::try_from(idstr.len()) {
        _ if !introduces => Err(error(Rule::Short)),
        Err(_) => Err(error(Rule::NameTooLong)),
        Ok(0) => Err(error(Rule::Zero)),
        Ok(_) => {
            append(out, introduction(kind, id, identity));
            Ok(())
        }
    }
}

/// Writes the header of the `ram` section; [`mem_size`] and the block list
/// follow.
pub fn ram_start(id: u32, out: &mut impl Buffer) {
    let identity = Identity {
        idstr: section::RAM_NAME,
        instance: section::RAM_INSTANCE,
        version: section::RAM_VERSION,
    };
    append(out, introduction(SectionKind::Start, id, identity));
}

/// A further piece of a section.
pub fn part(id: u32, out: &mut impl Buffer) {
    append(out, piece(SectionKind::Part, id));
}

/// The last piece of a section.
pub fn end(id: u32, out: &mut impl Buffer) {
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

/// Writes a section footer.
pub fn footer(id: u32, out: &mut impl Buffer) {
    append(out, tuple((be_u8(section::SECTION_FOOTER), be_u32(id))));
}

/// Writes EOF, the end of the stream.
pub fn eof(out: &mut impl Buffer) {
    append(out, be_u8(section::EOF));
}

/// Writes the header of the description; `size` bytes of JSON follow.
pub fn description(size: u32, out: &mut impl Buffer) {
    append(out, tuple((be_u8(section::VMDESCRIPTION), be_u32(size))));
}

/// Writes the start of the block list; `total` is the sum of the lengths of the
/// RAM blocks, in bytes.
///
/// # Errors
///
/// [`Rule::Misaligned`] when the total is not a multiple of 1024.
pub fn mem_size(total: u64, out: &mut impl Buffer) -> Result<(), EncodeError> {
    append(out, be_u64(word(total, flag::MEM_SIZE)?));
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
    out: &mut impl Buffer,
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

/// Writes a ZERO record: a target page of zeros. Without a name, the page belongs
/// to the block of the previous record of this channel.
///
/// # Errors
///
/// [`Rule::Misaligned`] when the offset is not a multiple of 1024.
pub fn zero(offset: u64, name: Option<Name<'_>>, out: &mut impl Buffer) -> Result<(), EncodeError> {
    filled(offset, name, 0, out)
}

pub(super) fn filled(
    offset: u64,
    name: Option<Name<'_>>,
    fill: u8,
    out: &mut impl Buffer,
) -> Result<(), EncodeError> {
    append(out, tuple((record(offset, flag::ZERO, name)?, be_u8(fill))));
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
    out: &mut impl Buffer,
) -> Result<(), EncodeError> {
    append(out, record(offset, flag::PAGE, name)?);
    Ok(())
}

/// Writes EOS, the end of the payload of a `ram` section or of a preempt channel.
pub fn eos(out: &mut impl Buffer) {
    bare(flag::EOS, out);
}

/// Writes a record that consists of its flag.
pub(super) fn bare(flag: u64, out: &mut impl Buffer) {
    append(out, be_u64(flag));
}

/// The start of a record that belongs to a block.
pub(super) fn record<W: Write>(
    offset: u64,
    flag: u64,
    name: Option<Name<'_>>,
) -> Result<impl SerializeFn<W>, EncodeError> {
    let word = word(offset, flag)?;
    let same_block = match name {
        Some(_) => 0,
        None => flag::CONTINUE,
    };
    Ok(tuple((
        be_u64(word | same_block),
        many_ref(name, write::name),
    )))
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

/// Makes errors about one field.
pub(super) fn invalid(message: &'static str, field: &'static str) -> impl Fn(Rule) -> EncodeError {
    move |rule| EncodeError {
        message,
        field: Some(field),
        rule,
    }
}

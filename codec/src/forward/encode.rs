//! Encodes events: the mirror of the decoder.

use std::vec::Vec;

use cookie_factory::bytes::{be_u8, be_u16, be_u32};
use cookie_factory::combinator::slice;

use crate::error::{EncodeError, Rule};
use crate::field::output::tuple;
use crate::forward::buffer::{Buffer, SliceBuffer, append};
use crate::forward::ram::{Record, compress_bound};
use crate::forward::{BlockIndex, Event, StreamBlock, write};
use crate::generated::ram as flag;
use crate::name::{BlockName, Name};

/// Maximum size of a compressed page, of the largest page size.
const MAX_COMPRESSED: usize = compress_bound(64 << 10);

impl Event<'_> {
    /// Appends the event to `out`.
    ///
    /// `blocks` are the RAM blocks of the decoder that returned the event, for
    /// the names in RAM records.
    ///
    /// # Errors
    ///
    /// [`Rule::UnknownBlock`] for a block that is not in `blocks`, otherwise as
    /// the functions of [`mod@write`]. An event from a decoder can always be
    /// encoded. After an error, `out` is unchanged.
    pub fn encode(&self, blocks: &[StreamBlock], out: &mut impl Buffer) -> Result<(), EncodeError> {
        match self {
            Event::Header => write::header(out),
            Event::Configuration { machine } => write::configuration(machine, out)?,
            Event::Subsection(subsection) => write::subsection(subsection, out),
            Event::Section { kind, id, identity } => write::section(*kind, *id, *identity, out)?,
            Event::Footer { id } => write::footer(*id, out),
            Event::Command(command) => out.command(command)?,
            Event::PackageEnd => {}
            Event::Record(record) => record.encode(blocks, out)?,
            Event::DeviceState { bytes, .. } | Event::DescriptionBytes(bytes) => {
                append(out, slice(bytes));
            }
            Event::Eof => write::eof(out),
            Event::Description { size } => write::description(*size, out),
        }
        Ok(())
    }

    /// Writes the event to the start of `out` and returns its size.
    ///
    /// # Errors
    ///
    /// As [`Event::encode`], and [`Rule::NoRoom`] when `out` is too small, after
    /// which its contents are unspecified.
    pub fn encode_into(
        &self,
        blocks: &[StreamBlock],
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let mut out = SliceBuffer::new(out);
        self.encode(blocks, &mut out)?;
        out.finish()
            .map_err(|rule| EncodeError::new(self.label(), None, rule))
    }

    /// Writes the event to `out` with one call of `write_all`.
    ///
    /// Does not flush.
    ///
    /// # Errors
    ///
    /// Fails with [`io::ErrorKind::InvalidInput`](std::io::ErrorKind) and an
    /// [`EncodeError`] as in [`Event::encode`] before anything is written, or
    /// with the error of `out`.
    pub fn encode_to(
        &self,
        blocks: &[StreamBlock],
        out: &mut (impl std::io::Write + ?Sized),
    ) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        self.encode(blocks, &mut bytes)?;
        out.write_all(&bytes)
    }
}

impl Record<'_> {
    fn encode(&self, blocks: &[StreamBlock], out: &mut impl Buffer) -> Result<(), EncodeError> {
        let name = |block: BlockIndex, named: bool| match blocks.get(block.index()) {
            _ if !named => Ok(None),
            Some(block) => Ok(Some(block.name.name())),
            None => Err(write::invalid(self.label(), "block")(Rule::UnknownBlock)),
        };
        match *self {
            Record::Zero {
                block,
                offset,
                fill,
                named,
            } => write::filled(offset, name(block, named)?, fill, out)?,
            Record::Page {
                block,
                offset,
                data,
                named,
            } => {
                let header = write::record(offset, flag::PAGE, name(block, named)?)?;
                append(out, tuple((header, slice(data))));
            }
            Record::MemSize { total } => write::mem_size(total, out)?,
            Record::Block {
                name,
                len,
                page_size,
                gpa,
                ..
            } => write::block(name, len, page_size, gpa, out),
            Record::Xbzrle {
                block,
                offset,
                data,
                named,
            } => self.xbzrle(offset, name(block, named)?, data, out)?,
            Record::Compressed {
                block,
                offset,
                data,
                named,
            } => self.compressed(offset, name(block, named)?, data, out)?,
            Record::Hook => write::bare(flag::HOOK, out),
            Record::MultifdFlush => write::bare(flag::MULTIFD_FLUSH, out),
            Record::Eos => write::eos(out),
        }
        Ok(())
    }

    fn xbzrle(
        &self,
        offset: u64,
        name: Option<Name<'_>>,
        data: &[u8],
        out: &mut impl Buffer,
    ) -> Result<(), EncodeError> {
        let Ok(size) = u16::try_from(data.len()) else {
            return Err(self.too_long(data, u16::MAX.into()));
        };
        append(
            out,
            tuple((
                write::record(offset, flag::XBZRLE, name)?,
                be_u8(flag::XBZRLE_ENCODING),
                be_u16(size),
                slice(data),
            )),
        );
        Ok(())
    }

    fn compressed(
        &self,
        offset: u64,
        name: Option<Name<'_>>,
        data: &[u8],
        out: &mut impl Buffer,
    ) -> Result<(), EncodeError> {
        let size = match u32::try_from(data.len()) {
            Ok(size) if data.len() <= MAX_COMPRESSED => size,
            _ => return Err(self.too_long(data, MAX_COMPRESSED)),
        };
        let record = write::record(offset, flag::COMPRESS_PAGE, name)?;
        append(out, tuple((record, be_u32(size), slice(data))));
        Ok(())
    }

    #[cold]
    fn too_long(&self, data: &[u8], limit: usize) -> EncodeError {
        let len = data.len();
        write::invalid(self.label(), "data")(Rule::TooLong { len, limit })
    }
}

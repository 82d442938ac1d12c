//! binrw: derived structs, chosen by a `match` on the number. (Its enums try
//! one variant after the other, and allocate for each that does not fit.)

use std::io::{Cursor, Read, Seek};

use binrw::{BinRead, BinResult, BinWrite, Endian, binrw};
use retpath_codec::{Decoded, Message, Name};

use super::owned;
use crate::contender::{Parse, Parsed, View, Write};
use crate::rivals::decoded;
use retpath_codec_hand::span;

pub(crate) struct Binrw;

#[binrw]
#[brw(big)]
struct Header {
    number: u16,
    len: u16,
}

#[binrw]
#[brw(big)]
#[derive(Debug)]
pub(crate) struct Number {
    value: u32,
}

#[binrw]
#[brw(big)]
#[derive(Debug)]
pub(crate) struct One {
    #[br(assert(value == 1))]
    value: u32,
}

#[binrw]
#[brw(big)]
#[derive(Debug)]
pub(crate) struct Pages {
    start: u64,
    #[br(assert(span(start, len)))]
    len: u32,
}

#[binrw]
#[brw(big)]
#[br(import(len: u16))]
#[derive(Debug)]
pub(crate) struct NamedPages {
    pages: Pages,
    #[br(args(len.wrapping_sub(12)))]
    block: Block,
}

/// A length and a name, which must fill the payload.
#[derive(Debug)]
pub(crate) struct Block(owned::Name);

#[derive(Debug)]
pub(crate) enum Payload {
    Shut(Number),
    Pong(Number),
    ReqPagesId(NamedPages),
    ReqPages(Pages),
    RecvBitmap(Block),
    ResumeAck(One),
    SwitchoverAck,
}

impl BinRead for Block {
    type Args<'a> = (u16,);

    #[inline(always)]
    fn read_options<R: Read + Seek>(
        reader: &mut R,
        endian: Endian,
        (len,): (u16,),
    ) -> BinResult<Self> {
        let size = u8::read_options(reader, endian, ())?;
        if len != 1 + u16::from(size) {
            return Err(refused());
        }
        owned::Name::read(size, reader)?
            .map(Self)
            .ok_or_else(refused)
    }
}

#[cold]
fn refused() -> binrw::Error {
    binrw::Error::AssertFail {
        pos: 0,
        message: String::new(),
    }
}

impl BinWrite for Block {
    type Args<'a> = ();

    #[inline(always)]
    fn write_options<W: std::io::Write + Seek>(
        &self,
        writer: &mut W,
        endian: Endian,
        (): (),
    ) -> BinResult<()> {
        self.0.size().write_options(writer, endian, ())?;
        Ok(writer.write_all(self.0.bytes())?)
    }
}

impl Parse for Binrw {
    const NAME: &'static str = "binrw";
    type Message<'a> = Payload;
    type Error = binrw::Error;

    #[inline(never)]
    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let mut reader = Cursor::new(input);
        match read(&mut reader) {
            Ok(message) => {
                let rest = owned::rest(&reader);
                Ok(decoded(message, rest))
            }
            // binrw does not return how many bytes are missing.
            Err(error) if error.is_eof() => Ok(Decoded::Need(1)),
            Err(error) => Err(error),
        }
    }
}

#[inline(always)]
fn read<R: Read + Seek>(reader: &mut R) -> BinResult<Payload> {
    let Header { number, len } = Header::read(reader)?;
    match (number, len) {
        (1, 4) => Number::read(reader).map(Payload::Shut),
        (2, 4) => Number::read(reader).map(Payload::Pong),
        (3, 14..=268) => NamedPages::read_args(reader, (len,)).map(Payload::ReqPagesId),
        (4, 12) => Pages::read(reader).map(Payload::ReqPages),
        (5, 2..=256) => Block::read_be_args(reader, (len,)).map(Payload::RecvBitmap),
        (6, 4) => One::read(reader).map(Payload::ResumeAck),
        (7, 0) => Ok(Payload::SwitchoverAck),
        _ => Err(refused()),
    }
}

impl Write for Binrw {
    type Refusal = binrw::Error;

    fn request(start: u64, len: u32) -> Payload {
        Payload::ReqPages(Pages { start, len })
    }

    #[inline(never)]
    fn encode(payload: &Payload, out: &mut Vec<u8>) -> BinResult<()> {
        let pages = match payload {
            Payload::ReqPagesId(named) => Some(&named.pages),
            Payload::ReqPages(pages) => Some(pages),
            _ => None,
        };
        if pages.is_some_and(|pages| !span(pages.start, pages.len)) {
            return Err(refused());
        }
        write(payload, &mut owned::appending(out))
    }
}

#[inline(always)]
fn write<W: std::io::Write + Seek>(payload: &Payload, writer: &mut W) -> BinResult<()> {
    let (number, len) = match payload {
        Payload::Shut(_) => (1, 4),
        Payload::Pong(_) => (2, 4),
        Payload::ReqPagesId(named) => (3, 13 + u16::from(named.block.0.size())),
        Payload::ReqPages(_) => (4, 12),
        Payload::RecvBitmap(block) => (5, 1 + u16::from(block.0.size())),
        Payload::ResumeAck(_) => (6, 4),
        Payload::SwitchoverAck => (7, 0),
    };
    Header { number, len }.write(writer)?;
    match payload {
        Payload::Shut(number) | Payload::Pong(number) => number.write(writer),
        Payload::ReqPagesId(named) => named.write(writer),
        Payload::ReqPages(pages) => pages.write(writer),
        Payload::RecvBitmap(block) => block.write_be(writer),
        Payload::ResumeAck(one) => one.write(writer),
        Payload::SwitchoverAck => Ok(()),
    }
}

impl View for Payload {
    fn view(&self) -> Message<Name<'_>> {
        match *self {
            Payload::Shut(Number { value }) => Message::Shut { value },
            Payload::Pong(Number { value }) => Message::Pong { value },
            Payload::ReqPagesId(NamedPages {
                pages: Pages { start, len },
                block: Block(ref name),
            }) => Message::ReqPagesId {
                start,
                len,
                block: name.view(),
            },
            Payload::ReqPages(Pages { start, len }) => Message::ReqPages { start, len },
            Payload::RecvBitmap(Block(ref name)) => Message::RecvBitmap { block: name.view() },
            Payload::ResumeAck(_) => Message::ResumeAck,
            Payload::SwitchoverAck => Message::SwitchoverAck,
        }
    }
}

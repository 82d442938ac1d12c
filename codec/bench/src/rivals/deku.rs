//! deku: one derived enum; the lengths are temporary fields.

use std::io::{Cursor, Read, Seek};

use deku::ctx::Endian;
use deku::prelude::*;
use retpath_codec::{Decoded, Message, Name};

use super::owned;
use crate::contender::{Parse, Parsed, View, Write};
use crate::rivals::decoded;
use retpath_codec_hand::span;

pub(crate) struct Deku;

#[derive(Debug, DekuRead, DekuWrite)]
#[deku(id_type = "u16", endian = "big")]
pub(crate) enum Payload {
    #[deku(id = 1)]
    Shut { size: Four, value: u32 },
    #[deku(id = 2)]
    Pong { size: Four, value: u32 },
    #[deku(id = 3)]
    ReqPagesId {
        #[deku(assert = "*size >= 14")]
        size: u16,
        start: u64,
        #[deku(assert = "span(*start, *len)")]
        len: u32,
        #[deku(ctx = "size.wrapping_sub(12)")]
        block: Block,
    },
    #[deku(id = 4)]
    ReqPages {
        size: Twelve,
        start: u64,
        #[deku(assert = "span(*start, *len)")]
        len: u32,
    },
    #[deku(id = 5)]
    RecvBitmap {
        #[deku(assert = "*size >= 2")]
        size: u16,
        #[deku(ctx = "*size")]
        block: Block,
    },
    #[deku(id = 6)]
    ResumeAck { size: Four, value: One },
    #[deku(id = 7)]
    SwitchoverAck { size: Zero },
}

/// Bytes that have one value.
macro_rules! fixed {
    ($name:ident, $bytes:literal) => {
        #[derive(Debug, DekuRead, DekuWrite)]
        #[deku(magic = $bytes, endian = "endian", ctx = "endian: Endian")]
        pub(crate) struct $name;
    };
}

fixed!(Zero, b"\0\0");
fixed!(Four, b"\0\x04");
fixed!(Twelve, b"\0\x0c");
fixed!(One, b"\0\0\0\x01");

/// A length and a name, which must fill the payload.
#[derive(Debug)]
pub(crate) struct Block(owned::Name);

impl DekuReader<'_, (Endian, u16)> for Block {
    #[inline(always)]
    fn from_reader_with_ctx<R: Read + Seek>(
        reader: &mut Reader<R>,
        (endian, len): (Endian, u16),
    ) -> Result<Self, DekuError> {
        let size = u8::from_reader_with_ctx(reader, endian)?;
        if len != 1 + u16::from(size) {
            return Err(DekuError::IdVariantNotFound);
        }
        match owned::Name::read(size, reader.as_mut()) {
            Ok(name) => name.map(Self).ok_or(DekuError::IdVariantNotFound),
            Err(_) => Err(DekuError::Incomplete(NeedSize::new(8))),
        }
    }
}

impl DekuWriter<(Endian, u16)> for Block {
    #[inline(always)]
    fn to_writer<W: std::io::Write + Seek>(
        &self,
        writer: &mut Writer<W>,
        (endian, _): (Endian, u16),
    ) -> Result<(), DekuError> {
        self.0.size().to_writer(writer, endian)?;
        writer.write_bytes(self.0.bytes())
    }
}

impl Parse for Deku {
    const NAME: &'static str = "deku";
    type Message<'a> = Payload;
    type Error = DekuError;

    #[inline(never)]
    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let mut reader = Reader::new(Cursor::new(input));
        match Payload::from_reader_with_ctx(&mut reader, ()) {
            Ok(message) => {
                let rest = owned::rest(&reader.into_inner());
                Ok(decoded(message, rest))
            }
            // deku returns the size of the field, not how many bytes are available.
            Err(DekuError::Incomplete(_)) => Ok(Decoded::Need(1)),
            Err(error) => Err(error),
        }
    }
}

impl Write for Deku {
    type Refusal = DekuError;

    fn request(start: u64, len: u32) -> Self::Message<'static> {
        Payload::ReqPages {
            size: Twelve,
            start,
            len,
        }
    }

    #[inline(never)]
    fn encode(payload: &Payload, out: &mut Vec<u8>) -> Result<(), DekuError> {
        let before = out.len();
        let mut writer = Writer::new(owned::appending(out));
        let written = payload.to_writer(&mut writer, ());
        if written.is_err() {
            out.truncate(before);
        }
        written
    }
}

impl View for Payload {
    fn view(&self) -> Message<Name<'_>> {
        match *self {
            Payload::Shut { value, .. } => Message::Shut { value },
            Payload::Pong { value, .. } => Message::Pong { value },
            Payload::ReqPagesId {
                start,
                len,
                block: Block(ref name),
                ..
            } => Message::ReqPagesId {
                start,
                len,
                block: name.view(),
            },
            Payload::ReqPages { start, len, .. } => Message::ReqPages { start, len },
            Payload::RecvBitmap {
                block: Block(ref name),
                ..
            } => Message::RecvBitmap { block: name.view() },
            Payload::ResumeAck { .. } => Message::ResumeAck,
            Payload::SwitchoverAck { .. } => Message::SwitchoverAck,
        }
    }
}

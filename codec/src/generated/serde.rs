//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! `Serialize` and `Deserialize` for messages. In human-readable formats the
//! label is the member `message`; in other formats it is an enum variant.

use ::serde::de::{Deserialize, Deserializer, Error};
use ::serde::ser::{Serialize, Serializer};

use super::{qemu, v7, command};
use crate::name::BlockName;
use crate::ranges::{PageSizes, RangeList};
use crate::serde::{Fixed, by_fields};

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "Message")]
enum QemuBinary<N> {
    Shut { value: u32 },
    Pong { value: u32 },
    ReqPagesId { start: u64, len: u32, block: N },
    ReqPages { start: u64, len: u32 },
    RecvBitmap { block: N },
    ResumeAck,
    SwitchoverAck,
}

#[derive(::serde::Deserialize)]
#[serde(rename = "Message", tag = "message", deny_unknown_fields)]
enum QemuReadable<N> {
    #[serde(rename = "SHUT")]
    Shut {
        value: u32,
    },
    #[serde(rename = "PONG")]
    Pong {
        value: u32,
    },
    #[serde(rename = "REQ_PAGES_ID")]
    ReqPagesId {
        start: u64,
        len: u32,
        block: N,
    },
    #[serde(rename = "REQ_PAGES")]
    ReqPages {
        start: u64,
        len: u32,
    },
    #[serde(rename = "RECV_BITMAP")]
    RecvBitmap {
        block: N,
    },
    #[serde(rename = "RESUME_ACK")]
    ResumeAck {
        #[serde(default, rename = "value")]
        _value: Fixed<1>,
    },
    #[serde(rename = "SWITCHOVER_ACK")]
    SwitchoverAck {
    },
}

impl<N: BlockName + Serialize> Serialize for qemu::Message<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return by_fields::<qemu::Qemu, S>(&self.as_borrowed(), to);
        }
        let binary = match self {
            qemu::Message::Shut { value } => QemuBinary::Shut { value: *value },
            qemu::Message::Pong { value } => QemuBinary::Pong { value: *value },
            qemu::Message::ReqPagesId { start, len, block } => QemuBinary::ReqPagesId { start: *start, len: *len, block },
            qemu::Message::ReqPages { start, len } => QemuBinary::ReqPages { start: *start, len: *len },
            qemu::Message::RecvBitmap { block } => QemuBinary::RecvBitmap { block },
            qemu::Message::ResumeAck => QemuBinary::ResumeAck,
            qemu::Message::SwitchoverAck => QemuBinary::SwitchoverAck,
        };
        binary.serialize(to)
    }
}

impl<'de, N: BlockName + Deserialize<'de>> Deserialize<'de> for qemu::Message<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let message = match from.is_human_readable() {
            true => match QemuReadable::<N>::deserialize(from)? {
                QemuReadable::Shut { value } => qemu::Message::Shut { value },
                QemuReadable::Pong { value } => qemu::Message::Pong { value },
                QemuReadable::ReqPagesId { start, len, block } => qemu::Message::ReqPagesId { start, len, block },
                QemuReadable::ReqPages { start, len } => qemu::Message::ReqPages { start, len },
                QemuReadable::RecvBitmap { block } => qemu::Message::RecvBitmap { block },
                QemuReadable::ResumeAck { .. } => qemu::Message::ResumeAck,
                QemuReadable::SwitchoverAck {  } => qemu::Message::SwitchoverAck,
            },
            false => match QemuBinary::<N>::deserialize(from)? {
                QemuBinary::Shut { value } => qemu::Message::Shut { value },
                QemuBinary::Pong { value } => qemu::Message::Pong { value },
                QemuBinary::ReqPagesId { start, len, block } => qemu::Message::ReqPagesId { start, len, block },
                QemuBinary::ReqPages { start, len } => qemu::Message::ReqPages { start, len },
                QemuBinary::RecvBitmap { block } => qemu::Message::RecvBitmap { block },
                QemuBinary::ResumeAck => qemu::Message::ResumeAck,
                QemuBinary::SwitchoverAck => qemu::Message::SwitchoverAck,
            },
        };
        message.check().map_err(D::Error::custom)?;
        Ok(message)
    }
}

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "Message")]
enum V7Binary<N> {
    Shut { value: u32 },
    Pong { value: u32 },
    ReqPages { start: u64, len: u64, block: Option<N> },
}

#[derive(::serde::Deserialize)]
#[serde(rename = "Message", tag = "message", deny_unknown_fields)]
enum V7Readable<N> {
    #[serde(rename = "SHUT")]
    Shut {
        value: u32,
    },
    #[serde(rename = "PONG")]
    Pong {
        value: u32,
    },
    #[serde(rename = "REQ_PAGES")]
    ReqPages {
        start: u64,
        len: u64,
        block: Option<N>,
    },
}

impl<N: BlockName + Serialize> Serialize for v7::Message<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return by_fields::<v7::V7, S>(&self.as_borrowed(), to);
        }
        let binary = match self {
            v7::Message::Shut { value } => V7Binary::Shut { value: *value },
            v7::Message::Pong { value } => V7Binary::Pong { value: *value },
            v7::Message::ReqPages { start, len, block } => V7Binary::ReqPages { start: *start, len: *len, block: block.as_ref() },
        };
        binary.serialize(to)
    }
}

impl<'de, N: BlockName + Deserialize<'de>> Deserialize<'de> for v7::Message<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let message = match from.is_human_readable() {
            true => match V7Readable::<N>::deserialize(from)? {
                V7Readable::Shut { value } => v7::Message::Shut { value },
                V7Readable::Pong { value } => v7::Message::Pong { value },
                V7Readable::ReqPages { start, len, block } => v7::Message::ReqPages { start, len, block },
            },
            false => match V7Binary::<N>::deserialize(from)? {
                V7Binary::Shut { value } => v7::Message::Shut { value },
                V7Binary::Pong { value } => v7::Message::Pong { value },
                V7Binary::ReqPages { start, len, block } => v7::Message::ReqPages { start, len, block },
            },
        };
        message.check().map_err(D::Error::custom)?;
        Ok(message)
    }
}

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "Command")]
enum CommandsBinary<N, R> {
    OpenReturnPath,
    Ping { value: u32 },
    PostcopyAdvise { sizes: Option<PageSizes> },
    PostcopyListen,
    PostcopyRun,
    PostcopyRamDiscard { block: N, ranges: R },
    Packaged { size: u32 },
    EnableColo,
    PostcopyResume,
    RecvBitmap { block: N },
    SwitchoverStart,
}

#[derive(::serde::Deserialize)]
#[serde(rename = "Command", tag = "message", deny_unknown_fields)]
enum CommandsReadable<N, R> {
    #[serde(rename = "OPEN_RETURN_PATH")]
    OpenReturnPath {
    },
    #[serde(rename = "PING")]
    Ping {
        value: u32,
    },
    #[serde(rename = "POSTCOPY_ADVISE")]
    PostcopyAdvise {
        sizes: Option<PageSizes>,
    },
    #[serde(rename = "POSTCOPY_LISTEN")]
    PostcopyListen {
    },
    #[serde(rename = "POSTCOPY_RUN")]
    PostcopyRun {
    },
    #[serde(rename = "POSTCOPY_RAM_DISCARD")]
    PostcopyRamDiscard {
        #[serde(default, rename = "version")]
        _version: Fixed<0>,
        block: N,
        #[serde(default, rename = "terminator")]
        _terminator: Fixed<0>,
        ranges: R,
    },
    #[serde(rename = "PACKAGED")]
    Packaged {
        size: u32,
    },
    #[serde(rename = "ENABLE_COLO")]
    EnableColo {
    },
    #[serde(rename = "POSTCOPY_RESUME")]
    PostcopyResume {
    },
    #[serde(rename = "RECV_BITMAP")]
    RecvBitmap {
        block: N,
    },
    #[serde(rename = "SWITCHOVER_START")]
    SwitchoverStart {
    },
}

impl<N: BlockName + Serialize, R: RangeList + Serialize> Serialize for command::Command<N, R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return by_fields::<command::Commands, S>(&self.as_borrowed(), to);
        }
        let binary = match self {
            command::Command::OpenReturnPath => CommandsBinary::OpenReturnPath,
            command::Command::Ping { value } => CommandsBinary::Ping { value: *value },
            command::Command::PostcopyAdvise { sizes } => CommandsBinary::PostcopyAdvise { sizes: *sizes },
            command::Command::PostcopyListen => CommandsBinary::PostcopyListen,
            command::Command::PostcopyRun => CommandsBinary::PostcopyRun,
            command::Command::PostcopyRamDiscard { block, ranges } => CommandsBinary::PostcopyRamDiscard { block, ranges },
            command::Command::Packaged { size } => CommandsBinary::Packaged { size: *size },
            command::Command::EnableColo => CommandsBinary::EnableColo,
            command::Command::PostcopyResume => CommandsBinary::PostcopyResume,
            command::Command::RecvBitmap { block } => CommandsBinary::RecvBitmap { block },
            command::Command::SwitchoverStart => CommandsBinary::SwitchoverStart,
        };
        binary.serialize(to)
    }
}

impl<'de, N: BlockName + Deserialize<'de>, R: RangeList + Deserialize<'de>> Deserialize<'de> for command::Command<N, R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let message = match from.is_human_readable() {
            true => match CommandsReadable::<N, R>::deserialize(from)? {
                CommandsReadable::OpenReturnPath {  } => command::Command::OpenReturnPath,
                CommandsReadable::Ping { value } => command::Command::Ping { value },
                CommandsReadable::PostcopyAdvise { sizes } => command::Command::PostcopyAdvise { sizes },
                CommandsReadable::PostcopyListen {  } => command::Command::PostcopyListen,
                CommandsReadable::PostcopyRun {  } => command::Command::PostcopyRun,
                CommandsReadable::PostcopyRamDiscard { block, ranges, .. } => command::Command::PostcopyRamDiscard { block, ranges },
                CommandsReadable::Packaged { size } => command::Command::Packaged { size },
                CommandsReadable::EnableColo {  } => command::Command::EnableColo,
                CommandsReadable::PostcopyResume {  } => command::Command::PostcopyResume,
                CommandsReadable::RecvBitmap { block } => command::Command::RecvBitmap { block },
                CommandsReadable::SwitchoverStart {  } => command::Command::SwitchoverStart,
            },
            false => match CommandsBinary::<N, R>::deserialize(from)? {
                CommandsBinary::OpenReturnPath => command::Command::OpenReturnPath,
                CommandsBinary::Ping { value } => command::Command::Ping { value },
                CommandsBinary::PostcopyAdvise { sizes } => command::Command::PostcopyAdvise { sizes },
                CommandsBinary::PostcopyListen => command::Command::PostcopyListen,
                CommandsBinary::PostcopyRun => command::Command::PostcopyRun,
                CommandsBinary::PostcopyRamDiscard { block, ranges } => command::Command::PostcopyRamDiscard { block, ranges },
                CommandsBinary::Packaged { size } => command::Command::Packaged { size },
                CommandsBinary::EnableColo => command::Command::EnableColo,
                CommandsBinary::PostcopyResume => command::Command::PostcopyResume,
                CommandsBinary::RecvBitmap { block } => command::Command::RecvBitmap { block },
                CommandsBinary::SwitchoverStart => command::Command::SwitchoverStart,
            },
        };
        message.check().map_err(D::Error::custom)?;
        Ok(message)
    }
}
